"""Base of all threats, of the surfaces that they see and of the guesses that they return.

The base checks access, seeds and times; a subclass only attacks. A threat never scores itself: the game holds the truth
and hands it to ``benchmark.metrics``.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

import torch

from benchmark import clock
from benchmark.errors import AccessError
from benchmark.parameters import Checked
from benchmark.seeds import generator, isolated


class _Hidden:
    """Placeholder in a surface for a field that the adversary may not see."""

    def __repr__(self) -> str:
        return "HIDDEN"


HIDDEN: Any = _Hidden()
View = TypeVar("View", bound="Surface")


@dataclass(frozen=True)
class Surface:
    """View of one adversary. Every game derives its own.

    Fields named in ``granted_by`` are visible only to threats that declare that knowledge; touching a hidden field
    raises. The other fields are visible to every threat on this surface.
    """

    granted_by: ClassVar[Mapping[str, str]] = {}

    def restrict(self: View, knowledge: Iterable[str]) -> View:
        """Return a copy in which every field that ``knowledge`` does not grant is hidden."""
        seen = copy.copy(self)
        for name, grant in self.granted_by.items():
            if grant not in knowledge:
                object.__setattr__(seen, name, HIDDEN)  # a frozen dataclass has no other way
        return seen

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if value is HIDDEN:
            grant = type(self).granted_by[name]
            raise AccessError(f"{name!r} is hidden: a threat needs the knowledge {grant!r} to see it.")
        return value

    def visible(self) -> list[str]:
        """Return the names of the fields that may be read."""
        return [f.name for f in fields(self) if object.__getattribute__(self, f.name) is not HIDDEN]


@dataclass
class Guess:
    """Answer of an adversary.

    Attributes:
        diagnostics: its own numbers (losses, iterations), not metrics of the truth.
        seconds: that the attack took.
    """

    diagnostics: dict[str, float | str] = field(default_factory=dict, kw_only=True)
    seconds: float = field(default=0.0, kw_only=True)


@dataclass(frozen=True)
class Floor:
    """Success that a threat must reach without any defense; below it no result with the threat counts."""

    metric: str
    at_least: float


class Threat(Checked, ABC):
    """Base of all threats.

    Class attributes (a subclass sets them):
        family: one of the suite's families, e.g. ``"gradient_leakage"``.
        setting, surface: what it attacks; the defenses that it meets follow from these.
        headline: the risk metric that leaderboards show.
        floor: success without a defense below which the threat "does not work here"; None for controls.
        control: ``"positive"`` or ``"negative"`` for rows that bound the others, else None.
        needs: traits that the model or dataset must have, e.g. ``{"model.first_layer": "linear"}``.
        knowledge: what it is granted beyond the bare surface (names in the surface's ``granted_by``).

    Args:
        adaptive: the adversary knows the defense and acts on what it publishes (grants ``mechanism``).
    """

    place = "threat"
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
        """Return the guess from ``surface``, restricted to what was granted; seeded by purpose and timed."""
        purpose = f"threat.{type(self).__name__}"
        started = clock.now()
        with isolated(seed, purpose):
            guess = self.attack(surface.restrict(self.knowledge), generator(seed, purpose))
        guess.seconds = clock.now() - started
        return guess

    @abstractmethod
    def attack(self, surface: Any, rng: torch.Generator) -> Guess:
        """Return the guess from what the adversary sees."""


OF_IMAGES = {"ssim": "values_recovered"}
"""Risk that only images have -> the one that takes its place for tables and signals."""


def judged(threat: Threat | type[Threat], kind: str) -> tuple[str, Floor | None]:
    """Return headline and floor of a threat on data of this ``kind`` (``Source.kind``)."""
    headline, floor = threat.headline, threat.floor
    if kind in ("tabular", "signal"):
        headline = OF_IMAGES.get(headline, headline)
        floor = floor and Floor(OF_IMAGES.get(floor.metric, floor.metric), floor.at_least)
    return headline, floor
