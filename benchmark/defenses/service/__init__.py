"""Defenses of users who query a provider's model."""
