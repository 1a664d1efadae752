"""Ways in which a malicious server turns a secure sum into the update of one party.

Sybils: the server plays all parties but one. Inconsistency: it sends the others a model without a gradient in the
layers that it wants to read (Pasquini, Francati, Ateniese, *Eluding Secure Aggregation in Federated Learning via Model
Inconsistency*, CCS 2022).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.parameters import Count
from benchmark.settings.collaboration.games.broadcast import Answer, BroadcastSurface, BroadcastThreat, Query
from benchmark.training.functional import Net


class MaliciousServer(BroadcastThreat):
    """Base of servers that send malicious models, each once or, to void a secure sum, once for every victim.

    Args:
        voiding: ``none``, ``sybil`` or ``inconsistency``.
        observations: repeated queries that the adaptive form averages.
        adaptive: ask ``observations`` times instead of once.
    """

    family = "gradient_leakage"

    def __init__(
        self, *, voiding: Literal["none", "sybil", "inconsistency"], observations: Count, adaptive: bool
    ) -> None:
        super().__init__(adaptive=adaptive)
        self.voiding = voiding
        self.observations = observations if adaptive else 1

    def malicious_queries(self, net: Net, live: Tensor, dead: Tensor, parties: int) -> list[Query]:
        """Return one malicious model's queries: victims get ``live`` (d,), the others the silencing ``dead`` (d,)."""
        nobody, others = torch.zeros(parties, dtype=torch.bool), ~torch.eye(parties, dtype=torch.bool)
        if self.voiding == "none":
            return [Query(net, live, nobody)]
        if self.voiding == "sybil":
            return [Query(net, live, rest) for rest in others]
        return [Query(net, torch.where(rest[:, None].to(live.device), dead, live), nobody) for rest in others]

    def sums(self, surface: BroadcastSurface) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Yield the members, int64 (m,), of each set of parties whose sum is known, and their sums.

        There is one sum of updates (d,), in units of one local step, for every malicious model.
        """
        parties = surface.answers[0].uploads.shape[1]
        groups = surface.answers[0].groups[0] if self.voiding == "none" else torch.arange(parties)
        runs = 1 if self.voiding == "none" else parties  # queries of one malicious model
        for number in groups.unique().tolist():
            members = (groups == number).nonzero().squeeze(1)
            mine = 0 if self.voiding == "none" else number
            answers = [surface.answers[start + mine] for start in range(0, len(surface.answers), runs)]
            yield members, [sum_of(answer, int(members[0])) / surface.local_steps for answer in answers]


def sum_of(answer: Answer, party: int) -> Float[Tensor, " d"]:
    """Return the sum, averaged over the observations, of the uploads in the group of ``party``."""
    sums = [
        uploads[(groups == groups[party]).to(uploads.device)].sum(dim=0)
        for uploads, groups in zip(answer.uploads, answer.groups, strict=True)
    ]
    return torch.stack(sums).mean(dim=0).float()


def padded(found: Float[Tensor, "m ..."], count: int) -> Float[Tensor, "count ..."]:
    """Return the first ``count`` rows, filled up with zeros: a sample not found counts as a black one."""
    kept = found[:count]
    return torch.cat([kept, kept.new_zeros(count - len(kept), *kept.shape[1:])])
