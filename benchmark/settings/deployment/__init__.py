"""The deployment setting: a trained classifier meets inputs from the world."""
