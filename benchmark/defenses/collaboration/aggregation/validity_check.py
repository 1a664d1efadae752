"""Rejection of uploads that hold NaN or infinity."""

from __future__ import annotations

from torch import Tensor

from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class ValidityCheck(FederatedDefense):
    """Pre-aggregator that drops every upload with a NaN or infinite coordinate; its party contributes nothing in this
    round.

    Any deployed server does this first. Published rules do not mention it, and some of them (the mean, Krum, anything
    with a distance) return NaN when one upload holds one. Stack it with a rule, ``defense=[validity_check,krum]``; the
    rule then assumes so many malicious uploads less among those that are left.
    """

    def preaggregate(self, uploads: Tensor, round: Round) -> Tensor:
        valid = uploads.isfinite().all(dim=1)
        round.invalid += len(valid) - int(valid.sum())
        round.active[round.active.clone()] = valid.to(round.active.device)
        return uploads[valid]
