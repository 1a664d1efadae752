"""Tests that every YAML file of a component composes, imports its target, binds its keywords and has a description."""

from __future__ import annotations

import importlib

import pytest

from runners.config import catalogue
from runners.config.build import build
from runners.config.identity import version
from tests.runners.conftest import composed

COMPONENTS = [
    option for group in ("dataset", "model", "setting", "threat", "defense") for option in catalogue.options(group)
]


@pytest.mark.parametrize("scale", ["smoke", "cpu", "full"])
@pytest.mark.parametrize("option", COMPONENTS, ids=lambda option: f"{option.group}={option.name}")
def test_a_component_can_be_built_from_its_file(option: catalogue.Option, scale: str) -> None:
    cell = composed(f"{option.group}={option.name}", f"scale={scale}")
    node = cell.nodes[option.group]
    assert option.description.endswith(".") or len(option.description) > 20, "the first comment line says what it is"
    assert cell.config[option.group] != [] or option.group == "defense"
    if option.group == "defense":
        assert list(node) == [option.name], "the file begins with # @package defense.<its name>"
        node = node[option.name]
    build(node, option.group)
    assert version(node["_target_"]) is not None, f"{node['_target_']} has no module-level VERSION"


@pytest.mark.parametrize("option", catalogue.options("threat"), ids=lambda option: option.name)
def test_a_threat_brings_the_setting_it_lives_in(option: catalogue.Option) -> None:
    cell = composed(f"threat={option.name}")
    module, _, name = cell.nodes["threat"]["_target_"].rpartition(".")
    threat = getattr(importlib.import_module(module), name)
    assert cell.config["setting"]["name"] == threat.setting
