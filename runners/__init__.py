"""The machine room: composes cells, plans sweeps, launches, records. It never computes a metric."""

__version__ = "0.1.0"
