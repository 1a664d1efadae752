"""No defense: every hook is the base's, so the honest side does what it would do anyway."""

from benchmark.settings.stack import UniversalDefense

VERSION = 1


class NoDefense(UniversalDefense):
    """The row that every other row is compared with."""
