"""Names that depend on content only: the key of a cell, the version and source digest of a component."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


def canonical(value: Any) -> str:
    """One spelling for equal values: sorted keys, no blanks, floats by ``repr``.

    Raises:
        ValueError: ``value`` holds NaN or infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 over the canonical JSON of ``value``, as 64 hex digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


@dataclass(frozen=True)
class Component:
    """What is known of a component's module without importing it.

    Attributes:
        version: its module-level ``VERSION``, or None where it declares none.
        source: SHA-256 of the file, cut to 16 hex digits.
    """

    version: int | None
    source: str


@cache
def component(target: str) -> Component | None:
    """The component that ``target`` (``package.module.Class``) names, or None when there is no such Python file."""
    path = module_file(target)
    if path is None:
        return None
    text = path.read_bytes()
    return Component(_declared_version(ast.parse(text)), hashlib.sha256(text).hexdigest()[:16])


def module_file(target: str) -> Path | None:
    """The Python file of the longest prefix of the dotted name ``target`` that is a module; nothing is imported."""
    top, *rest = target.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return Path(spec.origin) if spec.has_location and spec.origin else None
    for folder in spec.submodule_search_locations:
        for depth in range(len(rest), 0, -1):
            stem = Path(folder, *rest[:depth])
            for path in (stem.with_suffix(".py"), stem / "__init__.py"):
                if path.is_file():
                    return path
    return None


def _declared_version(tree: ast.Module) -> int | None:
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
            if "VERSION" in names and isinstance(statement.value.value, int):
                return statement.value.value
    return None
