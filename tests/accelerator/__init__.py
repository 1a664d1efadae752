"""Tests on a pretended CUDA device: its rules, the cells of the catalogue, planted faults and budgets."""
