"""Robust aggregation rules and filters of the server."""
