"""Surface of contributions: malicious parties choose what they hand out in each round of a collaboration.

The game, and the malicious parties themselves, are also those of the surface ``training_data``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmark.data.base import Split
from benchmark.metrics.classification import accuracy, attack_success
from benchmark.outcome import Outcome
from benchmark.parameters import BelowOne
from benchmark.seeds import derive, generator
from benchmark.settings.base import CellContext, Game
from benchmark.settings.collaboration.defense import Federation, Round
from benchmark.settings.collaboration.ensembles import report_votes
from benchmark.settings.collaboration.published import Published
from benchmark.settings.collaboration.rounds import receive
from benchmark.settings.collaboration.training import JointTraining
from benchmark.settings.threat import Guess, Surface, Threat
from benchmark.training.ensemble import VotingEnsemble
from benchmark.training.functional import Layout
from benchmark.training.loop import predict


@dataclass(frozen=True)
class MaliciousClientView(Surface):
    """View of one malicious party that prepares its data, before the collaboration begins.

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
    """View of the malicious parties in one round.

    Attributes:
        round: its index; params: (d,) the global model; layout: how it is cut.
        parties: how many take part in the whole collaboration.
        own: (m, d) the updates that they would upload if they trained as agreed on the data that they prepared.
        honest: (n - m, d) the others' updates; others: int64 (n - m,), whose they are (grant ``updates``: an omniscient
            adversary).
        server: ``server(mine (m, d), others (n - m, d))`` rehearses what the server would make of these updates, the
            direction (d,), without any effect (grant ``mechanism``). It starts from the server's present state, which
            is more than a real adversary knows.
        last: (d,) the global model's last step, in gradient units; None in the first round.
    """

    granted_by: ClassVar[Mapping[str, str]] = {"honest": "updates", "others": "updates", "server": "mechanism"}

    round: int
    params: Float[Tensor, " d"]
    layout: Layout
    parties: int
    own: Float[Tensor, "m d"]
    honest: Float[Tensor, "others d"]
    server: Callable[[Tensor, Tensor], Tensor]
    last: Float[Tensor, " d"] | None = None
    others: Int[Tensor, " _"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))


@dataclass
class Contribution(Guess):
    """Updates that malicious parties hand out in place of their own, one row each."""

    updates: Float[Tensor, "m d"]


class ContributionThreat(Threat):
    """Base of threats by malicious parties.

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

    def __init__(self, *, fraction: BelowOne = 0.2, follows_exchange: bool = True, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.fraction = fraction
        self.follows_exchange = follows_exchange

    def goal(self, test: Split, clean: Float[Tensor, "n classes"]) -> Split | None:
        """Return the inputs that should be misclassified, with ``y`` as the adversary wants it; None: just do harm.

        It defines how success is measured, so it may look at what a party could not.

        Args:
            test: the test samples; clean: (n, classes), their logits under the model trained without an attack.
        """
        return None

    def poison_data(self, data: Split, party: MaliciousClientView, rng: torch.Generator) -> Split:
        """Return what a malicious party trains on in place of its own samples."""
        return data

    def poison_validation(self, data: Split, party: MaliciousClientView, rng: torch.Generator) -> Split:
        """Return what a malicious party hands over where models are validated on common samples, in place of ``data``.

        Args:
            data: samples of the share that the party prepared.
        """
        return data

    def recruit(self, shares: Sequence[Split], order: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Return the parties in the order in which the adversary takes them over.

        Args:
            shares: every party's samples; order: a random order.
        """
        return order


