"""The science of Gauntlet: datasets, settings, defenses, threats and metrics, usable from a notebook.

Nothing in this package knows of Hydra, files of results, sweeps or printing; that is ``runners``' business.
"""
