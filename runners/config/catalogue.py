"""What the suite can do, read from the folder ``conf`` without importing any component."""

from __future__ import annotations

import re
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
    """Return the options of ``group`` by name; those of a folder in it (``papers/gan``) come last."""
    folder = CONF / group
    paths = sorted(folder.rglob("*.yaml"), key=lambda path: (len(path.parts), path))
    return [Option(group, path.relative_to(folder).with_suffix("").as_posix(), describe(path)) for path in paths]


def describe(path: Path) -> str:
    """Return the first comment line of a YAML file that is not an ``@package`` directive, or an empty string."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("# ").strip()
        if not text.startswith("@package"):
            return text
    return ""


def target(group: str, name: str) -> str | None:
    """Return the ``_target_`` of an option, its own or that of the option of its group that it begins from."""
    text = (CONF / group / f"{name}.yaml").read_text(encoding="utf-8")
    if own := re.search(r"^_target_: *([\w.]+)", text, flags=re.MULTILINE):
        return own[1]
    parents = re.findall(r"^  - (\w+)$", text, flags=re.MULTILINE)
    return next((target(group, parent) for parent in parents if parent != "_self_"), None)
