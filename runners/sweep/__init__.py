"""Sweeps: plan, execution, workers and tracking."""
