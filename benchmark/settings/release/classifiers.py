"""Classifiers of the task that are trained on a release, or on the private data for comparison."""

from __future__ import annotations

from torch import nn

from benchmark.settings.base import CellContext
from benchmark.settings.release.mechanism import Fitted
from benchmark.training.loop import train


def trained_on_release(context: CellContext, fitted: Fitted, epochs: int) -> nn.Module:
    """Return the cell's model trained on released rows and labels."""
    release = fitted.release

    def build(model: nn.Module) -> nn.Module:
        return train(model, release.x, release.y, epochs=epochs, rng=context.rng("release.batches"))

    key = ("release", "dataset", "model", "setting", "defense", "scale")
    return context.trained(key, build, shape=tuple(release.x.shape[1:]))


def trained_on_private(context: CellContext, epochs: int) -> nn.Module:
    """Return the cell's model trained on the private data themselves, shared by all defenses."""

    def build(model: nn.Module) -> nn.Module:
        own = context.data.owner
        return train(model, own.x, own.y, epochs=epochs, rng=context.rng("release.batches"))

    return context.trained((f"private.{epochs}", "dataset", "model", "scale"), build)
