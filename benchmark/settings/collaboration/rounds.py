"""Rounds of a collaboration: select, broadcast, local steps, protect, exchange, preaggregate, aggregate."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from benchmark import clock
from benchmark.data.base import Split
from benchmark.rendezvous import meet
from benchmark.seeds import child, generator, isolated
from benchmark.settings.collaboration.defense import FederatedDefense, Federation, LocalPlan, LocalStep, Round
from benchmark.training.client_gradients import client_gradients
from benchmark.training.functional import Net
from benchmark.training.side_by_side import structure
from benchmark.training.stateful import StatefulNet

BYTES_PER_FLOAT = 4
ADAM_BETAS, ADAM_EPS = (0.9, 0.999), 1e-8  # as in torch.optim.Adam

Deviate = Callable[[Round, Tensor], Tensor]
"""``deviate(round, updates (n, d)) -> (n, d)``: what malicious parties put in place of their own rows."""

Overhear = Callable[[Round, Tensor], None]
"""``overhear(round, uploads (n, d))``: called with what the server receives."""

Visit = Callable[[Round, Sequence[Split]], Sequence[Split]]
"""``visit(round, shares) -> shares``: called when the round's parties hold the global model; what all train on now."""


def honest(round: Round, updates: Tensor) -> Tensor:
    """Return ``updates``: nobody deviates."""
    return updates


def unmoved(round: Round, shares: Sequence[Split]) -> Sequence[Split]:
    """Return ``shares``: all parties train on their own samples."""
    return shares


def unheard(round: Round, uploads: Tensor) -> None:
    """Do nothing: nobody listens."""


def local_updates(
    net: Net,
    defense: FederatedDefense,
    params: Float[Tensor, " *each d"],
    x: Float[Tensor, "n steps batch ..."],
    y: Shaped[Tensor, " n steps batch *classes"],
    plan: LocalPlan,
    rngs: Sequence[torch.Generator],
) -> Float[Tensor, "n d"]:
    """Return the updates of n parties after local SGD.

    Args:
        params: (d,) the global model, or (n, d) what each party starts from.
        x: (n, steps, batch, ...), y: (n, steps, batch): the batch of each party's each local step.
        plan: for its learning rate, momentum, weight decay and optimiser.
        rngs: one generator a party, for defenses that randomise local steps.

    Returns:
        (n, d) updates in gradient units, (params before - params after) / lr: by SGD without momentum and weight decay
        the sum of the local gradients.
    """
    alone = zip(params.expand(len(x), -1), x, y, rngs, strict=True)
    if isinstance(net, StatefulNet):
        return torch.stack([_with_state(net, *party, plan) for party in alone])
    if defense.overrides("local_step"):
        return torch.stack([_one_party(net, defense, *party, plan) for party in alone])
    return meet(_LocalWork(net, params, x, y, plan), _moved, _moved_together)


@dataclass(frozen=True)
class _LocalWork:
    """Local steps of parties of one or several collaborations, as the arguments of :func:`local_updates`."""

    net: Net
    params: Tensor
    x: Tensor
    y: Tensor
    plan: LocalPlan

    def kind(self) -> Hashable:
        buffers = any(True for _ in self.net.module.buffers())  # which one collaboration may have other than another
        architecture = None if buffers else structure(self.net.module)
        samples = [(part.shape[1:], part.dtype, part.device) for part in (self.x, self.y)]
        return architecture and (architecture, *samples, self.plan)


def _moved(work: _LocalWork) -> Tensor:
    """Return the updates (n, d) of :func:`local_updates`."""
    x, y = work.x, work.y
    if len(x) == 1:  # the vectorised form of one party costs more than twice as much
        return _alone(work.net, work.params.reshape(-1), x[0], y[0], work.plan)[None]
    gradients = client_gradients(work.net, x[:, 0])
    return _descend(lambda here, step: gradients(here, x[:, step], y[:, step]), work.params, x.shape[1], work.plan)


def _moved_together(works: Sequence[_LocalWork]) -> Sequence[Tensor]:
    """Return the updates of each of several works of one kind: all their parties move side by side."""
    params = torch.cat([work.params.expand(len(work.x), -1) for work in works])
    x, y = torch.cat([work.x for work in works]), torch.cat([work.y for work in works])
    updates = _moved(_LocalWork(works[0].net, params, x, y, works[0].plan))
    return updates.split([len(work.x) for work in works])


def _alone(net: Net, params: Tensor, x: Tensor, y: Tensor, plan: LocalPlan) -> Tensor:
    """Return the update (d,) of one party, as :func:`local_updates` without a defense's own step."""

    def gradient(here: Tensor, step: int) -> Tensor:
        here = here.detach().requires_grad_()
        return torch.autograd.grad(net.loss(here, x[step], y[step]), here)[0]

    return _descend(gradient, params, len(x), plan)


