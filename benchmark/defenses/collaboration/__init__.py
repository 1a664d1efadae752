"""Federated defenses, by who acts: clients, the aggregating server, or another training regime."""
