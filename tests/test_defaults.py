"""Tests of components built by hand: constructors have defaults, and these agree with the YAML files."""

from __future__ import annotations

import importlib
import inspect
from collections import defaultdict
from typing import Any

import pytest
from omegaconf import OmegaConf

from runners.config import catalogue
from tests.options import need_library

GROUPS = ("threat",)

# Parameters without a default, by class, with a value for the test.
MUST_BE_CHOSEN: dict[str, dict[str, Any]] = {
    "ReleasedModelInversion": {"epochs": 1},  # the YAML takes the epochs of the cell's setting
}


def plain_values(option: catalogue.Option) -> tuple[str, dict[str, Any]]:
    """Return the target of a YAML file and its values that need neither a scale nor another node."""
    node: Any = OmegaConf.to_container(
        OmegaConf.load(catalogue.CONF / option.group / f"{option.name}.yaml"), resolve=False
    )
    node.pop("defaults", None)
    target = node.pop("_target_")
    return target, {name: value for name, value in node.items() if not _interpolated(value)}


def _interpolated(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def defaults(kind: type) -> dict[str, Any]:
    """Return a class's keyword defaults; a constructor with ``**options`` passes the rest to its parent's."""
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        for parameter in parameters:
            if parameter.default is not parameter.empty:
                found.setdefault(parameter.name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return found


def comparable(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def by_class() -> dict[str, dict[str, dict[str, Any]]]:
    """Return class path -> option name -> plain values."""
    found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for group in GROUPS:
        for option in catalogue.options(group):
            target, values = plain_values(option)
            found[target][option.name] = values
    return dict(found)


CLASSES = by_class()


def loaded(target: str) -> type:
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("target", CLASSES)
def test_a_class_can_be_built_by_hand(target: str) -> None:
    kind = loaded(target)
    need_library(kind)
    chosen = MUST_BE_CHOSEN.get(kind.__name__, {})
    kind(**chosen)
    if chosen:
        with pytest.raises(TypeError, match=r"missing .* required .*argument"):
            kind()


@pytest.mark.parametrize("target", CLASSES)
def test_defaults_are_those_of_one_of_its_options(target: str) -> None:
    known = defaults(loaded(target))
    differing = {
        option: {
            name: (value, known[name])
            for name, value in values.items()
            if name in known and comparable(known[name]) != value
        }
        for option, values in CLASSES[target].items()
    }
    assert {} in differing.values(), f"(YAML, class) differ in every option: {differing}"
