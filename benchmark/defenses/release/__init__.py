"""Release mechanisms: what an owner publishes in place of private data."""
