"""What an adversary is, what it may see, and the shapes of its answers.

The base checks access, seeds and times; a subclass only attacks. A threat never scores itself: the setting holds the
truth and hands it to ``benchmark.metrics``.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

import torch

from benchmark.errors import AccessError
from benchmark.seeds import generator, isolated


class _Hidden:
    """Stands in a surface for what the adversary may not see."""

    def __repr__(self) -> str:
        return "HIDDEN"


HIDDEN: Any = _Hidden()


@dataclass(frozen=True)
class Surface:
    """What one adversary sees. Every setting derives its own surfaces.

    Fields named in ``granted_by`` are visible only to threats that declare that knowledge; touching a hidden field
    raises. The other fields are visible to every threat on this surface.
    """

    granted_by: ClassVar[Mapping[str, str]] = {}

    def restrict(self, knowledge: Iterable[str]) -> Self:
        """A copy in which all that ``knowledge`` does not grant is hidden."""
        hidden = {name: HIDDEN for name, grant in self.granted_by.items() if grant not in knowledge}
        return replace(self, **hidden)

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if value is HIDDEN:
            grant = type(self).granted_by[name]
            raise AccessError(f"{name!r} is hidden: a threat needs the knowledge {grant!r} to see it.")
        return value

    def visible(self) -> list[str]:
        """Names of the fields that may be read."""
        return [f.name for f in fields(self) if object.__getattribute__(self, f.name) is not HIDDEN]


@dataclass
class Guess:
    """An adversary's answer. ``diagnostics`` are its own numbers (losses, iterations), not metrics of the truth."""

    diagnostics: dict[str, float | str] = field(default_factory=dict, kw_only=True)
    seconds: float = field(default=0.0, kw_only=True)


@dataclass(frozen=True)
class Floor:
    """The success that a threat must reach without any defense; below it nothing built on the threat counts."""

    metric: str
    at_least: float


class Threat(ABC):
    """Base of all threats.

    Class attributes (a subclass sets them):
        family: one of the suite's families, e.g. ``"gradient_leakage"``.
        setting, surface: where it lives and what it touches; decides which defenses it meets.
        headline: the risk metric that leaderboards show.
        floor: success without a defense below which the threat "does not work here"; None for controls.
        control: ``"positive"`` or ``"negative"`` for rows that bound the others, else None.
        needs: traits that the model or dataset must have, e.g. ``{"model.first_layer": "linear"}``.
        knowledge: what it is granted beyond the bare surface (names in the surface's ``granted_by``).

    Args:
        adaptive: the adversary knows the defense and acts on what it publishes (grants ``mechanism``).
    """

    family: ClassVar[str]
    setting: ClassVar[str]
    surface: ClassVar[str]
    headline: ClassVar[str]
    floor: ClassVar[Floor | None] = None
    control: ClassVar[str | None] = None
    needs: ClassVar[Mapping[str, str]] = {}
    knowledge: frozenset[str] = frozenset()

    def __init__(self, *, adaptive: bool = False) -> None:
        self.adaptive = adaptive
        if adaptive:
            self.knowledge = self.knowledge | {"mechanism"}

    def __call__(self, surface: Surface, *, seed: int) -> Any:
        """Attack what ``surface`` shows of this cell; seeded by purpose, timed, and blind to what was not granted."""
        purpose = f"threat.{type(self).__name__}"
        started = time.perf_counter()
        with isolated(seed, purpose):
            guess = self.attack(surface.restrict(self.knowledge), generator(seed, purpose))
        guess.seconds = time.perf_counter() - started
        return guess

    @abstractmethod
    def attack(self, surface: Any, rng: torch.Generator) -> Guess:
        """The adversary's work: from what it sees to its guess."""
