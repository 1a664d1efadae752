"""The scene of a malicious server: it sends models of its own choice and reads what the parties' protocol lets out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.metrics.reconstruction import score_reconstruction
from benchmark.outcome import Outcome
from benchmark.seeds import generator, isolated
from benchmark.settings.base import CellContext
from benchmark.settings.collaboration.defense import LocalPlan, Round
from benchmark.settings.collaboration.published import Published
from benchmark.settings.collaboration.rounds import local_updates, own_part
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.threat import Surface, Threat
from benchmark.training.functional import Net


@dataclass(frozen=True)
class DownlinkSurface(Surface):
    """What the server knows before it sends a model.

    Attributes:
        net, params: the architecture agreed on and the honest global model (d,).
        parties: how many take part in the round.
        shape, num_classes: of one sample and of the task.
        auxiliary: the server's own samples of the same domain (grant ``auxiliary``).
        published: what the defense's users publish (grant ``mechanism``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {"auxiliary": "auxiliary", "published": "mechanism"}

    net: Net
    params: Tensor
    parties: int
    shape: tuple[int, ...]
    num_classes: int
    auxiliary: Split
    published: Published


@dataclass(frozen=True)
class Query:
    """One model sent out.

    Attributes:
        net: the architecture that the parties run; the server may have changed it.
        params: (d',) the same for everybody, or (n, d') another for each party.
        sybils: bool (n,), parties that the server itself plays; they upload zeros, which it can subtract from any sum.
    """

    net: Net
    params: Tensor
    sybils: Tensor


@dataclass(frozen=True)
class Answer:
    """What came back for a query.

    Attributes:
        uploads: (observations, n, d').
        groups: int64 (n,) for each observation; a server that runs a secure sum knows that only the sum of the uploads
            with the same number means anything.
    """

    uploads: Tensor
    groups: list[Tensor]


@dataclass(frozen=True)
class BroadcastSurface(Surface):
    """What the server sees of a round whose models it chose.

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
    labels: Tensor
    truth: Tensor


class BroadcastThreat(Threat):
    """A server that chooses the model that it sends.

    Attributes:
        observations: how often it sends each query to the same private batches.
    """

    setting = "collaboration"
    surface = "broadcast"
    headline = "recovered_share"
    observations: int = 1

    @abstractmethod
    def queries(self, downlink: DownlinkSurface, rng: torch.Generator) -> list[Query]:
        """The models to send, at least one."""

    @abstractmethod
    def attack(self, surface: BroadcastSurface, rng: torch.Generator) -> Reconstruction:
        """The samples (n, batch, ...) of all parties; those that it does not find are zeros."""


@dataclass(frozen=True)
class Batches:
    """The private samples behind the uploads.

    Attributes:
        truth: (n, batch, ...) as they are; labels: int64 (n, batch).
        x: (n, steps, batch, ...) what local steps read once the defense has changed it; y: (n, steps, batch, ...).
    """

    truth: Tensor
    labels: Tensor
    x: Tensor
    y: Tensor


def play(context: CellContext, outcome: Outcome, net: Net, params: Tensor, *, parties: int, plan: LocalPlan) -> Outcome:
    """Let the threat send its models to ``parties`` parties and score what it makes of their answers.

    Args:
        outcome: with utility and cost; gets risk, diagnostics and a picture.
        net, params: the honest architecture and global model (d,).
        plan: what stands behind one upload, already changed by the defense.
    """
    threat = context.threat
    assert isinstance(threat, BroadcastThreat)
    batches = _batches(context, parties, plan)
    downlink = DownlinkSurface(
        net=net,
        params=params,
        parties=parties,
        shape=context.data.shape,
        num_classes=context.data.num_classes,
        auxiliary=context.data.attacker,
        published=_told(context, net, params, parties),
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
    guess = threat(surface, seed=context.seed)
    scores, matched = score_reconstruction(guess.x, guess.labels, batches.truth, batches.labels, guess.groups)
    outcome.score(scores)
    outcome.diagnostics.update(guess.diagnostics)
    outcome.diagnostics |= {
        "attack_seconds": guess.seconds,
        "observations": threat.observations,
        "queries": len(queries),
        "images": batches.labels.numel(),
        "refused_share": sum(refused for _, _, refused in heard) / len(heard),
    }
    if matched is not None and len(context.data.shape) == 3:
        outcome.picture(
            "reconstruction", {"original": batches.truth.flatten(0, 1), "reconstructed": matched.flatten(0, 1)}
        )
    return outcome


def _told(context: CellContext, net: Net, params: Tensor, parties: int) -> Published:
    """What the defense's users publish before any round."""
    before = Round(-1, net.layout, params, torch.arange(parties), context.rng("leak.protocol.before"))
    before.publish(**context.defense.facts())
    return before.published


def _batches(context: CellContext, parties: int, plan: LocalPlan) -> Batches:
    """Each party's private batch; the same samples as on the surface ``uploads``."""
    owner, count = context.data.owner, parties * plan.batch_size
    if count > len(owner):
        raise ConfigError(
            f"{parties} victims with {plan.batch_size} samples each need {count} private samples, but the owner split "
            f"holds {len(owner)}; lower setting.victims or raise dataset.sizes.owner."
        )
    private = owner[torch.randperm(len(owner), generator=context.rng("victims"))[:count]]
    rows = torch.arange(count).view(parties, -1)
    sent = [context.defense.local_data(private[rows[i]], context.rng(f"victims.data.{i}")) for i in range(parties)]
    x, y = torch.stack([s.x for s in sent]), torch.stack([s.y for s in sent])
    return Batches(
        truth=private.x.view(parties, plan.batch_size, *context.data.shape),
        labels=private.y.view(parties, plan.batch_size),
        x=x.unsqueeze(1).expand(-1, plan.local_steps, *x.shape[1:]),
        y=y.unsqueeze(1).expand(-1, plan.local_steps, *y.shape[1:]),
    )


def _ask(
    context: CellContext, query: Query, agreed: Query, batches: Batches, plan: LocalPlan, observations: int
) -> tuple[Answer, list[Published], float]:
    """Send one query ``observations`` times. The parties compute, protect and exchange; Sybils and parties that refuse
    the model put in zeros. Each of them took the model ``agreed`` on in the round before.

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


def _updates(context: CellContext, query: Query, batches: Batches, plan: LocalPlan, index: int) -> Tensor:
    """(n, d') the parties' own updates on the model that each of them got."""
    defense, parties = context.defense, len(batches.x)
    rngs = [generator(context.seed, f"leak.party.{i}.{index}") for i in range(parties)]
    if query.params.ndim == 1:
        return local_updates(query.net, defense, query.params, batches.x, batches.y, plan, rngs).detach()
    one_by_one = [
        local_updates(query.net, defense, query.params[i], batches.x[[i]], batches.y[[i]], plan, [rngs[i]])
        for i in range(parties)
    ]
    return torch.cat(one_by_one).detach()
