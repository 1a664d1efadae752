"""Whose is a released row? Attacks on released data."""
