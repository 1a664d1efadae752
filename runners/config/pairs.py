"""Which threat meets which defense, derived from the sources as ``benchmark.compatibility`` derives it from classes.

No component is imported, so that the answer comes at once; a test holds the two against each other.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmark.errors import ConfigError
from runners.config import catalogue
from runners.config.static_analysis import MISSING, attribute

BASE = "benchmark.settings.defense"


@dataclass(frozen=True)
class Pair:
    """A threat and a defense. ``reason``: why they do not meet; None where they do."""

    threat: str
    defense: str
    reason: str | None


@dataclass(frozen=True)
class Matrix:
    """Every threat against every defense.

    Attributes:
        places: threat -> (setting, surface).
        needs: threat -> what it needs of the model or dataset.
        controls: threat -> ``positive`` or ``negative``, for those that are controls.
        acting: (setting, surface) -> the hooks that act on it.
        hooks: defense -> the hooks it overrides.
    """

    places: dict[str, tuple[str, str]]
    needs: dict[str, dict[str, str]]
    controls: dict[str, str]
    acting: dict[tuple[str, str], frozenset[str]]
    hooks: dict[str, frozenset[str]]

    def pairs(self) -> list[Pair]:
        return [Pair(threat, defense, self.reason(threat, defense)) for threat in self.places for defense in self.hooks]

    def reason(self, threat: str, defense: str) -> str | None:
        acting, hooks = self.acting[self.places[threat]], self.hooks[defense]
        if defense == "none" or acting & hooks:
            return None
        setting, surface = self.places[threat]
        return (
            f"{threat} attacks the surface {surface!r} of {setting}, on which only defenses with "
            f"{', '.join(sorted(acting))} act; {defense} changes {', '.join(sorted(hooks)) or 'nothing'}."
        )

    def summary(self) -> dict[str, Any]:
        """As plain data, for ``--json``."""
        return {
            "threats": {
                name: {"setting": place[0], "surface": place[1], "needs": self.needs[name]}
                for name, place in self.places.items()
            },
            "defenses": {name: sorted(hooks) for name, hooks in self.hooks.items()},
            "pairs": [vars(pair) for pair in self.pairs()],
        }


def derive() -> Matrix:
    """The matrix of ``conf/threat`` and ``conf/defense``.

    Raises:
        ConfigError: a component's source does not tell, or a threat lives where no setting is.
    """
    from runners.config.build import locate

    acting = {}
    for option, target in _options("setting"):
        setting = locate(target, option)
        for surface, hooks in setting.surfaces.items():
            acting[setting.name, surface] = frozenset(hooks)
    places, needs, controls = {}, {}, {}
    for threat, target in _options("threat"):
        places[threat] = (attribute(target, "setting"), attribute(target, "surface"))
        if places[threat] not in acting:
            raise ConfigError(f"{threat} attacks {places[threat]}, which no setting in conf/setting offers.")
        wanted = attribute(target, "needs")
        needs[threat] = {} if wanted is MISSING else dict(wanted)
        if (control := attribute(target, "control")) not in (MISSING, None):
            controls[threat] = str(control)
    hooks = {name: locate(target, name).hooks() for name, target in _options("defense")}
    return Matrix(places, needs, controls, acting, hooks)


def show(console: Console, matrix: Matrix) -> None:
    """A table a surface: its threats down, the defenses that act on it across; then who acts nowhere on it."""
    threats: dict[tuple[str, str], list[str]] = defaultdict(list)
    for threat, place in matrix.places.items():
        threats[place].append(threat)
    for place, names in threats.items():
        acting = matrix.acting[place]
        meets = [defense for defense in matrix.hooks if matrix.reason(names[0], defense) is None]
        table = Table(title=f"{place[0]} · {place[1]}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column(f"{len(names)} threats", overflow="fold")
        table.add_column(f"{len(meets)} defenses that change {', '.join(sorted(acting))}", overflow="fold")
        lines = [_needing(name, matrix.needs[name]) for name in names]
        table.add_row("\n".join(lines), "\n".join(_hooked(name, matrix.hooks[name] & acting) for name in meets))
        console.print(table)
        others = ", ".join(name for name in matrix.hooks if name not in meets)
        console.print(f"Every threat here meets every defense here. They do not meet: {others}.\n", highlight=False)


def _needing(threat: str, needs: dict[str, str]) -> str:
    return f"{threat} (needs {', '.join(f'{trait}={value}' for trait, value in needs.items())})" if needs else threat


def _hooked(defense: str, hooks: frozenset[str]) -> str:
    return f"{defense} ({', '.join(sorted(hooks))})" if hooks else defense


def _options(group: str) -> list[tuple[str, str]]:
    """(name, ``_target_``) of every option of a group."""
    found = []
    for option in catalogue.options(group):
        text = (catalogue.CONF / group / f"{option.name}.yaml").read_text(encoding="utf-8")
        target = re.search(r"^_target_: *([\w.]+)", text, flags=re.MULTILINE)
        if target:
            found.append((option.name, target[1]))
    return found
