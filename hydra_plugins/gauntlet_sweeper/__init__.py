"""Namespace package in which Hydra looks for sweepers; the work is done in :mod:`runners.sweep.sweep`."""
