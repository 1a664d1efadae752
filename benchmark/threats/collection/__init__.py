"""Measures of what a release reveals as a whole."""
