"""Adversaries who alter a deployed classifier's inputs."""
