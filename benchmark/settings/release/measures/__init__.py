"""Utility protocols of a release."""
