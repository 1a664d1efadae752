"""Small networks, data and surfaces that tests of the science share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from benchmark.data.base import Dataset, Split
from benchmark.settings.base import Artifact, ArtifactCache, CellContext
from benchmark.settings.collaboration.defense import LocalPlan
from benchmark.settings.collaboration.games.uploads import UploadsGame, UploadSurface
from benchmark.settings.collaboration.setting import Collaboration
from benchmark.settings.defense import Defense
from benchmark.settings.stack import Stack, UniversalDefense
from benchmark.settings.threat import HIDDEN, Guess, Surface, Threat
from benchmark.training.functional import Net


class TinyNet(nn.Module):
    """Two tanh convolutions and a linear layer for 8x8 images."""

    first_layer = "conv"

    def __init__(self, *, shape: tuple[int, ...] = (1, 8, 8), num_classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(shape[0], 6, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(6, 8, 3, padding=1, stride=2),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(8 * shape[1] * shape[2] // 4, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class TinyMLP(nn.Module):
    first_layer = "linear"

    def __init__(self, *, shape: tuple[int, ...] = (1, 8, 8), num_classes: int = 10, hidden: int = 32) -> None:
        super().__init__()
        pixels = shape[0] * shape[1] * shape[2]
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden), nn.Tanh(), nn.Linear(hidden, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def digits_like(n: int, seed: int = 0, num_classes: int = 10) -> Split:
    """Return learnable fake images: one smooth prototype a class plus noise."""
    rng = torch.Generator().manual_seed(seed)
    prototypes = torch.rand((num_classes, 1, 8, 8), generator=torch.Generator().manual_seed(99))
    y = torch.arange(n) % num_classes
    x = (prototypes[y] + 0.15 * torch.randn((n, 1, 8, 8), generator=rng)).clamp(0, 1)
    return Split(x, y)


def fake_dataset() -> Dataset:
    return Dataset(
        name="fake",
        owner=digits_like(200, 0),
        attacker=digits_like(60, 1),
        public=digits_like(40, 2),
        calibration=digits_like(40, 3),
        test=digits_like(100, 4),
        num_classes=10,
        digest="fake",
    )


def collaboration(**overrides) -> Collaboration:
    settings = dict(
        parties=4,
        fraction=1.0,
        rounds=15,
        batch_size=16,
        local_steps=1,
        lr=0.5,
        victims=2,
        victim_batch_size=1,
        model_state="untrained",
    )
    return Collaboration(**(settings | overrides))


class NoThreat(Threat):
    """Threat of a cell in which nobody attacks."""

    setting, surface = "collaboration", "uploads"

    def attack(self, surface, rng):
        return Guess()


def context(
    threat: Threat | None, defense: Defense | None = None, *, architecture=TinyNet, seed: int = 0, cache=None
) -> CellContext:
    extra = {} if cache is None else {"cache": cache}
    return CellContext(
        data=fake_dataset(),
        architecture=architecture,
        defense=defense if isinstance(defense, Stack) else Stack([defense or UniversalDefense()]),
        threat=threat or NoThreat(),
        seed=seed,
        device=torch.device("cpu"),
        **extra,
    )


def kept(store: dict[tuple[str, ...], Artifact], **parts: object) -> ArtifactCache:
    """Return a cache for cells of one module, which differ in ``parts`` alone: what they share is made once.

    Args:
        store: of all these caches.
        parts: those of an artifact's key, by name, and anything else of the setting; all others are the same.
    """
    told = {name: _described(part) for name, part in parts.items()}

    def cache(key: tuple[str, ...], build: Callable[[], Artifact]) -> Artifact:
        whole = (*key, *(told[part] for part in told if part in key))
        if whole not in store:
            store[whole] = build()
        return {name: tensor.clone() for name, tensor in store[whole].items()}

    return cache


def _described(part: object) -> str:
    text = f"{type(part).__name__} {sorted(vars(part).items())}" if hasattr(part, "__dict__") else repr(part)
    assert " object at 0x" not in text, "it would be told by an address, which another may have later"
    return text


def observe(
    defense: Defense | None = None,
    *,
    architecture=TinyNet,
    victims: int = 2,
    batch: int = 1,
    observations: int = 1,
    seed: int = 0,
) -> UploadSurface:
    """Return the server's view of ``victims`` parties of an untrained model."""
    setting = collaboration(victims=victims, victim_batch_size=batch)
    play = context(None, defense, architecture=architecture, seed=seed)
    net = Net(play.fresh_model())
    return UploadsGame(setting.honest).observe(play, net, net.initial(), observations)


S = TypeVar("S", bound=Surface)


def partial_surface(kind: type[S], **given: Any) -> S:
    """Return a surface of this kind with the given fields; all others are hidden."""
    view = object.__new__(kind)  # past the constructor, which takes no hidden fields where shapes are checked
    vars(view).update({field.name: HIDDEN for field in fields(kind)} | given)
    return view


PLAN = LocalPlan(batch_size=16, local_steps=1, lr=0.5)
