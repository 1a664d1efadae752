"""What a setting is: it tells the story, holds the truth, hands out surfaces and scores guesses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark.data.base import Dataset
from benchmark.outcome import Outcome
from benchmark.seeds import generator, isolated
from benchmark.settings.stack import Stack
from benchmark.settings.threat import Threat
from benchmark.training.loop import train

Artifact = dict[str, Tensor]
ArtifactCache = Callable[[tuple[str, ...], Callable[[], Artifact]], Artifact]
"""``cache(key, build)`` gives what ``build()`` gives, perhaps from an earlier time. The key is a name followed by the
parts of the cell that the artifact depends on, e.g. ``("federation", "dataset", "model", "setting", "defense")``;
the seed always counts."""

PARTS = ("dataset", "model", "setting", "threat", "defense", "scale")


def no_cache(key: tuple[str, ...], build: Callable[[], Artifact]) -> Artifact:
    """The cache that remembers nothing."""
    return build()


@dataclass(frozen=True)
class CellContext:
    """Everything a setting plays with.

    Attributes:
        data: on ``device``.
        architecture: ``architecture(shape=..., num_classes=...)`` gives a new module.
        defense, threat: already built.
        seed: the cell's; streams are derived from it by purpose.
        device: where tensors live.
        cache: shares what is expensive between cells.
    """

    data: Dataset
    architecture: Callable[..., nn.Module]
    defense: Stack
    threat: Threat
    seed: int
    device: torch.device
    cache: ArtifactCache = no_cache

    def rng(self, purpose: str) -> torch.Generator:
        return generator(self.seed, purpose)

    def fresh_model(self, purpose: str = "model.init", **overrides: object) -> nn.Module:
        """A newly initialised model; the same seed and purpose give the same weights."""
        arguments = {"shape": self.data.shape, "num_classes": self.data.num_classes, **overrides}
        with isolated(self.seed, purpose):
            return self.architecture(**arguments).to(self.device)

    def trained(
        self,
        key: tuple[str, ...],
        build: Callable[[nn.Module], nn.Module],
        *,
        purpose: str = "model.init",
        **overrides: object,
    ) -> nn.Module:
        """A model trained by ``build(fresh model)``, shared through the cache; ``key`` as for :data:`ArtifactCache`."""
        model = self.fresh_model(purpose, **overrides)

        def state() -> Artifact:
            with isolated(self.seed, f"{key[0]}.train"):  # dropout draws from global state
                return {name: tensor.detach().cpu() for name, tensor in build(model).state_dict().items()}

        model.load_state_dict(self.cache(key, state))
        return model.to(self.device).eval()

    def examiner(self, epochs: int) -> nn.Module:
        """A classifier of plain inputs, trained on the attacker's own split: the judge of what an image still shows."""

        def build(model: nn.Module) -> nn.Module:
            own = self.data.attacker
            return train(model, own.x, own.y, epochs=epochs, rng=self.rng("examiner.batches"))

        return self.trained(("examiner", "dataset", "model", "setting", "scale"), build, purpose="examiner.init")


class Setting(ABC):
    """Base of all settings.

    Class attributes:
        name: its noun.
        surfaces: surface -> the defense hooks that act on it. Compatibility is derived from this.
    """

    name: ClassVar[str]
    surfaces: ClassVar[Mapping[str, frozenset[str]]]

    @abstractmethod
    def play(self, context: CellContext) -> Outcome:
        """Tell the story once and measure it."""
