"""Shared training code: the training loop, models as functions of a flat vector, privacy accounting."""
