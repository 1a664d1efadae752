"""No defense: every hook is the base's, so the honest side does what it would do anyway."""

from benchmark.defenses.base import Defense

VERSION = 1


class NoDefense(Defense):
    """The row that every other row is compared with."""
