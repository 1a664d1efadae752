"""Tests that every YAML file of a component composes, imports its target, binds its keywords and has a description."""

from __future__ import annotations

import importlib
import inspect

import pytest

from runners.config import catalogue
from runners.config.build import build, locate
from runners.config.identity import version
from tests import options

COMPONENTS = [
    option for group in ("dataset", "model", "setting", "threat", "defense") for option in catalogue.options(group)
]


@pytest.mark.parametrize("scale", ["smoke", "cpu", "full"])
@pytest.mark.parametrize("option", COMPONENTS, ids=lambda option: f"{option.group}={option.name}")
def test_a_component_can_be_built_from_its_file(option: catalogue.Option, scale: str) -> None:
    cell = options.cell(f"{option.group}={option.name}", scale=scale)
    node = cell.nodes[option.group]
    assert option.description.endswith(".") or len(option.description) > 20, "the first comment line says what it is"
    assert cell.config[option.group] != [] or option.group == "defense"
    if option.group == "defense":
        assert list(node) == [option.name], "the file begins with # @package defense.<its name>"
        node = node[option.name]
    assert version(node["_target_"]) is not None, f"{node['_target_']} has no module-level VERSION"
    options.need_library(locate(node["_target_"], option.group))
    build(node, option.group)


@pytest.mark.parametrize("option", catalogue.options("threat"), ids=lambda option: option.name)
def test_a_threat_brings_the_setting_it_lives_in(option: catalogue.Option) -> None:
    cell = options.cell(f"threat={option.name}")
    module, _, name = cell.nodes["threat"]["_target_"].rpartition(".")
    threat = getattr(importlib.import_module(module), name)
    assert cell.config["setting"]["name"] == threat.setting


@pytest.mark.parametrize("option", COMPONENTS, ids=lambda option: f"{option.group}={option.name}")
def test_a_file_lists_every_parameter_of_its_class(option: catalogue.Option) -> None:
    node = options.node(option.group, option.name)
    wanted = parameters(locate(node["_target_"], option.group))
    if option.group == "model":
        wanted -= {"shape", "num_classes"}  # the game's, not the user's
    if option.group == "threat" and "adaptive" not in node:
        wanted -= {"adaptive"}  # a file without it says that the threat has no adaptive form
    if (
        option.group == "setting"
    ):  # options of their own name these, so that the keys of cells without them never change
        wanted -= {"recipe", "averaged_rounds"} - set(node)
    listed = {name for name in node if not name.startswith("_")}
    assert listed == wanted


def parameters(component: type) -> set[str]:
    """Return the names that a class takes, also those that its constructor passes on to its parent's."""
    found: set[str] = set()
    for owner in component.__mro__:
        if "__init__" in vars(owner):
            own = inspect.signature(vars(owner)["__init__"]).parameters.values()
            found |= {one.name for one in own if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)}
            if not any(one.kind is one.VAR_KEYWORD for one in own):
                break
    return found - {"self"}
