"""Adversaries who alter the inputs of a deployed classifier."""
