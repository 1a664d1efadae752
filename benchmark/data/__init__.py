"""Datasets: one loader per file; all give float images in [0, 1], held in memory."""
