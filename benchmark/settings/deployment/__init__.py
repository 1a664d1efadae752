"""The deployment setting: a trained classifier meets inputs that may be altered or shifted."""
