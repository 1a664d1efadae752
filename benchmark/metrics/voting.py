"""Certificates of a vote of models, some of which are poisoned."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F


def tally(ballots: Int[Tensor, "owners n"], counted: Bool[Tensor, " owners"], classes: int) -> Int[Tensor, "n classes"]:
    """Return the votes for each class in ``ballots`` of the owners marked in ``counted``."""
    return F.one_hot(ballots[counted], classes).sum(dim=0)


def certified(
    ballots: Int[Tensor, "owners n"],
    counted: Bool[Tensor, " owners"],
    movable: Bool[Tensor, " owners"],
    classes: int,
    poisoned: int,
) -> Bool[Tensor, " n"]:
    """Return for which inputs the vote stays the same whichever ``poisoned`` owners are replaced by anything.

    Each of them takes a vote from the winner and gives one to another class, so that a lead of more than twice as many
    is safe; with a lead of exactly that the smaller label wins (as in Levine & Feizi, *Deep Partition Aggregation*,
    ICLR 2021). Owners whom the filter may be brought to judge otherwise are counted against the winner.

    Args:
        ballots: int64 (owners, n), of models none of which is poisoned yet.
        counted: bool (owners,), whose votes count.
        movable: bool (owners,), for whom poisoned validation samples may turn that over.
    """
    votes = tally(ballots, counted, classes)
    winner = votes.argmax(dim=1, keepdim=True)
    least = tally(ballots, counted & ~movable, classes).gather(1, winner) - poisoned
    most = tally(ballots, counted | movable, classes) + poisoned
    labels = torch.arange(classes, device=ballots.device)[None]
    safe = (least > most) | ((least == most) & (winner < labels))
    return safe.scatter(1, winner, True).all(dim=1)


def worst_votes(
    ballots: Int[Tensor, "owners n"],
    counted: Bool[Tensor, " owners"],
    poisoned: Int[Tensor, " t"],
    y: Int[Tensor, " n"],
    classes: int,
) -> Bool[Tensor, " n"]:
    """Return for which inputs the vote is right even if all ``poisoned`` owners vote for the strongest competitor.

    Args:
        ballots: int64 (owners, n); counted: bool (owners,), of the others; poisoned: int64 (t,), owners whose votes
            count in any case.
        y: int64 (n,), the right labels.
    """
    honest = counted.clone()
    honest[poisoned] = False
    votes = tally(ballots, honest, classes)
    own = votes.gather(1, y[:, None])
    labels = torch.arange(classes, device=ballots.device)[None]
    rival = votes + len(poisoned)
    beaten = (rival > own) | ((rival == own) & (labels < y[:, None]))
    return ~beaten.scatter(1, y[:, None], False).any(dim=1)


def independent_accuracy(owners: int, poisoned: int, single: float) -> float:
    """Return the accuracy that the vote exceeds *if* clean models of accuracy ``single`` erred independently.

    The vote fails only if at least owners/2 - poisoned of the owners - poisoned clean models err (SafeNet's bound,
    re-derived, with the exact binomial tail). Errors of models on one task are correlated: it is no guarantee.
    """
    from scipy.stats import binom

    needed = -(-owners // 2) - poisoned  # errors that may already spoil the vote
    return float(1 - binom.sf(needed - 1, owners - poisoned, 1 - single))
