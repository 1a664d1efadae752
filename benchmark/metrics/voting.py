"""What can be said for sure about a vote of models some of which are poisoned."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def tally(ballots: Tensor, counted: Tensor, classes: int) -> Tensor:
    """Votes int64 (n, classes) of ballots int64 (owners, n), from the owners marked in ``counted``, bool (owners,)."""
    return F.one_hot(ballots[counted], classes).sum(dim=0)


def certified(ballots: Tensor, counted: Tensor, movable: Tensor, classes: int, poisoned: int) -> Tensor:
    """bool (n,): the vote on this input stays what it is whichever ``poisoned`` owners are replaced by anything.

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


def worst_votes(ballots: Tensor, counted: Tensor, poisoned: Tensor, y: Tensor, classes: int) -> Tensor:
    """bool (n,): the vote is right even if the models of ``poisoned`` owners all vote for its strongest competitor.

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
    """Accuracy, in [0, 1], that the vote exceeds *if* clean models erred independently with accuracy ``single`` each.

    The vote fails only if at least owners/2 - poisoned of the owners - poisoned clean models err (SafeNet's bound,
    re-derived, with the exact binomial tail). Errors of models on one task are correlated: it is no guarantee.
    """
    from scipy.stats import binom

    needed = -(-owners // 2) - poisoned  # errors that may already spoil the vote
    return float(1 - binom.sf(needed - 1, owners - poisoned, 1 - single))
