"""Attacks that attribute released rows to persons."""
