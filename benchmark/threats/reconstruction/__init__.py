"""Attacks that reconstruct samples from a released data set or from the outputs of a model."""
