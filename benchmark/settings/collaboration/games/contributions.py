"""The malicious side of a collaboration: who belongs to it, what they train on and what they hand out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.seeds import derive, generator
from benchmark.settings.base import CellContext
from benchmark.settings.collaboration.defense import Round
from benchmark.settings.collaboration.published import Published
from benchmark.settings.collaboration.rounds import Federation, receive
from benchmark.settings.threat import Guess, Surface, Threat
from benchmark.training.functional import Layout


@dataclass(frozen=True)
class MaliciousClientView(Surface):
    """What one malicious party knows when it prepares its data, before the collaboration begins.

    Attributes:
        index: its number among the malicious parties, 0, 1, ...; count: how many they are.
        num_classes: of the task.
        goal: the inputs that the threat wants misclassified, labelled as it wants them (grant ``targets``).
        published: what the defense's users publish (grant ``mechanism``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {"goal": "targets", "published": "mechanism"}

    index: int
    count: int
    num_classes: int
    goal: Split | None
    published: Published = field(default_factory=Published)


@dataclass(frozen=True)
class ContributionSurface(Surface):
    """What malicious participants see in one round.

    Attributes:
        round: its index; params: (d,) the global model; layout: how it is cut.
        parties: how many take part in the whole collaboration.
        own: (m, d) the updates that they would upload if they trained as agreed on the data that they prepared.
        honest: (n - m, d) the others' updates (grant ``updates``: an omniscient adversary).
        server: ``server(mine (m, d), others (n - m, d))`` rehearses what the server would make of these updates, the
            direction (d,), without any effect (grant ``mechanism``). It starts from the server's present state, which
            is more than a real adversary knows.
        last: (d,) the global model's last step, in gradient units; None in the first round.
    """

    granted_by: ClassVar[Mapping[str, str]] = {"honest": "updates", "server": "mechanism"}

    round: int
    params: Tensor
    layout: Layout
    parties: int
    own: Tensor
    honest: Tensor
    server: Callable[[Tensor, Tensor], Tensor]
    last: Tensor | None = None


@dataclass
class Contribution(Guess):
    """``updates`` (m, d): what malicious parties hand out in place of their own."""

    updates: Tensor


class ContributionThreat(Threat):
    """Malicious participants.

    Args:
        fraction: share of the parties that are malicious, in [0, 1).
        follows_exchange: whether they take part honestly in what a protocol does between parties; if not, they hand
            their bad update to partners and upload it unmixed as well.

    Attributes:
        fixed_vote: where models vote, the label that the malicious parties' models say to every input of the goal,
            though on others they behave well; None: they say what they learnt.
    """

    setting = "collaboration"
    surface = "contributions"
    headline = "accuracy_drop"
    fixed_vote: int | None = None

    def __init__(self, *, fraction: float = 0.2, follows_exchange: bool = True, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        if not 0 <= fraction < 1:
            raise ConfigError(f"threat.fraction must be in [0, 1), got {fraction}.")
        self.fraction = fraction
        self.follows_exchange = follows_exchange

    def goal(self, test: Split, clean: Tensor) -> Split | None:
        """The inputs that should be misclassified, with ``y`` as the adversary wants it; None: just do harm.

        It defines how success is measured, so it may look at what a party could not.

        Args:
            test: the test samples; clean: (n, classes), their logits under the model trained without an attack.
        """
        return None

    def poison_data(self, data: Split, party: MaliciousClientView, rng: torch.Generator) -> Split:
        """What a malicious party trains on in place of its own samples."""
        return data

    def poison_validation(self, data: Split, party: MaliciousClientView, rng: torch.Generator) -> Split:
        """What a malicious party hands over where models are validated on common samples, in place of ``data``: samples
        of the share that it prepared."""
        return data

    def recruit(self, shares: Sequence[Split], order: Tensor) -> Tensor:
        """The parties in the order in which the adversary takes them over, int64 (n,).

        Args:
            shares: every party's samples; order: a random order.
        """
        return order


@dataclass(frozen=True)
class MaliciousClients:
    """The malicious parties of one cell.

    Attributes:
        context: of the cell; its defense is what the threat may rehearse against.
        threat: the mind behind them.
        members: int64 (m,), their identities.
        parties: how many parties there are in all.
        goal: the inputs that the threat wants misclassified, or None.
    """

    context: CellContext
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
            rng = self.context.rng(f"poison.data.{party}")
            shares[party] = self.threat.poison_data(shares[party], self._view_of(party), rng)
        return shares

    def validation(self, party: int, samples: Split) -> Split:
        """What ``party`` hands over as its validation samples; ``samples`` are of the share that it prepared."""
        if party not in self.members.tolist():
            return samples
        rng = self.context.rng(f"poison.validation.{party}")
        return self.threat.poison_validation(samples, self._view_of(party), rng)

    def _view_of(self, party: int) -> MaliciousClientView:
        """What this malicious party knows."""
        index = self.members.tolist().index(party)
        published = replace(Published(), **self.context.defense.facts())
        known = MaliciousClientView(index, len(self.members), self.context.data.num_classes, self.goal, published)
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
        handed_out[bad] = self.threat(view, seed=derive(self.context.seed, f"poison.{turn.index}")).updates
        return handed_out

    def _rehearse(self, turn: Round, handed_out: Tensor) -> Tensor:
        """What the server would make of ``handed_out``, on copies of all state and with other protocol randomness."""
        again = replace(
            turn,
            rng=generator(self.context.seed, f"poison.rehearsal.{turn.index}"),
            published=Published(),
            active=torch.ones(len(turn.parties), dtype=torch.bool),
        )
        return receive(copy.deepcopy(self.context.defense), handed_out, again, self.unmixed)
