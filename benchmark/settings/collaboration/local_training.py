"""Local training without rounds: many models of one architecture, fitted side by side as rows of one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.errors import ConfigError, positive
from benchmark.models.base import Classifier
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import FederatedDefense, LocalStep, TrainingTask
from benchmark.training.functional import Net

OPTIMIZERS = ("adam", "sgd")
MOMENTUM = 0.9


@dataclass(frozen=True)
class TrainingPlan:
    """Optimiser and length of a party's own training.

    Attributes:
        optimizer: ``adam``, or ``sgd`` with momentum 0.9.
        lr, batch_size: as usual. Each batch is drawn without replacement, so an accountant can follow.
        epochs: of ceil(samples / batch size) steps.
        body_epochs: None trains the whole model. A number trains the head alone (transfer learning) on a body that
            has been through this many epochs on the public samples; 0 takes the body as the architecture brings it.
    """

    optimizer: str
    lr: float
    batch_size: int
    epochs: int
    body_epochs: int | None = None

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}.")
        for name in ("lr", "batch_size", "epochs"):
            positive(name, getattr(self, name))

    def steps(self, samples: int) -> int:
        return self.epochs * -(-samples // self.batch_size)

    def shared_part(self, net: Net) -> nn.Module:
        """Return the private part of a model, which has to be shared secretly: the head alone in transfer learning."""
        return net.module if self.body_epochs is None else _with_head(net).head

    def build(self, params: Tensor) -> torch.optim.Optimizer:
        if self.optimizer == "adam":
            return torch.optim.Adam([params], lr=self.lr)
        return torch.optim.SGD([params], lr=self.lr, momentum=MOMENTUM)


def train_locally(
    net: Net,
    starts: Tensor,
    shares: Sequence[Split],
    plan: TrainingPlan,
    *,
    steps: int,
    rngs: Sequence[torch.Generator],
    defense: FederatedDefense | None = None,
) -> Tensor:
    """Return each party's model after ``steps`` steps on its own samples.

    Both optimisers act coordinate by coordinate, so that one of them over the matrix of all models is the same as one
    for each.

    Args:
        starts: (parties, d), where each party begins.
        rngs: one a party, for its batches and for a defense that randomises its steps.
        defense: whose ``local_step`` gives the gradients, if it overrides that.

    Returns:
        (parties, d).
    """
    models = starts.clone()
    optimizer = plan.build(models)
    size = min(plan.batch_size, usual(shares))
    private = defense if defense is not None and defense.overrides("local_step") else None
    for _ in range(steps):
        rows = [_rows(len(share), size, rng) for share, rng in zip(shares, rngs, strict=True)]
        x = torch.stack([share.x[chosen] for share, chosen in zip(shares, rows, strict=True)])
        y = torch.stack([share.y[chosen] for share, chosen in zip(shares, rows, strict=True)])
        if private is None and len(models) == 1:  # three times faster than the vectorised form for one model
            leaf = models[0].detach().requires_grad_()
            models.grad = torch.autograd.grad(net.loss(leaf, x[0], y[0]), leaf)[0][None]
        elif private is None:
            models.grad = net.gradients(models, x, y)
        else:
            parties = zip(models, x, y, rngs, strict=True)
            models.grad = torch.stack([private.local_step(LocalStep(net, *party)) for party in parties]).detach()
        optimizer.step()
    return models


def usual(shares: Sequence[Split]) -> int:
    """Return the size of the (lower) median share, which a minority of owners cannot change by odd sizes."""
    return sorted(len(share) for share in shares)[(len(shares) - 1) // 2]


def _rows(count: int, size: int, rng: torch.Generator) -> Tensor:
    """Return ``size`` row numbers below ``count``, without replacement as long as there are enough."""
    rows = torch.randperm(count, generator=rng)
    return rows[:size] if size <= count else rows.repeat(-(-size // count))[:size]


def train_heads(
    net: Net,
    body: Tensor,
    starts: Tensor,
    shares: Sequence[Split],
    plan: TrainingPlan,
    *,
    steps: int,
    rngs: Sequence[torch.Generator],
    defense: FederatedDefense | None = None,
) -> Tensor:
    """Train as :func:`train_locally`, but every model keeps the body of ``body`` (d,) and only its head learns.

    The features are computed once; the head is the last part of a parameter vector (see :class:`Classifier`).
    """
    module = net.module
    if not isinstance(module, Classifier):
        raise ConfigError(
            f"{type(module).__name__} has no body and head; transfer learning needs a model of the suite."
        )
    head = Net(module.head)
    d = head.layout.size
    featured = [Split(features(net, body, share.x), share.y) for share in shares]
    heads = train_locally(head, starts[:, -d:], featured, plan, steps=steps, rngs=rngs, defense=defense)
    return torch.cat([body[:-d].expand(len(heads), -1), heads], dim=1)


def _with_head(net: Net) -> Classifier:
    if not isinstance(net.module, Classifier):
        kind = type(net.module).__name__
        raise ConfigError(f"{kind} has no body and head; transfer learning needs a model of the suite.")
    return net.module


@torch.no_grad()
def features(net: Net, params: Tensor, x: Tensor, batch_size: int = 1024) -> Tensor:
    """Return the penultimate representation (n, features) of x (n, ...) under ``params``."""
    parts = net.layout.split(params)
    body = {name.removeprefix("body."): part for name, part in parts.items() if name.startswith("body.")}
    module = net.module.body
    return torch.cat([torch.func.functional_call(module, body, (part,)) for part in x.split(batch_size)])  # type: ignore[arg-type]


def train_each(task: TrainingTask, shares: Sequence[Split], plan: TrainingPlan) -> tuple[Tensor, int]:
    """Train one model for each of ``shares`` by ``plan``.

    All take the steps that a usual share asks for, so that nobody gains by bringing more samples. Share i
    starts from party i's initial parameters, with party i's own batches.

    Returns:
        (shares, d) and the number of steps.
    """
    starts = torch.stack([task.fresh(party) for party in range(len(shares))])
    rngs = [generator(task.seed, f"alone.batches.{party}") for party in range(len(shares))]
    steps = plan.steps(usual(shares))
    if plan.body_epochs is None:
        return train_locally(task.net, starts, shares, plan, steps=steps, rngs=rngs, defense=task.defense), steps
    body = _body(task, plan)
    return train_heads(task.net, body, starts, shares, plan, steps=steps, rngs=rngs, defense=task.defense), steps


def _body(task: TrainingTask, plan: TrainingPlan) -> Tensor:
    """Return the parameters (d,) whose body all parties share, trained on public samples alone."""
    start = task.net.initial().to(task.public.x.device)
    if not plan.body_epochs:
        return start
    if len(task.public) == 0:
        raise ConfigError("Transfer learning trains the body on public samples; raise dataset.sizes.public above 0.")
    first = replace(plan, epochs=plan.body_epochs, body_epochs=None)
    rng = generator(task.seed, "alone.body")
    steps = first.steps(len(task.public))
    return train_locally(task.net, start[None], [task.public], first, steps=steps, rngs=[rng])[0]
