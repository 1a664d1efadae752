"""Surface of the broadcast: a malicious server sends models of its own choice and reads what the protocol reveals."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from benchmark.data.base import Split
from benchmark.outcome import Outcome
from benchmark.seeds import generator, isolated
from benchmark.settings.base import Artifact, CellContext, Game, note
from benchmark.settings.collaboration.defense import LocalPlan, Round
from benchmark.settings.collaboration.games.uploads import UploadsGame, score_batches
from benchmark.settings.collaboration.published import Published
from benchmark.settings.collaboration.rounds import local_updates, own_part
from benchmark.settings.collaboration.training import JointTraining
from benchmark.settings.collaboration.victims import PrivateBatches
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.threat import Surface, Threat
from benchmark.training.functional import Net
from benchmark.training.tolerance import AMOUNTS, tolerance_curve


@dataclass(frozen=True)
class DownlinkSurface(Surface):
    """View of the server before it sends a model.

    Attributes:
        net, params: the architecture agreed on and the honest global model (d,).
        parties: how many take part in the round.
        shape, num_classes: of one sample and of the task.
        auxiliary: the server's own samples of the same domain (grant ``auxiliary``).
        published: what the defense's users publish (grant ``mechanism``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {"auxiliary": "auxiliary", "published": "mechanism"}

    net: Net
    params: Float[Tensor, " d"]
    parties: int
    shape: tuple[int, ...]
    num_classes: int
    auxiliary: Split
    published: Published


@dataclass(frozen=True)
class Query:
    """Model that the server sends.

    Attributes:
        net: the architecture that the parties run; the server may have changed it.
        params: (d',) the same for everybody, or (n, d') another for each party.
        sybils: bool (n,), parties that the server itself plays; they upload zeros, which it can subtract from any sum.
    """

    net: Net
    params: Float[Tensor, " *each d"]
    sybils: Bool[Tensor, " n"]


@dataclass(frozen=True)
class Answer:
    """Uploads that a query brought.

    Attributes:
        uploads: (observations, n, d').
        groups: int64 (n,) for each observation; a server that runs a secure sum knows that only the sum of the uploads
            with the same number means anything.
    """

    uploads: Float[Tensor, "observations n d"]
    groups: list[Int[Tensor, " n"]]


@dataclass(frozen=True)
class BroadcastSurface(Surface):
    """View of the server after the rounds whose models it chose.

    Attributes:
        queries, answers: what it sent, and what came back for each.
        batch_size, local_steps, lr: what stands behind one upload.
        shape, num_classes: of one sample and of the task.
        auxiliary: the server's own samples (grant ``auxiliary``).
        published: one an observation; what the defense's users publish (grant ``mechanism``).
        labels: int64 (n, batch) (grant ``labels``); truth: (n, batch, ...) the private samples (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        "auxiliary": "auxiliary",
        "published": "mechanism",
        "labels": "labels",
        "truth": "truth",
    }

    queries: list[Query]
    answers: list[Answer]
    batch_size: int
    local_steps: int
    lr: float
    shape: tuple[int, ...]
    num_classes: int
    auxiliary: Split
    published: list[Published]
    labels: Int[Tensor, "n batch"]
    truth: Float[Tensor, " n batch *sample"]


class BroadcastThreat(Threat):
    """Base of servers that choose the model that they send.

    Attributes:
        observations: how often it sends each query to the same private batches.
    """

    setting = "collaboration"
    surface = "broadcast"
    headline = "recovered_share"
    observations: int = 1

    @abstractmethod
    def queries(self, downlink: DownlinkSurface, rng: torch.Generator) -> list[Query]:
        """Return the models to send, at least one."""

    @abstractmethod
    def attack(self, surface: BroadcastSurface, rng: torch.Generator) -> Reconstruction:
        """Return the samples (n, batch, ...) of all parties; those that it does not find are zeros."""


class BroadcastGame(Game[JointTraining]):
    """The threat sends its models to the victims, and reconstructs their batches from the answers."""

    surface = "broadcast"
    hooks = UploadsGame.hooks | {"screen_broadcast"}
    guess = Reconstruction

    def play(self, context: CellContext) -> Outcome:
        threat, victims = context.threat, self.honest.victims
        assert isinstance(threat, BroadcastThreat)
        outcome, trained = self.honest.report(context)
        net, params = victims.global_model(context, trained)
        _tolerance(context, outcome, trained["params"])
        plan = context.defense.local_plan(victims.plan)
        batches = victims.batches(context, plan)
        surface, refused = self.observe(context, net, params, plan, batches)
        guess = self.ask(context, surface)
        note(outcome, guess)
        outcome.diagnostics |= {
            "observations": threat.observations,
            "queries": len(surface.queries),
            "images": batches.labels.numel(),
            "refused_share": refused,
        }
        score_batches(outcome, guess, surface.truth, surface.labels)
        return outcome

    def observe(
        self, context: CellContext, net: Net, params: Tensor, plan: LocalPlan, batches: PrivateBatches
    ) -> tuple[BroadcastSurface, float]:
        """Return what the server sees once it has sent its models, and the share of (party, query) that refused.

        Args:
            net, params: the honest architecture and global model (d,).
            plan: what stands behind one upload, already changed by the defense.
        """
        threat, parties = context.threat, self.honest.victims.count
        assert isinstance(threat, BroadcastThreat)
        downlink = DownlinkSurface(
            net=net,
            params=params,
            parties=parties,
            shape=context.data.shape,
            num_classes=context.data.num_classes,
            auxiliary=context.data.attacker,
            published=_published_before(context, net, params, parties),
        )
        with isolated(context.seed, "broadcast.queries"):
            queries = threat.queries(downlink.restrict(threat.knowledge), context.rng("broadcast.queries"))
        agreed = Query(net, params, torch.zeros(parties, dtype=torch.bool))
        heard = [_ask(context, query, agreed, batches, plan, threat.observations) for query in queries]
        surface = BroadcastSurface(
            queries=queries,
            answers=[answer for answer, _, _ in heard],
            batch_size=plan.batch_size,
            local_steps=plan.local_steps,
            lr=plan.lr,
            shape=context.data.shape,
            num_classes=context.data.num_classes,
            auxiliary=context.data.attacker,
            published=heard[0][1],
            labels=batches.labels,
            truth=batches.truth,
        )
        return surface, sum(refused for _, _, refused in heard) / len(heard)


def _tolerance(context: CellContext, outcome: Outcome, trained: Tensor) -> None:
    """Report how accuracy falls as noise is put on the weights of the ``trained`` model (d,)."""

    def build() -> Artifact:
        test, rng = context.data.test, context.rng("tolerance")
        params = trained.to(context.device)
        return {"curve": torch.tensor(tolerance_curve(Net(context.fresh_model()), params, test.x, test.y, rng))}

    curve = context.cache(("tolerance", "dataset", "model", "setting", "defense", "scale"), build)["curve"].tolist()
    outcome.curves["test_accuracy by weight noise"] = curve
    outcome.diagnostics |= {f"accuracy_at_weight_noise_{a}": value for a, value in zip(AMOUNTS, curve, strict=True)}


def _published_before(context: CellContext, net: Net, params: Tensor, parties: int) -> Published:
    """Return what the defense's users publish before any round."""
    before = Round(-1, net.layout, params, torch.arange(parties), context.rng("leak.protocol.before"))
    before.publish(**context.defense.facts())
    return before.published


