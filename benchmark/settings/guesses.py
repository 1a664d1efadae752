"""Answers that threats of several settings give."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from benchmark.settings.threat import Guess


@dataclass
class Reconstruction(Guess):
    """Private samples, recovered.

    Attributes:
        x: (victims, batch, ...) in [0, 1], or None when only labels were recovered.
        labels: int64 (victims, batch), or None when labels were not recovered.
        groups: int64 (victims,); order is lost within victims of the same number, so they are matched together.
            None: each victim for itself.
    """

    x: Tensor | None
    labels: Tensor | None = None
    groups: Tensor | None = None


@dataclass
class MembershipScores(Guess):
    """How much each candidate looks like a member.

    Attributes:
        scores: (n,), higher is more like a member.
        threshold: above which the adversary says "member", chosen on shadow data; None: it has no such data.
    """

    scores: Tensor
    threshold: float | None = None
