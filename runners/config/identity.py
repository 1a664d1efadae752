"""Identity of a cell: provider, option, ``VERSION`` and parameters of each component, and its key.

No path of a module is part of it, so that a module can be moved or renamed without a change of any key.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.errors import ConfigError
from runners.config.brought import PLACES

SINGLE = ("dataset", "model", "setting", "threat")
NOT_SCIENCE = ("download",)
"""Parameters of components that change how a cell comes by its data and none of its numbers."""
MECHANICS = ("_target_", "_partial_", "_convert_", "_recursive_")
"""Keys by which Hydra is told how to build a component; its positional arguments (``_args_``) are parameters."""
DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+", flags=re.ASCII)
EXACT = 2**53
"""Up to here every whole number is a float as well."""


# -- keys -------------------------------------------------------------------------------------------------------------
def canonical(value: Any) -> str:
    """Return one spelling for equal values: sorted keys, no blanks, floats by ``repr``, 1.0 as 1.

    Raises:
        ValueError: ``value`` holds NaN or infinity.
    """
    return json.dumps(_whole_as_int(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _whole_as_int(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _whole_as_int(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole_as_int(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return int(value)
    return value


def digest(value: Any) -> str:
    """Return SHA-256 over the canonical JSON of ``value``, as 64 hex digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def digest_of(texts: Mapping[str, str]) -> str:
    """Return :func:`digest` of a mapping whose values are spelled already, by :func:`canonical`."""
    spelled = ",".join(f"{json.dumps(name)}:{texts[name]}" for name in sorted(texts))
    return hashlib.sha256(f"{{{spelled}}}".encode()).hexdigest()


# -- from the node of a component to its identity ---------------------------------------------------------------------
def described(name: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the identity of the option ``name`` of a group, whose resolved config is ``node``.

    It is ``{"name": ..., "provider": ..., "version": ..., **parameters}``, where the provider is the package that the
    component comes from; a component nested in the parameters has ``class`` in place of ``name``. Where data or weights
    lie that are named by the digest of their ``content`` is left out.

    Raises:
        ConfigError: a parameter bears one of these names.
    """
    left_out = (*NOT_SCIENCE, *PLACES) if "content" in node else NOT_SCIENCE
    science = {key: value for key, value in node.items() if key not in left_out}
    return _identity({"name": name}, science) if "_target_" in node else {"name": name, **_nested(science)}


def _identity(called: dict[str, str], node: Mapping[str, Any]) -> dict[str, Any]:
    target = str(node["_target_"])
    if not DOTTED.fullmatch(target):
        raise ConfigError(f"_target_ must be the dotted name of a class, e.g. my_package.nets.Net, got {target!r}.")
    identity: dict[str, Any] = {**called, "provider": provider(target), "version": version(target)}
    parameters = {"args" if key == "_args_" else key: node[key] for key in node if key not in MECHANICS}
    if taken := sorted(identity.keys() & parameters.keys()):
        raise ConfigError(f"{target} has a parameter {taken[0]!r}, which the cell's key needs for itself; rename it.")
    return identity | _nested(parameters)


def _nested(node: Any) -> Any:
    if isinstance(node, list):
        return [_nested(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    if "_target_" in node:
        return _identity({"class": class_name(str(node["_target_"]))}, node)
    return {key: _nested(value) for key, value in node.items()}


def targets(nodes: Mapping[str, Any], science: Mapping[str, Any]) -> dict[str, str]:
    """Return the dotted name of every component of a cell by its label: ``group/option``, or the class if nested.

    Args:
        nodes: group -> resolved config; ``defense`` maps an option's name to its config.
        science: the identities of the same components, as in a record's ``config``.
    """
    found: dict[str, str] = {}
    tops = [(f"{group}/{science[group]['name']}", nodes[group]) for group in SINGLE]
    tops += [(f"defense/{name}", node) for name, node in nodes["defense"].items()]
    for label, node in tops:
        for depth, target in _targets(node):
            found[class_name(target) if depth else label] = target
    return dict(sorted(found.items()))


def _targets(node: Any, depth: int = 0) -> Iterator[tuple[int, str]]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield depth, str(node["_target_"])
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _targets(item, depth + 1)


def labelled(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every component of a record's ``config``, also nested ones, by the labels of :func:`targets`.

    A part of a config, e.g. the threat alone, gives the components of that part.
    """
    tops = [(f"{group}/{config[group]['name']}", config[group]) for group in SINGLE if group in config]
    tops += [(f"defense/{node['name']}", node) for node in config.get("defense", ())]
    for label, node in tops:
        yield label, node
        for inner in _inner(list(node.values())):
            yield str(inner["class"]), inner


def _inner(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, Mapping):
        if "class" in node and "provider" in node:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _inner(item)


def provider(target: str) -> str:
    """Return the top-level package of the dotted name ``target``."""
    return target.partition(".")[0]


def class_name(target: str) -> str:
    """Return the last part of the dotted name ``target``."""
    return target.rpartition(".")[2]


# -- modules, without importing them ----------------------------------------------------------------------------------
@cache
def version(target: str) -> int | None:
    """Return the module-level ``VERSION`` beside the class ``target``, or None where there is no file or no such line.

    Nothing is imported.
    """
    path = module_file(target)
    return _declared_version(ast.parse(path.read_bytes())) if path else None


def module_file(target: str) -> Path | None:
    """Return the Python file of the longest prefix of the dotted name ``target`` that is a module, or None."""
    found = module_of(target)
    return found[1] if found else None


def module_of(target: str) -> tuple[str, Path] | None:
    """Return name and file of the longest prefix of the dotted name ``target`` that is a module, without importing."""
    top, *rest = target.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return (top, Path(spec.origin)) if spec.has_location and spec.origin else None
    for folder in spec.submodule_search_locations:
        for depth in range(len(rest), 0, -1):
            stem = Path(folder, *rest[:depth])
            for path in (stem.with_suffix(".py"), stem / "__init__.py"):
                if path.is_file():
                    return ".".join([top, *rest[:depth]]), path
        if (path := Path(folder, "__init__.py")).is_file():
            return top, path
    return None


def _declared_version(tree: ast.Module) -> int | None:
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
            if "VERSION" in names and isinstance(statement.value.value, int):
                return statement.value.value
    return None
