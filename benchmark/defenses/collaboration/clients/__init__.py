"""Defenses that the clients apply to data, local steps and uploads."""
