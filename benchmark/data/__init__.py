"""Datasets: one loader per file, held in memory; images are floats in [0, 1]."""
