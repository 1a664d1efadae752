"""Fits of a release mechanism: once for the owner, and again by everybody who knows how it works.

The results of a fit (rows, labels, encodings of held-out people, budget) go through the cache as tensors, so that
cells which differ only in the threat share it, and shadow attacks pay for each refit once.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

from benchmark import clock
from benchmark.data.base import Split, digest
from benchmark.seeds import isolated
from benchmark.settings.base import Artifact, CellContext
from benchmark.settings.release.defense import MechanismContext, Release, ReleaseMechanism

PARTS = ("dataset", "model", "defense", "scale")
ROLES = ("test", "calibration", "attacker")
"""Held-out people whose encodings are kept with the owner's fit, in the order in which they are encoded."""
FIT = ("release.fit", *PARTS)

_last: dict[str, tuple[MechanismContext, ReleaseMechanism]] = {}
"""The fitted defense of this process's last cell, by the name of its artifact: the next cell has mostly the same."""


class Mechanism:
    """The cell's defense, which can be fitted on any private data.

    A fit is seeded by its name alone, and starts from the defense as it was built: fits do not disturb each other.
    """

    def __init__(self, context: CellContext) -> None:
        self.context = context
        self.mechanism_context = MechanismContext(context.data.public, context.data.num_classes, context.architecture)
        context.defense.enter(self.mechanism_context)

    def fit(self, private: Split, name: str) -> tuple[ReleaseMechanism, Release]:
        """Return a fresh copy of the mechanism, fitted on ``private`` with the randomness of ``name``."""
        defense = _copied(self.context.defense, self.mechanism_context, self.mechanism_context)
        with isolated(self.context.seed, f"{name}.global"):
            release = defense.release(private, self.context.rng(name))
        return defense, release

    def refit(self, private: Split, purpose: str) -> Release:
        """Return what the mechanism would publish of ``private``: for shadow attacks and controls, shared by the cache.

        ``purpose`` seeds it, so that two purposes give two independent keys.
        """
        name = f"refit.{purpose}"
        key = (f"{name}.{digest([private.to('cpu')])[:16]}", *PARTS)
        artifact = self.context.cache(key, lambda: _pack(self.fit(private, name)[1]))
        return _unpack(artifact, self.context.device)


class Fitted:
    """The owner's release, and encodings for the owner's users.

    Attributes:
        release: what was published. encoded: role -> held-out people as the mechanism publishes them.
        seconds: that the fit took, whenever it was made.
    """

    NAME = "defense.key"

    def __init__(self, mechanism: Mechanism) -> None:
        self.mechanism, self.context = mechanism, mechanism.context
        artifact = self.context.cache(FIT, self._build)
        self.release = _unpack(artifact, self.context.device)
        self.seconds = float(artifact["seconds"])
        self.encoded = {role: self._people(artifact, role) for role in ROLES}

    @cached_property
    def live(self) -> ReleaseMechanism:
        """Return the fitted defense, for surfaces that hand out the map or its networks; fitted anew if necessary.

        It draws fresh noise wherever it encodes, so the one that is kept for the next cell is never used itself.
        """
        name = self.context.artifact_name(FIT)
        if name not in _last:
            return self._kept(self._encode_all(self.mechanism.fit(self.context.data.owner, self.NAME)[0])[0])
        former, defense = _last[name]
        return _copied(defense, former, self.mechanism.mechanism_context)

    def _kept(self, defense: ReleaseMechanism) -> ReleaseMechanism:
        """Return ``defense``, of which a copy is kept in the place of the last one."""
        if name := self.context.artifact_name(FIT):
            here = self.mechanism.mechanism_context
            _last.clear()
            _last[name] = here, _copied(defense, here, here)
        return defense

    def _build(self) -> Artifact:
        started = clock.now()
        defense, release = self.mechanism.fit(self.context.data.owner, self.NAME)
        seconds = clock.now() - started
        defense, encoded = self._encode_all(defense)
        self.live = self._kept(defense)
        artifact = _pack(release) | {"seconds": torch.tensor(seconds, dtype=torch.float64)}
        for role, people in encoded.items():
            artifact |= {f"{role}.x": people.x.cpu(), f"{role}.y": people.y.cpu()}
        return artifact

    def _encode_all(self, defense: ReleaseMechanism) -> tuple[ReleaseMechanism, Mapping[str, Split]]:
        """Encode people in one fixed order, so that a mechanism with fresh noise always ends in the same state."""
        with isolated(self.context.seed, "defense.encode.global"):
            return defense, {role: _encode(defense, getattr(self.context.data, role)) for role in ROLES}

    def _people(self, artifact: Artifact, role: str) -> Split:
        plain: Split = getattr(self.context.data, role)
        return replace(plain, x=artifact[f"{role}.x"].to(plain.x.device), y=artifact[f"{role}.y"].to(plain.y.device))


def _copied(defense: Any, context: MechanismContext, instead: MechanismContext) -> Any:
    """Return a copy of a defense with ``instead`` in the place of ``context``, neither of which is copied."""
    return copy.deepcopy(defense, {id(context): instead})


def _encode(defense: ReleaseMechanism, people: Split) -> Split:
    return defense.encode_people(people) if len(people) else people


def _pack(release: Release) -> Artifact:
    tensors = {"x": release.x, "y": release.y, "source": release.source, "sensitive": release.sensitive}
    numbers = {"epsilon": release.epsilon, "delta": release.delta}
    artifact = {name: tensor.detach().cpu() for name, tensor in tensors.items() if tensor is not None}
    return artifact | {n: torch.tensor(v, dtype=torch.float64) for n, v in numbers.items() if v is not None}


def _unpack(artifact: Artifact, device: torch.device) -> Release:
    tensors = {name: artifact[name].to(device) for name in ("x", "y", "source", "sensitive") if name in artifact}
    numbers = {name: float(artifact[name]) for name in ("epsilon", "delta") if name in artifact}
    return Release(**tensors, **numbers)  # type: ignore[arg-type]
