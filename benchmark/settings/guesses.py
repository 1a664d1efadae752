"""Guesses that threats of several surfaces return."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from benchmark.settings.threat import Guess


@dataclass
class Reconstruction(Guess):
    """Recovered private samples.

    Attributes:
        x: (victims, batch, ...) in [0, 1], or None when only labels were recovered.
        labels: int64 (victims, batch), or None when labels were not recovered.
        groups: int64 (victims,); order is lost within victims of the same number, so they are matched together.
            None: each victim for itself.
    """

    x: Float[Tensor, " victims batch *sample"] | None
    labels: Int[Tensor, "victims batch"] | None = None
    groups: Int[Tensor, " victims"] | None = None


@dataclass
class MembershipScores(Guess):
    """Membership score of each candidate.

    Attributes:
        scores: (n,), higher is more like a member.
        threshold: above which a candidate is taken for a member, chosen on shadow data; None without such data.
    """

    scores: Float[Tensor, " n"]
    threshold: float | None = None
