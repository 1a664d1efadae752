"""Defenses of a deployed classifier: robust training, screens and shift detectors."""
