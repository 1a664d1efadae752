"""The malicious side of a collaboration: who belongs to it, what they train on and what they hand out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.defenses.base import Published, Round
from benchmark.seeds import derive, generator
from benchmark.settings.base import Stage
from benchmark.settings.collaboration_surfaces import Accomplice, ContributionSurface, ContributionThreat
from benchmark.training.federated import Federation, receive


@dataclass(frozen=True)
class Malice:
    """The malicious parties of one cell.

    Attributes:
        stage: of the cell; its defense is what the threat may rehearse against.
        threat: the mind behind them.
        members: int64 (m,), their identities.
        parties: how many parties there are in all.
        goal: the inputs that the threat wants misclassified, or None.
    """

    stage: Stage
    threat: ContributionThreat
    members: Tensor
    parties: int
    goal: Split | None

    @property
    def unmixed(self) -> Tensor | None:
        """Parties that upload what they handed to partners, whatever the exchange made of it."""
        return None if self.threat.follows_exchange else self.members

    def poisoned(self, shares: Sequence[Split]) -> list[Split]:
        """Every party's samples, those of members as the threat prepares them."""
        shares = list(shares)
        for party in self.members.tolist():
            rng = self.stage.rng(f"poison.data.{party}")
            shares[party] = self.threat.poison_data(shares[party], self._accomplice(party), rng)
        return shares

    def validation(self, party: int, samples: Split) -> Split:
        """What ``party`` hands over as its validation samples; ``samples`` are of the share that it prepared."""
        if party not in self.members.tolist():
            return samples
        rng = self.stage.rng(f"poison.validation.{party}")
        return self.threat.poison_validation(samples, self._accomplice(party), rng)

    def _accomplice(self, party: int) -> Accomplice:
        """What this malicious party knows."""
        index = self.members.tolist().index(party)
        published = replace(Published(), **self.stage.defense.facts())
        known = Accomplice(index, len(self.members), self.stage.data.num_classes, self.goal, published)
        return known.restrict(self.threat.knowledge)

    def watched(self, run: Federation, trust: Tensor | None) -> dict[str, float]:
        """How the malicious and the honest parties fared: counts, and what the server came to think of them.

        ``trust_gap`` is the honest parties' mean trust less the malicious ones'; ``silent_honest_parties`` contributed
        nothing in the last quarter of the rounds.
        """
        bad = torch.zeros(self.parties, dtype=torch.bool)
        bad[self.members] = True
        told = {"malicious_parties": float(bad.sum())}
        if len(run.contributed):  # there were rounds
            told["malicious_share_of_uploads"] = float(run.contributed[bad].sum() / run.contributed.sum().clamp_min(1))
            told["silent_honest_parties"] = float((run.late[~bad] == 0).sum())
        if trust is not None and bad.any():
            told["trust_gap"] = float(trust[~bad].mean() - trust[bad].mean())
        return told

    def deviate(self, turn: Round, updates: Tensor) -> Tensor:
        """(n, d) -> (n, d) with the rows of members replaced by what the threat makes of them."""
        bad = torch.isin(turn.parties, self.members)
        if not bad.any():
            return updates

        def server(mine: Tensor, others: Tensor) -> Tensor:
            handed_out = torch.empty_like(updates)
            handed_out[bad], handed_out[~bad] = mine, others
            return self._rehearse(turn, handed_out)

        view = ContributionSurface(
            round=turn.index,
            params=turn.params,
            layout=turn.layout,
            parties=self.parties,
            own=updates[bad],
            honest=updates[~bad],
            server=server,
            last=turn.last,
        )
        handed_out = updates.clone()
        handed_out[bad] = self.threat(view, seed=derive(self.stage.seed, f"poison.{turn.index}")).updates
        return handed_out

    def _rehearse(self, turn: Round, handed_out: Tensor) -> Tensor:
        """What the server would make of ``handed_out``, on copies of all state and with other protocol randomness."""
        again = replace(
            turn,
            rng=generator(self.stage.seed, f"poison.rehearsal.{turn.index}"),
            published=Published(),
            active=torch.ones(len(turn.parties), dtype=torch.bool),
        )
        return receive(copy.deepcopy(self.stage.defense), handed_out, again, self.unmixed)
