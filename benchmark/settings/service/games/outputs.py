"""The surface of revealed outputs: what a provider or an eavesdropper sees of a user's private inputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.seeds import generator, isolated
from benchmark.settings.threat import Surface, Threat

Reveal = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ProviderSurface(Surface):
    """What a provider holds when it trains the model.

    Attributes:
        data: its labelled training data.
        epochs, lr: of the model's training, which a dishonest provider keeps to as well.
        shape, num_classes: of one sample and of the task.
        reveal: the user's treatment of logits, (n, classes) -> (n, classes) (grant ``mechanism``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {"reveal": "mechanism"}

    data: Split
    epochs: int
    lr: float
    shape: tuple[int, ...]
    num_classes: int
    reveal: Reveal


@dataclass(frozen=True)
class OutputSurface(Surface):
    """What an adversary sees of a user's queries.

    Attributes:
        outputs: (n, classes) what was revealed, one row a private input.
        shape, num_classes: of one input and of the task.
        secret: what the threat kept when it supplied the model, trained; None for other threats.
        provider: the provider's side of the story (grant ``provider``); model: the model in use (grant ``provider``).
        public: everybody's samples (grant ``public``).
        truth, labels: (n, ...) and int64 (n,) the private inputs and what they show (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        "provider": "provider",
        "model": "provider",
        "public": "public",
        "truth": "truth",
        "labels": "truth",
    }

    outputs: Tensor
    shape: tuple[int, ...]
    num_classes: int
    secret: nn.Module | None
    provider: ProviderSurface
    model: nn.Module
    public: Split
    truth: Tensor
    labels: Tensor


class OutputThreat(Threat):
    """An adversary of the revealed outputs; the model is honest."""

    setting = "service"
    surface = "outputs"


class ProviderThreat(OutputThreat):
    """An adversary who supplies the model. What it keeps is a module too, so that cells can share both."""

    @abstractmethod
    def secret(self, view: ProviderSurface) -> nn.Module:
        """A newly initialised module that the provider will train and keep, e.g. a decoder of outputs."""

    @abstractmethod
    def provide(self, model: nn.Module, secret: nn.Module, view: ProviderSurface, rng: torch.Generator) -> None:
        """Train ``model``, which the user will run, and ``secret`` in place."""

    def supply(self, model: nn.Module, view: ProviderSurface, *, seed: int) -> tuple[nn.Module, Callable[[], None]]:
        """The untrained secret and what trains both; seeded by purpose and blind to what was not granted."""
        purpose = f"threat.{type(self).__name__}.provide"
        seen = view.restrict(self.knowledge)
        with isolated(seed, purpose):
            secret = self.secret(seen)

        def work() -> None:
            with isolated(seed, purpose):
                self.provide(model, secret, seen, generator(seed, purpose))

        return secret, work
