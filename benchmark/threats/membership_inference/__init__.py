"""Who was in the private data? Attacks on released data."""
