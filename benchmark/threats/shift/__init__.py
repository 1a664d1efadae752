"""Shifts of the inputs that a deployed classifier receives."""
