"""Which threat meets which defense, as :mod:`benchmark.compatibility` says of their classes.

The classes are asked once and their answer is remembered (:mod:`runners.config.remembered`), so that a command that
only reads it need not import them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmark.errors import ConfigError
from runners.config import catalogue
from runners.config.remembered import remembered


@dataclass(frozen=True)
class Pair:
    """A threat and a defense. ``reason``: why they do not meet; None where they do."""

    threat: str
    defense: str
    reason: str | None


@dataclass(frozen=True)
class Matrix:
    """Pairs of every threat and every defense.

    Attributes:
        places: threat -> (setting, surface).
        needs: threat -> what it needs of the model or dataset.
        controls: threat -> ``positive`` or ``negative``, for those that are controls.
        acting: (setting, surface) -> the hooks that act on it.
        hooks: defense -> the hooks it overrides.
        refused: threat -> defense -> why the two do not meet.
    """

    places: dict[str, tuple[str, str]]
    needs: dict[str, dict[str, str]]
    controls: dict[str, str]
    acting: dict[tuple[str, str], frozenset[str]]
    hooks: dict[str, frozenset[str]]
    refused: dict[str, dict[str, str]]

    def pairs(self) -> list[Pair]:
        """Return every pair of the catalogue, by threat and then by defense."""
        return [Pair(threat, defense, self.reason(threat, defense)) for threat in self.places for defense in self.hooks]

    def reason(self, threat: str, defense: str) -> str | None:
        """Return why ``threat`` and ``defense`` do not meet, in one sentence, or None when they do."""
        return self.refused[threat].get(defense)

    def threats_on(self, setting: str, surface: str | None = None) -> list[str]:
        """Return the threats that live in ``setting``, on one of its surfaces or on any."""
        return [name for name, place in self.places.items() if place[0] == setting and surface in (None, place[1])]

    def summary(self) -> dict[str, Any]:
        """Return the matrix as plain data, for ``--json``."""
        return {
            "threats": {
                name: {"setting": place[0], "surface": place[1], "needs": self.needs[name]}
                for name, place in self.places.items()
            },
            "defenses": {name: sorted(hooks) for name, hooks in self.hooks.items()},
            "pairs": [vars(pair) for pair in self.pairs()],
        }


def derive() -> Matrix:
    """Return the matrix of ``conf/threat`` and ``conf/defense``.

    Raises:
        ConfigError: a component cannot be imported, or a threat lives where no setting is.
    """
    told = remembered("matrix", lambda: _told(ask()))
    return Matrix(
        places={name: (setting, surface) for name, (setting, surface) in told["places"].items()},
        needs=told["needs"],
        controls=told["controls"],
        acting={(setting, surface): frozenset(hooks) for setting, surface, hooks in told["acting"]},
        hooks={name: frozenset(hooks) for name, hooks in told["hooks"].items()},
        refused=told["refused"],
    )


def ask() -> Matrix:
    """Return the same from the classes themselves, which are imported for it."""
    from benchmark.compatibility import refusal

    settings = {cls.name: cls for cls in _classes("setting").values()}
    threats, defenses = _classes("threat"), _classes("defense")
    for name, threat in threats.items():
        if threat.setting not in settings or threat.surface not in settings[threat.setting].surfaces:
            raise ConfigError(
                f"The threat {name} attacks {threat.surface!r} of {threat.setting!r}, which no option of conf/setting "
                "offers; correct its `setting` or `surface`."
            )
    reasons = {
        name: {other: refusal(settings[threat.setting], threat, [defense]) for other, defense in defenses.items()}
        for name, threat in threats.items()
    }
    return Matrix(
        places={name: (threat.setting, threat.surface) for name, threat in threats.items()},
        needs={name: dict(threat.needs) for name, threat in threats.items()},
        controls={name: str(threat.control) for name, threat in threats.items() if threat.control},
        acting={
            (name, surface): frozenset(hooks)
            for name, setting in settings.items()
            for surface, hooks in setting.surfaces.items()
        },
        hooks={name: defense.hooks() for name, defense in defenses.items()},
        refused={
            threat: {defense: reason for defense, reason in of.items() if reason} for threat, of in reasons.items()
        },
    )


def show(console: Console, matrix: Matrix) -> None:
    """Print a table a surface: its threats and the defenses that act on it; then which defenses do not act on it."""
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


def _told(matrix: Matrix) -> dict[str, Any]:
    """Return the matrix as JSON can hold it."""
    return {
        **vars(matrix),
        "acting": [[*place, sorted(hooks)] for place, hooks in matrix.acting.items()],
        "hooks": {name: sorted(hooks) for name, hooks in matrix.hooks.items()},
    }


def _classes(group: str) -> Mapping[str, Any]:
    from runners.config.build import locate

    names = [option.name for option in catalogue.options(group)]
    targets = {name: catalogue.target(f"{group}/{name}", "benchmark") for name in names}
    return {name: locate(target, f"{group}={name}") for name, target in targets.items() if target}


def _needing(threat: str, needs: dict[str, str]) -> str:
    return f"{threat} (needs {', '.join(f'{trait}={value}' for trait, value in needs.items())})" if needs else threat


def _hooked(defense: str, hooks: frozenset[str]) -> str:
    return f"{defense} ({', '.join(sorted(hooks))})" if hooks else defense