def _one_party(
    net: Net, defense: FederatedDefense, params: Tensor, x: Tensor, y: Tensor, rng: torch.Generator, plan: LocalPlan
) -> Tensor:
    def gradient(here: Tensor, step: int) -> Tensor:
        return defense.local_step(LocalStep(net, here, x[step], y[step], rng))

    return _descend(gradient, params, len(x), plan)


def _with_state(
    net: StatefulNet, params: Tensor, x: Tensor, y: Tensor, rng: torch.Generator, plan: LocalPlan
) -> Tensor:
    def slope(here: Tensor, step: int) -> Tensor:
        return net.slope(here, x[step], y[step])

    with isolated(child(rng), "layers"):
        return _descend(slope, params, len(x), plan, net.carried)


def _descend(
    gradient: Callable[[Tensor, int], Tensor], params: Tensor, steps: int, plan: LocalPlan, carried: int = 0
) -> Tensor:
    """Return the sum of all steps from ``params``, (n, d) or (d,), by ``gradient(here, step)`` at each step's start.

    The first ``carried`` coordinates are running statistics, which move by their slope whatever the optimiser.
    """
    here = params
    moved = mean = square = torch.zeros_like(params)
    for step in range(steps):
        slope = plain = gradient(here, step)
        if plan.weight_decay:
            slope = slope + plan.weight_decay * here
        if plan.optimizer == "adam":
            first, second = ADAM_BETAS
            mean, square = first * mean + (1 - first) * slope, second * square + (1 - second) * slope.square()
            unbiased = mean / (1 - first ** (step + 1)), square / (1 - second ** (step + 1))
            move = unbiased[0] / (unbiased[1].sqrt() + ADAM_EPS)
        else:
            mean = move = plan.momentum * mean + slope if plan.momentum else slope
        if carried:
            move = torch.cat([plain[:carried] / plan.lr, move[carried:]])
        moved = moved + move
        here = params - plan.lr * moved
    return moved


