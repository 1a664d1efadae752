"""Composition, planning, launching and recording of cells; no metric is calculated here."""

__version__ = "0.2.0"
