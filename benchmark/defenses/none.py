"""No defense: every hook is that of the base, so the honest side behaves as without protection."""

from benchmark.settings.stack import UniversalDefense

VERSION = 1


class NoDefense(UniversalDefense):
    """Baseline with which all defenses are compared."""
