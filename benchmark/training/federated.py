"""Rounds of a collaboration: select, broadcast, local steps, protect, exchange, aggregate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.defenses.base import Defense, LocalPlan, LocalStep, Round
from benchmark.errors import ConfigError
from benchmark.seeds import generator
from benchmark.training.functional import Net

BYTES_PER_FLOAT = 4

Deviate = Callable[[Round, Tensor], Tensor]
"""``deviate(round, updates (n, d)) -> (n, d)``: what malicious parties put in place of their own rows."""


def honest(round: Round, updates: Tensor) -> Tensor:
    """Nobody deviates."""
    return updates


def local_updates(
    net: Net, defense: Defense, params: Tensor, x: Tensor, y: Tensor, lr: float, rngs: Sequence[torch.Generator]
) -> Tensor:
    """Local SGD of n parties from the same model.

    Args:
        params: (d,) the global model.
        x: (n, steps, batch, ...), y: (n, steps, batch): the batch of each party's each local step.
        rngs: one generator a party, for defenses that randomise local steps.

    Returns:
        (n, d) updates in gradient units, (params before - params after) / lr: the sum of the local gradients.
    """
    if defense.overrides("local_step"):
        return torch.stack([_one_party(net, defense, params, *party, lr) for party in zip(x, y, rngs, strict=True)])
    total = net.gradients(params, x[:, 0], y[:, 0])
    for step in range(1, x.shape[1]):
        total = total + net.gradients(params - lr * total, x[:, step], y[:, step])
    return total


def _one_party(
    net: Net, defense: Defense, params: Tensor, x: Tensor, y: Tensor, rng: torch.Generator, lr: float
) -> Tensor:
    total = torch.zeros_like(params)
    for batch, labels in zip(x, y, strict=True):
        total = total + defense.local_step(LocalStep(net, params - lr * total, batch, labels, rng))
    return total


def deal(data: Split, parties: int, rng: torch.Generator) -> list[Split]:
    """Deal samples to ``parties`` equal shares at random (IID).

    Raises:
        ConfigError: fewer samples than parties.
    """
    share = len(data) // parties
    if share == 0:
        raise ConfigError(f"{len(data)} samples cannot be dealt to {parties} parties; lower setting.parties.")
    order = torch.randperm(len(data), generator=rng)
    return [data[order[i * share : (i + 1) * share]] for i in range(parties)]


@dataclass
class Federation:
    """A finished collaboration.

    Attributes:
        params: (d,) the last global model.
        local_models: (parties, d), the last model that each party trained itself.
        bytes_sent, messages: all traffic, up and down.
        seconds: wall time of the rounds.
        curve: whatever ``watch`` said after each round.
    """

    params: Tensor
    local_models: Tensor
    bytes_sent: float = 0.0
    messages: int = 0
    seconds: float = 0.0
    curve: list[float] = field(default_factory=list)


def federate(
    net: Net,
    shares: Sequence[Split],
    defense: Defense,
    *,
    plan: LocalPlan,
    rounds: int,
    fraction: float,
    seed: int,
    deviate: Deviate = honest,
    follows_exchange: bool = True,
    watch: Callable[[Tensor], float] | None = None,
) -> Federation:
    """Train together for ``rounds`` rounds.

    Args:
        shares: each party's own samples (equally many).
        plan: the setting's plan, before the defense changes it.
        fraction: share of the parties that the server samples each round, in (0, 1].
        deviate: replaces rows of the updates by what malicious parties hand out.
        follows_exchange: False lets deviating parties upload their own row however the exchange turned out.
        watch: called with the global model after each round.
    """
    params = net.initial().to(shares[0].x.device)
    plan = defense.local_plan(plan)
    result = Federation(params, params.repeat(len(shares), 1))
    defense.start(len(shares), net.layout)
    sampled = max(1, round(fraction * len(shares)))
    started = time.perf_counter()
    for index in range(rounds):
        sampling = generator(seed, f"federated.clients.{index}")
        candidates = torch.randperm(len(shares), generator=sampling)[:sampled].sort().values
        turn = Round(index, net.layout, params, candidates, generator(seed, f"federated.protocol.{index}"))
        turn.publish(**defense.facts())
        turn.parties = defense.select(candidates, turn)
        turn.active = torch.ones(len(turn.parties), dtype=torch.bool)
        x, y = _batches(shares, turn.parties, plan, seed, index)
        rngs = [generator(seed, f"federated.party.{party}.{index}") for party in turn.parties.tolist()]
        updates = local_updates(net, defense, params, x, y, plan.lr, rngs)
        result.local_models[turn.parties] = params - plan.lr * updates
        updates = defense.protect(updates, turn)
        handed_out = deviate(turn, updates)
        uploads = defense.exchange(handed_out, turn)
        if not follows_exchange:
            cheats = (handed_out != updates).any(dim=1)
            uploads = torch.where(cheats[:, None], handed_out, uploads)
        params = params - plan.lr * defense.aggregate(uploads[turn.active], turn)
        result.params = params
        result.bytes_sent += turn.bytes_sent + 2 * len(turn.parties) * params.numel() * BYTES_PER_FLOAT
        result.messages += turn.messages + 2 * len(turn.parties)
        if watch:
            result.curve.append(watch(params))
    result.seconds = time.perf_counter() - started
    return result


def _batches(shares: Sequence[Split], parties: Tensor, plan: LocalPlan, seed: int, index: int) -> tuple[Tensor, Tensor]:
    """Batches (n, steps, batch, ...) and labels, each drawn without replacement from the party's share."""
    size = min(plan.batch_size, len(shares[0]))
    xs, ys = [], []
    for party in parties.tolist():
        rng = generator(seed, f"federated.batch.{party}.{index}")
        share = shares[party]
        rows = torch.stack([torch.randperm(len(share), generator=rng)[:size] for _ in range(plan.local_steps)])
        xs.append(share.x[rows])
        ys.append(share.y[rows])
    return torch.stack(xs), torch.stack(ys)
