"""Proxy networks trained on public samples, and the features of an image that they reveal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.errors import ConfigError, Diverged
from benchmark.models.base import Classifier
from benchmark.models.strided_convnet import StridedConvNet
from benchmark.seeds import generator, isolated
from benchmark.training.adversarial import train_adversarially
from benchmark.training.loop import predict, train

MATCHED = ("logits", "features")
LR = 2e-3
ATTEMPTS = 5  # of the training of one proxy
CONSTANT = 1e-9  # variance below which features are those of a network whose units are all off

Targets = tuple[list[Tensor], Tensor, list[Tensor]]
"""Target features of n images, M tensors (n, k_m); their classes (M, n); which entries count, M tensors (n, k_m)."""


def trained_proxies(
    public: Split, num_classes: int, *, widths: Sequence[int], epochs: int, eps: float, ascent_steps: int, seed: int
) -> list[Classifier]:
    """Return strided ConvNets of ``widths``, each with its own seed, trained on ``public`` and frozen, in eval mode.

    A network whose units are all off, as adversarial training of narrow ones gives at times, constrains nothing: it is
    trained again from another start.

    Args:
        eps: L-infinity box of adversarial training in ``ascent_steps`` steps of eps / 2 each; 0: plain training.

    Raises:
        Diverged: a proxy gives all public samples the same features, whatever its start.
    """
    shape, device = tuple(public.x.shape[1:]), public.x.device

    def fitted(width: int, name: str) -> Classifier:
        fit = partial(train, epochs=epochs, rng=generator(seed, f"{name}.batches"), lr=LR)
        with isolated(seed, name):
            network = StridedConvNet(
                shape=shape,
                num_classes=num_classes,
                channels=[width, 2 * width],
                hidden=4 * width,
                activation="relu",
                init="default",
                kernel=3,
            ).to(device)
            if eps:
                train_adversarially(network, public, fit, eps=eps, steps=ascent_steps, step_size=eps / 2)
            else:
                fit(network, public.x, public.y)
        return network.requires_grad_(False)

    proxies: list[Classifier] = []
    for number, width in enumerate(widths):
        for attempt in range(ATTEMPTS):
            network = fitted(width, f"proxy.{number}" + (f".again.{attempt}" if attempt else ""))
            if variance(predict(network.features, public.x)) > CONSTANT:
                break
        else:
            raise Diverged(
                f"a proxy of width {width} gave all public samples the same features, {ATTEMPTS} times: take wider "
                "proxies or a smaller eps."
            )
        proxies.append(network)
    return proxies


def variance(features: Float[Tensor, "n k"]) -> float:
    """Return the variance over samples, summed over the features."""
    return features.var(dim=0).sum().item()


class FeatureMatch:
    """Distance of images from others in the proxies' features.

    Args:
        proxies: the networks f_m.
        matched: ``logits`` or ``features`` (penultimate).
        public: (n, ...) over which the variance of each phi_m is taken.
        top: match only so many of each proxy's largest target logits; None: all of them.
        quantum: round targets to multiples of it; 0: not rounded.
    """

    def __init__(
        self, proxies: Sequence[Classifier], matched: str, public: Tensor, *, top: int | None, quantum: float
    ) -> None:
        if matched not in MATCHED:
            raise ConfigError(f"What is matched must be one of {list(MATCHED)}, not {matched!r}.")
        self.proxies, self.matched, self.top, self.quantum = proxies, matched, top, quantum
        with torch.no_grad():
            self.variance = [phi.var(dim=0).sum() for phi in self(public)[0]]

    def __call__(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return phi_m(x), M tensors (n, k_m), and the proxies' classes (M, n)."""
        hidden = [proxy.features(x) for proxy in self.proxies]
        logits = [proxy.head(features) for proxy, features in zip(self.proxies, hidden, strict=True)]
        return (logits if self.matched == "logits" else hidden), torch.stack([row.argmax(dim=1) for row in logits])

    @torch.no_grad()
    def targets(self, x: Tensor) -> Targets:
        """Return all that the mechanism reads of x: features, classes, and which entries count, M tensors (n, k_m)."""
        features, classes = self(x)
        counted = [torch.ones_like(phi) if self.top is None else top_mask(phi, self.top) for phi in features]
        if self.quantum:
            features = [(phi / self.quantum).round() * self.quantum for phi in features]
        return features, classes, counted

    def error(self, x: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Return ``(1/M) sum_m |phi_m(x) - target_m|^2 / Var(phi_m)``, (n,), and whether all proxies agree."""
        features, classes = self(x)
        wanted, wanted_classes, counted = targets
        parts = [
            ((phi - goal).square() * counts).sum(dim=1) / variance
            for phi, goal, counts, variance in zip(features, wanted, counted, self.variance, strict=True)
        ]
        return torch.stack(parts).mean(dim=0), (classes == wanted_classes).all(dim=0)


def select_rows(targets: Targets, rows: Tensor) -> Targets:
    """Return the targets of these images, int64 (n',)."""
    features, classes, counted = targets
    return [phi[rows] for phi in features], classes[:, rows], [counts[rows] for counts in counted]


def top_mask(values: Float[Tensor, "n k"], count: int) -> Float[Tensor, "n k"]:
    """Return 1 at the ``count`` largest entries of each row (n, k), else 0."""
    return torch.zeros_like(values).scatter(1, values.topk(min(count, values.shape[1]), dim=1).indices, 1.0)


def learner_loss(
    x: Float[Tensor, "n ..."], y: Int[Tensor, " n"], pool: Split, classes: int, *, steps: int, lr: float
) -> Float[Tensor, ""]:
    """Return the loss () on ``pool`` of a linear learner of (x, y) after full-batch SGD steps, differentiable in x.

    It is capped at log(classes), the loss of chance: the predictions of a worse learner would only have to be inverted.
    """
    rows, held = (F.pad(images.flatten(1), (0, 1), value=1.0) for images in (x, pool.x))
    weights = torch.zeros((rows.shape[1], classes), device=x.device)
    onehot = F.one_hot(y, classes).to(rows.dtype)
    for _ in range(steps):
        weights = weights - lr * rows.T @ ((rows @ weights).softmax(dim=1) - onehot) / len(rows)
    return F.cross_entropy(held @ weights, pool.y).clamp_max(math.log(classes))
