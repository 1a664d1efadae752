"""Attacks by a participant who learns from the global models about classes that only others hold."""
