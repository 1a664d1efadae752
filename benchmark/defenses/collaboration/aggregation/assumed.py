"""Number of malicious uploads that an aggregation rule prepares for."""

from __future__ import annotations

from benchmark.errors import ConfigError
from benchmark.settings.collaboration.defense import Round


def malicious_uploads(name: str, f_assumed: int | None, uploads: int, round: Round, *, each: int, more: int) -> int:
    """Return f, how many of a round's ``uploads`` a rule takes for malicious.

    The rule is proven for n >= ``each`` f + ``more`` uploads. A server does not know how many parties are malicious, so
    without a number it prepares for as many as its rule can stand: the largest such f. Of a given number those that
    were dropped as invalid need not be expected again.

    Args:
        name: of the rule, for messages.
        f_assumed: malicious uploads before any was dropped, or None for the largest f.

    Raises:
        ConfigError: there are too few uploads for ``f_assumed``, or for any.
    """
    if f_assumed is None:
        if uploads < more:
            raise ConfigError(f"{name} needs at least {more} uploads a round, got {uploads}; raise setting.parties.")
        return (uploads - more) // each
    f = max(0, f_assumed - round.invalid)
    if uploads < each * f + more:
        raise ConfigError(
            f"{name} with f_assumed={f} needs at least {each} f + {more} = {each * f + more} uploads a round, got "
            f"{uploads}; lower defense.{name}.f_assumed or raise setting.parties."
        )
    return f
