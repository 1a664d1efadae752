"""Threats: a folder per family, an adversary per file. The base class is :class:`benchmark.settings.threat.Threat`."""
