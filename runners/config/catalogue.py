"""Options of the suite, read from the folder ``conf`` without importing any component."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from runners.config.syntax import LIBRARIES

CONF = Path(__file__).resolve().parents[2] / "conf"
COMPONENTS = ("dataset", "model", "setting", "threat", "defense")
GROUPS = (*COMPONENTS, "scale", "sweep")


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


@cache
def components() -> frozenset[str]:
    """Return the dotted name of every class that an option of the suite, or a component nested in one, is made of.

    A sweep may add a nested component, e.g. a measure, which no option has by itself.
    """
    paths = [path for group in (*COMPONENTS, "sweep") for path in (CONF / group).rglob("*.yaml")]
    texts = (path.read_text(encoding="utf-8") for path in paths)
    return frozenset(found for text in texts for found in re.findall(r"\b_target_: *['\"]?([\w.]+)", text))


@cache
def target(label: str, provider: str) -> str | None:
    """Return the dotted name of the class that ``label`` means today, or None.

    Args:
        label: ``group/option``, or the class of a component that is nested in another one's parameters.
        provider: the package that the class comes from. Its options are looked for in the suite's ``conf`` and in
            the package itself. A library's classes are identified by its release, so they are not looked for.
    """
    if provider in LIBRARIES:
        return None
    group, _, name = label.rpartition("/")
    if not group:
        return _classes(provider).get(name)
    for path in _files(provider, group, name):
        found = _target(path)
        if found and found.startswith(f"{provider}."):
            return found
    return None


def _files(provider: str, group: str, name: str) -> Iterator[Path]:
    """Yield the YAML files that may describe an option."""
    if (path := CONF / group / f"{name}.yaml").is_file():
        yield path
    for folder in _folders(provider):
        yield from sorted(folder.rglob(f"{group}/{name}.yaml"))


def _target(path: Path) -> str | None:
    """Return the ``_target_`` of a YAML file, or of the options of its group that it begins with."""
    text = path.read_text(encoding="utf-8")
    if line := re.search(r"^_target_: *([\w.]+)", text, flags=re.MULTILINE):
        return line[1]
    bases = [path.with_name(f"{name}.yaml") for name in re.findall(r"^ *- (\w+) *$", text, flags=re.MULTILINE)]
    return next((found for base in bases if base.is_file() and (found := _target(base))), None)


@cache
def _classes(provider: str) -> dict[str, str]:
    """Return every class of a package by its name alone; of two of one name the one with a ``VERSION``."""
    found: dict[str, str] = {}
    for folder in _folders(provider):
        for path in sorted(folder.rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            versioned = re.search(r"^VERSION\b", text, flags=re.MULTILINE) is not None
            module = ".".join([provider, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")
            for name in re.findall(r"^class (\w+)", text, flags=re.MULTILINE):
                if versioned or name not in found:
                    found[name] = f"{module}.{name}"
    return found


@cache
def _folders(provider: str) -> tuple[Path, ...]:
    spec = importlib.util.find_spec(provider)
    return tuple(map(Path, spec.submodule_search_locations or ())) if spec else ()
