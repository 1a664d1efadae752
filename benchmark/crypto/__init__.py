"""Cryptographic protocols that defenses run."""