def _ask(
    context: CellContext, query: Query, agreed: Query, batches: PrivateBatches, plan: LocalPlan, observations: int
) -> tuple[Answer, list[Published], float]:
    """Send one query ``observations`` times. The parties compute, protect and exchange; Sybils and parties that refuse
    the model upload zeros. In the round before, each of them received the model ``agreed`` on.

    Returns:
        What came back, what was published each time, and the share of refusals.
    """
    defense, parties, layout = context.defense, len(batches.x), query.net.layout
    defense.start(parties, layout)
    before = Round(-1, agreed.net.layout, agreed.params, torch.arange(parties), context.rng("leak.protocol.before"))
    defense.screen_broadcast(agreed.net, agreed.params, before)
    uploads, groups, published, refused = [], [], [], 0.0
    for index in range(observations):
        sent = query.params if query.params.ndim == 1 else query.params[0]
        turn = Round(index, layout, sent, torch.arange(parties), context.rng(f"leak.protocol.{index}"))
        turn.inputs, turn.net, turn.lr = batches.x, query.net, plan.lr
        turn.held = query.params if query.params.ndim == 2 else None
        if len(context.data.calibration) >= parties:
            turn.validation = partial(own_part, context.data.calibration, parties)
        turn.publish(**defense.facts())
        silent = query.sybils | ~defense.screen_broadcast(query.net, query.params, turn)
        refused += (silent & ~query.sybils).double().mean().item() / observations
        protected = defense.protect(_updates(context, query, batches, plan, index), turn)
        protected = torch.where(silent[:, None].to(protected.device), 0.0, protected)
        uploads.append(defense.exchange(protected, turn))
        known = turn.published.groups
        groups.append(torch.arange(parties) if known is None else known)
        published.append(turn.published)
    return Answer(torch.stack(uploads), groups), published, refused


def _updates(context: CellContext, query: Query, batches: PrivateBatches, plan: LocalPlan, index: int) -> Tensor:
    """Return the parties' own updates (n, d') on the model that each of them got."""
    defense, parties = context.defense, len(batches.x)
    rngs = [generator(context.seed, f"leak.party.{i}.{index}") for i in range(parties)]
    if query.params.ndim == 1:
        return local_updates(query.net, defense, query.params, batches.x, batches.y, plan, rngs).detach()
    one_by_one = [
        local_updates(query.net, defense, query.params[i], batches.x[[i]], batches.y[[i]], plan, [rngs[i]])
        for i in range(parties)
    ]
    return torch.cat(one_by_one).detach()
