"""Release mechanisms: data published in place of private data."""