@dataclass(frozen=True)
class MaliciousClients:
    """The malicious parties of one cell.

    Attributes:
        context: of the cell; its defense is what the threat may rehearse against.
        threat: that decides for them.
        members: int64 (m,), their identities.
        parties: how many parties there are in all.
        goal: the inputs that the threat wants misclassified, or None.
    """

    context: CellContext
    threat: ContributionThreat
    members: Int[Tensor, " m"]
    parties: int
    goal: Split | None

    @property
    def unmixed(self) -> Tensor | None:
        """Return the parties that upload what they handed to partners, whatever the exchange made of it."""
        return None if self.threat.follows_exchange else self.members

    def poisoned(self, shares: Sequence[Split]) -> list[Split]:
        """Return every party's samples, those of members as the threat prepares them."""
        shares = list(shares)
        for party in self.members.tolist():
            rng = self.context.rng(f"poison.data.{party}")
            shares[party] = self.threat.poison_data(shares[party], self._view_of(party), rng)
        return shares

    def validation(self, party: int, samples: Split) -> Split:
        """Return what ``party`` hands over as its validation samples; ``samples`` are of the share that it prepared."""
        if party not in self.members.tolist():
            return samples
        rng = self.context.rng(f"poison.validation.{party}")
        return self.threat.poison_validation(samples, self._view_of(party), rng)

    def _view_of(self, party: int) -> MaliciousClientView:
        """Return what this malicious party knows."""
        index = self.members.tolist().index(party)
        published = replace(Published(), **self.context.defense.facts())
        known = MaliciousClientView(index, len(self.members), self.context.data.num_classes, self.goal, published)
        return known.restrict(self.threat.knowledge)

    def statistics(self, run: Federation, trust: Tensor | None) -> dict[str, float]:
        """Return counts of malicious and honest parties, and the server's trust in them.

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

    def deviate(self, turn: Round, updates: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return the updates with the rows of members replaced by those of the threat."""
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
            others=turn.parties[~bad],
            server=server,
            last=turn.last,
        )
        handed_out = updates.clone()
        handed_out[bad] = self.threat(view, seed=derive(self.context.seed, f"poison.{turn.index}")).updates
        return handed_out

    def _rehearse(self, turn: Round, handed_out: Tensor) -> Tensor:
        """Return the direction that the server would take, from copies of all state and other protocol randomness."""
        again = replace(
            turn,
            rng=generator(self.context.seed, f"poison.rehearsal.{turn.index}"),
            published=Published(),
            active=torch.ones(len(turn.parties), dtype=torch.bool),
        )
        return receive(copy.deepcopy(self.context.defense), handed_out, again, self.unmixed)


class ContributionsGame(Game[JointTraining]):
    """Training with malicious parties against the same training without: accuracy lost, and inputs misclassified."""

    surface = "contributions"
    hooks = frozenset({"local_step", "protect", "select", "exchange", "preaggregate", "aggregate"})
    guess = Contribution

    def __init__(self, honest: JointTraining) -> None:
        super().__init__(replace(honest, stateful=True))

    def play(self, context: CellContext) -> Outcome:
        threat, test, training = context.threat, context.data.test, self.honest
        assert isinstance(threat, ContributionThreat)
        outcome, trained = training.report(context)
        honest = Federation(trained["params"], trained["local_models"], scores=trained.get("scores", torch.zeros(0)))
        clean = training.predictor(context, honest)
        goal = threat.goal(test, predict(clean, test.x))
        shares = training.shares(context)
        order = threat.recruit(shares, torch.randperm(training.parties, generator=context.rng("malicious")))
        recruited = order[: round(threat.fraction * training.parties)]
        malicious = MaliciousClients(context, threat, recruited, training.parties, goal)
        run = training.train(
            context,
            malicious.poisoned(shares),
            validation=malicious.validation,
            deviate=malicious.deviate,
            unmixed=malicious.unmixed,
        )
        attacked = training.predictor(context, run)
        reached = accuracy(predict(attacked, test.x), test.y)
        outcome.utility["attacked_accuracy"] = reached
        outcome.risk["accuracy_drop"] = outcome.utility["test_accuracy"] - reached
        if goal is not None:
            target = attacked
            if isinstance(attacked, VotingEnsemble) and threat.fixed_vote is not None:
                target = attacked.with_fixed(malicious.members, threat.fixed_vote)
            outcome.risk["attack_success"] = attack_success(predict(target, goal.x), goal.y)
            outcome.diagnostics["attack_success_without_attack"] = attack_success(predict(clean, goal.x), goal.y)
        if run.curve:
            outcome.curves["test_accuracy by round, attacked"] = run.curve
        outcome.diagnostics.update(malicious.statistics(run, context.defense.trust()))
        if isinstance(clean, VotingEnsemble) and isinstance(attacked, VotingEnsemble):
            report_votes(outcome, test, goal, clean, attacked, malicious.members)
        return outcome
