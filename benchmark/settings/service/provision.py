"""The honest sides of a service: a provider trains the model, a user reveals its outputs and screens models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.seeds import isolated
from benchmark.settings.base import Artifact, CellContext
from benchmark.training.loop import predict, train
from benchmark.training.recipe import Recipe

SHARED = ("dataset", "model", "setting", "scale")
"""Parts of a cell that an honest model depends on."""


@dataclass(frozen=True)
class Provision:
    """An honest provider's training, and an honest user's treatment of outputs and of models.

    Attributes:
        epochs, lr, batch_size, victims, references, population, false_alarm_rate, recipe: as the arguments of
            :class:`benchmark.settings.service.setting.Service`.
    """

    epochs: int
    lr: float
    batch_size: int
    victims: int | None
    references: int
    population: int
    false_alarm_rate: float
    recipe: Recipe | None = None

    @property
    def budget(self) -> dict[str, Any]:
        """Return what :func:`benchmark.training.loop.train` takes of the provider's training."""
        return {"epochs": self.epochs, "lr": self.lr, "batch_size": self.batch_size, "recipe": self.recipe}

    def honest(self, context: CellContext, member: int = 0) -> nn.Module:
        """Return an honest provider's model, shared by all threats and defenses; ``member``: of the population."""
        data = context.data.owner
        return self._plain(context, data, "honest provider", "model.init", "provider.batches", member, owners=True)

    def _plain(
        self,
        context: CellContext,
        data: Split,
        name: str,
        init: str,
        order: str,
        member: int,
        *,
        owners: bool = False,
    ) -> nn.Module:
        """Return a model trained on ``data`` for the task alone; members differ in ``init`` and ``order``."""
        suffix = f" {member}" if member else ""

        def build(model: nn.Module) -> nn.Module:
            rng = context.rng(order + suffix)
            return train(model, data.x, data.y, **self.budget, rng=rng)

        return context.trained((name + suffix, *SHARED), build, purpose=init + suffix, owners=owners)

    def reveal(self, context: CellContext, model: nn.Module) -> Float[Tensor, "n outputs"]:
        """Return what the user reveals of the model's answers to the private inputs, (n, outputs)."""
        logits = predict(model, context.data.test.x)
        with isolated(context.seed, "user.reveal"):  # a treatment may draw noise
            return context.defense.reveal(logits).detach()

    def suspicions_of_references(self, context: CellContext) -> Float[Tensor, " references"]:
        """Return the suspicion of each model that the user trains honestly on public samples, float64 (references,).

        Raises:
            ConfigError: there are no public samples to train on, or no calibration samples to judge by.
        """
        public = context.data.public
        if len(public) == 0 or len(context.data.calibration) == 0:
            raise ConfigError(
                "A user who screens models trains references on public samples and judges by calibration samples: set "
                "dataset.sizes.public and dataset.sizes.calibration above 0."
            )
        models = (
            self._plain(context, public, "reference", "reference.init", "reference.batches", number)
            for number in range(1, self.references + 1)
        )
        return suspicions(context, ("suspicion of references", *SHARED, "defense"), models)

    def suspicions_of_honest(self, context: CellContext) -> Float[Tensor, " population"]:
        """Return the suspicion of each model of an honest provider, float64 (population,)."""
        models = (self.honest(context, member) for member in range(self.population))
        return suspicions(context, ("suspicion of the honest", *SHARED, "defense"), models)


def suspicions(context: CellContext, key: tuple[str, ...], models: Iterable[nn.Module]) -> Float[Tensor, " n"]:
    """Return the suspicion of each model, float64 (n,); each judgement starts from the same draws."""

    def judge(model: nn.Module) -> float:
        with isolated(context.seed, "user.screen"):
            return context.defense.screen_model(model, context.data.calibration)

    def build() -> Artifact:
        return {"suspicions": torch.tensor([judge(model) for model in models], dtype=torch.float64)}

    return context.cache(key, build)["suspicions"]
