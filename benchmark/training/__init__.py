"""Shared training machinery: the one training loop, models as functions of a flat vector, privacy accounting."""
