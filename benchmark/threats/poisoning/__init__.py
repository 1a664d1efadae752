"""Malicious participants who spoil or steer a collaboration."""
