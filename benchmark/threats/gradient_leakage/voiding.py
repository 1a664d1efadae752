"""How a malicious server turns a secure sum into the update of one party.

Sybils: the server plays all parties but one. Inconsistency: it sends the others a model with no gradient in the layers
that it wants to read (Pasquini, Francati, Ateniese, *Eluding Secure Aggregation in Federated Learning via Model
Inconsistency*, CCS 2022).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmark.errors import ConfigError, positive
from benchmark.settings.collaboration.games.broadcast import Answer, BroadcastSurface, BroadcastThreat, Query
from benchmark.training.functional import Net

VOIDINGS = ("none", "sybil", "inconsistency")


class MaliciousServer(BroadcastThreat):
    """A server that sends one or several baits, each of them once or, to void a secure sum, once for every victim.

    Args:
        voiding: ``none``, ``sybil`` or ``inconsistency``.
        observations: repeated queries that the adaptive form averages.
        adaptive: asks ``observations`` times instead of once.
    """

    family = "gradient_leakage"

    def __init__(self, *, voiding: str, observations: int, adaptive: bool) -> None:
        super().__init__(adaptive=adaptive)
        if voiding not in VOIDINGS:
            raise ConfigError(f"threat.voiding must be one of {', '.join(VOIDINGS)}, got {voiding!r}.")
        positive("threat.observations", observations)
        self.voiding = voiding
        self.observations = observations if adaptive else 1

    def bait(self, net: Net, live: Tensor, dead: Tensor, parties: int) -> list[Query]:
        """One bait's queries: ``live`` (d,) is what victims get, ``dead`` (d,) what silences the others."""
        nobody, others = torch.zeros(parties, dtype=torch.bool), ~torch.eye(parties, dtype=torch.bool)
        if self.voiding == "none":
            return [Query(net, live, nobody)]
        if self.voiding == "sybil":
            return [Query(net, live, rest) for rest in others]
        return [Query(net, torch.where(rest[:, None].to(live.device), dead, live), nobody) for rest in others]

    def sums(self, surface: BroadcastSurface) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """For each set of parties whose updates can be told from the rest: its members, int64 (m,), and for every bait
        the sum of their updates (d,), in units of one local step."""
        parties = surface.answers[0].uploads.shape[1]
        groups = surface.answers[0].groups[0] if self.voiding == "none" else torch.arange(parties)
        runs = 1 if self.voiding == "none" else parties  # queries of one bait
        for number in groups.unique().tolist():
            members = (groups == number).nonzero().squeeze(1)
            mine = 0 if self.voiding == "none" else number
            answers = [surface.answers[start + mine] for start in range(0, len(surface.answers), runs)]
            yield members, [sum_of(answer, int(members[0])) / surface.local_steps for answer in answers]


def sum_of(answer: Answer, party: int) -> Tensor:
    """The sum (d,), averaged over the observations, of the uploads that ``party``'s belongs to."""
    sums = [
        uploads[(groups == groups[party]).to(uploads.device)].sum(dim=0)
        for uploads, groups in zip(answer.uploads, answer.groups, strict=True)
    ]
    return torch.stack(sums).mean(dim=0).float()


def padded(found: Tensor, count: int) -> Tensor:
    """The first ``count`` rows of (m, ...), filled up with zeros: a sample that was not found counts as a black one."""
    kept = found[:count]
    return torch.cat([kept, kept.new_zeros(count - len(kept), *kept.shape[1:])])
