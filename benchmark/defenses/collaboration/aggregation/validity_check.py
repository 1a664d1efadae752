"""The server throws away uploads that are no numbers."""

from __future__ import annotations

from torch import Tensor

from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class ValidityCheck(FederatedDefense):
    """Drops every upload with a NaN or infinite coordinate; its party contributes nothing in this round.

    What any deployed server does first. Published rules are silent about it and some of them (the plain mean, Krum,
    anything with a distance) give NaN back when one upload holds one. A pre-aggregator: stack it with a rule,
    ``defense=[validity_check,krum]``.
    """

    def preaggregate(self, uploads: Tensor, round: Round) -> Tensor:
        valid = uploads.isfinite().all(dim=1)
        round.active[round.active.clone()] = valid.to(round.active.device)
        return uploads[valid]
