"""The service setting: a user runs a provider's model and reveals its outputs."""
