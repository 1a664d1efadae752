"""The release setting: an owner publishes data derived from private data."""
