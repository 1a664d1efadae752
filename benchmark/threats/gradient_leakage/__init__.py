"""Attacks that recover samples or their attributes from gradients and model updates."""
