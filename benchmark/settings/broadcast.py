"""The scene of a malicious server: it sends models of its own choice and reads what the parties' protocol lets out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmark.defenses.base import LocalPlan, Published, Round
from benchmark.errors import ConfigError
from benchmark.metrics.reconstruction import score_reconstruction
from benchmark.outcome import Outcome
from benchmark.seeds import generator, isolated
from benchmark.settings.base import Stage
from benchmark.settings.broadcast_surfaces import Answer, BroadcastSurface, BroadcastThreat, DownlinkSurface, Query
from benchmark.training.federated import local_updates, own_part
from benchmark.training.functional import Net


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


def play(stage: Stage, outcome: Outcome, net: Net, params: Tensor, *, parties: int, plan: LocalPlan) -> Outcome:
    """Let the threat send its models to ``parties`` parties and score what it makes of their answers.

    Args:
        outcome: with utility and cost; gets risk, diagnostics and a picture.
        net, params: the honest architecture and global model (d,).
        plan: what stands behind one upload, already changed by the defense.
    """
    threat = stage.threat
    assert isinstance(threat, BroadcastThreat)
    batches = _batches(stage, parties, plan)
    downlink = DownlinkSurface(
        net=net,
        params=params,
        parties=parties,
        shape=stage.data.shape,
        num_classes=stage.data.num_classes,
        auxiliary=stage.data.attacker,
        published=_told(stage, net, params, parties),
    )
    with isolated(stage.seed, "broadcast.queries"):
        queries = threat.queries(downlink.restrict(threat.knowledge), stage.rng("broadcast.queries"))
    agreed = Query(net, params, torch.zeros(parties, dtype=torch.bool))
    heard = [_ask(stage, query, agreed, batches, plan, threat.observations) for query in queries]
    surface = BroadcastSurface(
        queries=queries,
        answers=[answer for answer, _, _ in heard],
        batch_size=plan.batch_size,
        local_steps=plan.local_steps,
        lr=plan.lr,
        shape=stage.data.shape,
        num_classes=stage.data.num_classes,
        auxiliary=stage.data.attacker,
        published=heard[0][1],
        labels=batches.labels,
        truth=batches.truth,
    )
    guess = threat(surface, seed=stage.seed)
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
    if matched is not None and len(stage.data.shape) == 3:
        outcome.picture(
            "reconstruction", {"original": batches.truth.flatten(0, 1), "reconstructed": matched.flatten(0, 1)}
        )
    return outcome


def _told(stage: Stage, net: Net, params: Tensor, parties: int) -> Published:
    """What the defense's users publish before any round."""
    before = Round(-1, net.layout, params, torch.arange(parties), stage.rng("leak.protocol.before"))
    before.publish(**stage.defense.facts())
    return before.published


def _batches(stage: Stage, parties: int, plan: LocalPlan) -> Batches:
    """Each party's private batch; the same samples as on the surface ``uploads``."""
    owner, count = stage.data.owner, parties * plan.batch_size
    if count > len(owner):
        raise ConfigError(
            f"{parties} victims with {plan.batch_size} samples each need {count} private samples, but the owner split "
            f"holds {len(owner)}; lower setting.victims or raise dataset.sizes.owner."
        )
    private = owner[torch.randperm(len(owner), generator=stage.rng("victims"))[:count]]
    rows = torch.arange(count).view(parties, -1)
    sent = [stage.defense.local_data(private[rows[i]], stage.rng(f"victims.data.{i}")) for i in range(parties)]
    x, y = torch.stack([s.x for s in sent]), torch.stack([s.y for s in sent])
    return Batches(
        truth=private.x.view(parties, plan.batch_size, *stage.data.shape),
        labels=private.y.view(parties, plan.batch_size),
        x=x.unsqueeze(1).expand(-1, plan.local_steps, *x.shape[1:]),
        y=y.unsqueeze(1).expand(-1, plan.local_steps, *y.shape[1:]),
    )


def _ask(
    stage: Stage, query: Query, agreed: Query, batches: Batches, plan: LocalPlan, observations: int
) -> tuple[Answer, list[Published], float]:
    """Send one query ``observations`` times. The parties compute, protect and exchange; Sybils and parties that refuse
    the model put in zeros. Each of them took the model ``agreed`` on in the round before.

    Returns:
        What came back, what was published each time, and the share of refusals.
    """
    defense, parties, layout = stage.defense, len(batches.x), query.net.layout
    defense.start(parties, layout)
    before = Round(-1, agreed.net.layout, agreed.params, torch.arange(parties), stage.rng("leak.protocol.before"))
    defense.screen_broadcast(agreed.net, agreed.params, before)
    uploads, groups, published, refused = [], [], [], 0.0
    for index in range(observations):
        sent = query.params if query.params.ndim == 1 else query.params[0]
        turn = Round(index, layout, sent, torch.arange(parties), stage.rng(f"leak.protocol.{index}"))
        turn.inputs, turn.net, turn.lr = batches.x, query.net, plan.lr
        turn.held = query.params if query.params.ndim == 2 else None
        if len(stage.data.calibration) >= parties:
            turn.validation = partial(own_part, stage.data.calibration, parties)
        turn.publish(**defense.facts())
        silent = query.sybils | ~defense.screen_broadcast(query.net, query.params, turn)
        refused += (silent & ~query.sybils).double().mean().item() / observations
        protected = defense.protect(_updates(stage, query, batches, plan, index), turn)
        protected = torch.where(silent[:, None].to(protected.device), 0.0, protected)
        uploads.append(defense.exchange(protected, turn))
        known = turn.published.groups
        groups.append(torch.arange(parties) if known is None else known)
        published.append(turn.published)
    return Answer(torch.stack(uploads), groups), published, refused


def _updates(stage: Stage, query: Query, batches: Batches, plan: LocalPlan, index: int) -> Tensor:
    """(n, d') the parties' own updates on the model that each of them got."""
    defense, parties = stage.defense, len(batches.x)
    rngs = [generator(stage.seed, f"leak.party.{i}.{index}") for i in range(parties)]
    if query.params.ndim == 1:
        return local_updates(query.net, defense, query.params, batches.x, batches.y, plan, rngs).detach()
    one_by_one = [
        local_updates(query.net, defense, query.params[i], batches.x[[i]], batches.y[[i]], plan, [rngs[i]])
        for i in range(parties)
    ]
    return torch.cat(one_by_one).detach()