def federate(
    net: Net,
    shares: Sequence[Split],
    defense: FederatedDefense,
    *,
    plan: LocalPlan,
    rounds: int,
    fraction: float,
    seed: int,
    order: str = "fedavg",
    visit: Visit = unmoved,
    deviate: Deviate = honest,
    overhear: Overhear = unheard,
    unmixed: Tensor | None = None,
    root: Split | None = None,
    watch: Callable[[Tensor], Tensor] | None = None,
    averaged: int = 1,
) -> Federation:
    """Train together for ``rounds`` rounds.

    Args:
        shares: each party's own samples.
        plan: the setting's plan, before the defense changes it.
        fraction: share of the parties that the server samples each round, in (0, 1].
        order: ``fedavg``: the sampled parties of a round train side by side. ``roundrobin``: in each round all parties
            take turns, from the last to the first, each on what the one before left (``fraction`` plays no part);
            every turn has a :class:`Round` of its own, so there are ``rounds`` times parties of them.
        visit: sees the model that a round's parties download and may change what they train on in this round.
        deviate: replaces rows of the updates by what malicious parties hand out.
        overhear: is told what the server receives.
        unmixed: parties that upload their own row however the exchange turned out.
        root: samples that nobody trains on: the server's own, for defenses that want a trusted update, or the parties'
            validation samples, for those that want to know what they may do to an update.
        watch: returns a number () for the global model after each round; they are read after the last one.
        averaged: the result is the mean of the global models of this many last turns.
    """
    params = net.initial().to(shares[0].x.device)
    plan = defense.local_plan(plan)
    result = Federation(params, params.repeat(len(shares), 1))
    result.contributed, result.late = torch.zeros(2, len(shares), dtype=torch.int64)
    defense.start(len(shares), net.layout)
    turns = rounds if order == "fedavg" else rounds * len(shares)
    last: Tensor | None = None
    curve: list[Tensor] = []
    ending: list[Tensor] = []
    started = clock.now()
    for index in range(turns):
        candidates = _candidates(order, len(shares), fraction, seed, index)
        turn = Round(index, net.layout, params, candidates, generator(seed, f"federated.protocol.{index}"))
        if root is not None and len(root):
            turn.server_update = partial(_server_update, net, root, params, plan, seed, index)
        turn.net, turn.lr, turn.last = net, plan.lr, last
        if root is not None and len(root) >= len(shares):
            turn.validation = partial(own_part, root, len(shares))
        turn.publish(**defense.facts())
        turn.parties = defense.select(candidates, turn)
        if defense.overrides("download"):
            turn.held = defense.download(params, result.local_models[turn.parties], turn)
        holding = visit(turn, shares)
        present = torch.tensor([len(holding[party]) > 0 for party in turn.parties.tolist()])
        if defense.overrides("screen_broadcast"):
            present &= defense.screen_broadcast(net, params, turn)
        _seat(turn, present)
        if len(turn.parties):  # else nobody whose turn it is has anything to learn from
            x, y = _batches(holding, turn.parties, plan, seed, index)
            turn.inputs = x
            start = params if turn.held is None else turn.held
            rngs = [generator(seed, f"federated.party.{party}.{index}") for party in turn.parties.tolist()]
            updates = local_updates(net, defense, start, x, y, plan, rngs)
            result.local_models[turn.parties.to(params.device, non_blocking=True)] = start - plan.lr * updates
            updates = defense.protect(updates, turn)
            last = receive(defense, deviate(turn, updates), turn, unmixed, overhear)
            params = params - plan.lr * last
        if index >= turns - averaged:
            ending.append(params)
        there = turn.parties[turn.active]
        result.contributed[there] += 1
        result.late[there] += index >= turns - turns // 4
        result.bytes_sent += turn.bytes_sent + 2 * len(turn.parties) * params.numel() * BYTES_PER_FLOAT
        result.messages += turn.messages + 2 * len(turn.parties)
        if watch and (index + 1) % (turns // rounds) == 0:
            curve.append(watch(params))
    result.params = torch.stack(ending).mean(dim=0)
    result.curve = torch.stack(curve).tolist() if curve else []
    result.seconds = clock.now() - started
    return result


def _seat(turn: Round, present: Tensor) -> None:
    """Keep in ``turn`` only the parties that are ``present``, bool (n,)."""
    turn.parties = turn.parties[present]
    turn.held = None if turn.held is None else turn.held[present]
    turn.active = torch.ones(len(turn.parties), dtype=torch.bool)


def own_part(samples: Split, parties: int, party: int) -> Split:
    """Return the part of ``samples`` that is ``party``'s: every ``parties``-th of them."""
    return samples[party::parties]


def _candidates(order: str, parties: int, fraction: float, seed: int, index: int) -> Tensor:
    """Return the parties that the server asks in round ``index``, int64 (n,), sorted."""
    if order == "roundrobin":
        return torch.tensor([parties - 1 - index % parties])
    sampled = max(1, round(fraction * parties))
    sampling = generator(seed, f"federated.clients.{index}")
    return torch.randperm(parties, generator=sampling)[:sampled].sort().values


def receive(
    defense: FederatedDefense,
    handed_out: Float[Tensor, "n d"],
    turn: Round,
    unmixed: Int[Tensor, " m"] | None = None,
    overhear: Overhear = unheard,
) -> Float[Tensor, " d"]:
    """Return the direction that results from what the parties hand out: exchange, upload, preaggregate, aggregate."""
    uploads = defense.exchange(handed_out, turn)
    if unmixed is not None:
        cheats = torch.isin(turn.parties, unmixed).to(uploads.device)
        uploads = torch.where(cheats[:, None], handed_out, uploads)
    overhear(turn, uploads)
    if not turn.active.any():  # e.g. nobody found a partner: the round changes nothing
        return torch.zeros_like(turn.params)
    arrived = uploads[turn.active.nonzero().squeeze(1).to(uploads.device, non_blocking=True)]
    arrived = defense.preaggregate(arrived, turn)
    return defense.aggregate(arrived, turn) if len(arrived) else torch.zeros_like(turn.params)


def _server_update(net: Net, root: Split, params: Tensor, plan: LocalPlan, seed: int, index: int) -> Tensor:
    """Return the update (d,) of an honest party that holds the server's root data."""
    rng = generator(seed, f"federated.batch.server.{index}")
    rows = _rows(len(root), min(plan.batch_size, len(root)), plan.local_steps, rng).to(root.y.device, non_blocking=True)
    x, y = root.x[rows], root.y[rows]
    return local_updates(net, FederatedDefense(), params, x[None], y[None], plan, [rng])[0].detach()


def _batches(shares: Sequence[Split], parties: Tensor, plan: LocalPlan, seed: int, index: int) -> tuple[Tensor, Tensor]:
    """Return batches (n, steps, batch, ...) and labels; the smallest of the parties' shares limits their size."""
    size = min(plan.batch_size, *(len(shares[party]) for party in parties.tolist()))
    present = [shares[party] for party in parties.tolist()]
    rngs = [generator(seed, f"federated.batch.{party}.{index}") for party in parties.tolist()]
    drawn = [_rows(len(share), size, plan.local_steps, rng) for share, rng in zip(present, rngs, strict=True)]
    # One copy for all parties: an index that comes from the CPU makes the host wait for a GPU.
    rows = torch.stack(drawn).to(present[0].y.device, non_blocking=True)
    return (
        torch.stack([share.x[own] for share, own in zip(present, rows, strict=True)]),
        torch.stack([share.y[own] for share, own in zip(present, rows, strict=True)]),
    )


def _rows(count: int, size: int, steps: int, rng: torch.Generator) -> Tensor:
    """Return row numbers below ``count``, (steps, size), on the CPU; each batch is drawn without replacement."""
    return torch.stack([torch.randperm(count, generator=rng)[:size] for _ in range(steps)])
