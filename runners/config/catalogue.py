"""What the suite can do, read from the folder ``conf`` without importing any component."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CONF = Path(__file__).resolve().parents[2] / "conf"
GROUPS = ("dataset", "model", "setting", "threat", "defense", "scale", "sweep")


@dataclass(frozen=True)
class Option:
    """One YAML file: ``group=name`` on the command line; ``description`` is its first comment line."""

    group: str
    name: str
    description: str


def options(group: str) -> list[Option]:
    """The options of ``group``, by name."""
    return [Option(group, path.stem, describe(path)) for path in sorted((CONF / group).glob("*.yaml"))]


def describe(path: Path) -> str:
    """The first comment line of a YAML file that is not an ``@package`` directive, or an empty string."""
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("# ").strip()
        if not text.startswith("@package"):
            return text
    return ""
