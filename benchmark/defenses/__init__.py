"""Defenses, one per file, sorted by the setting that they act in."""
