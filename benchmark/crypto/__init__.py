"""Cryptographic protocols of defenses."""
