"""Tests that every block of every sweep names components that exist, and options that these have.

The default tier reads the files alone, for every component of every block; ``-m slow`` composes and judges cells of
each block, in which every value of every axis comes up.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from benchmark.errors import ConfigError
from runners.config.identity import SINGLE
from runners.sweep.blocks import blocks as flat
from runners.sweep.judge import Judge
from runners.sweep.plan import _in_grammar, threats_of
from tests.runners.conftest import ROOT, composed

CONF = ROOT / "conf"
GROUPS = (*SINGLE, "defense")
SWEEPS = sorted(CONF.glob("sweep/**/*.yaml"))
LISTS = OmegaConf.load(CONF / "lists.yaml")


@cache
def read(path: Path) -> dict[str, Any]:
    found = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(found, dict)
    return {str(name): value for name, value in found.items()}


@cache
def component(group: str, name: str) -> dict[str, Any]:
    """Return the options of a component, with those of the file that it begins from."""
    path = CONF / group / f"{name}.yaml"
    assert path.exists(), f"there is no {group} {name}"
    own = read(path)
    for entry in own.get("defaults", []):
        if isinstance(entry, str) and entry != "_self_" and not entry.startswith("/"):
            own = OmegaConf.to_container(OmegaConf.merge(component(group, entry), own), resolve=False)  # type: ignore[assignment]
    return own


def brought(threat: str, group: str) -> str | None:
    """Return the option that a threat's file chooses for another group."""
    for entry in component("threat", threat).get("defaults", []):
        for name, value in entry.items() if isinstance(entry, dict) else ():
            if name.startswith(f"override /{group}@"):
                return str(value)
    return None


def values(block: dict[str, Any], axis: str) -> list[Any]:
    value = block.get(axis)
    items = value if isinstance(value, list) else [] if value is None else [value]
    return [each for item in items for each in expanded(axis, item)]


def expanded(axis: str, item: Any) -> list[Any]:
    """Return the options that ``on(...)`` and ``glob(...)`` stand for; any other item by itself."""
    if axis == "threat":
        return [each for threat in threats_of(item) for each in globbed(axis, threat)]
    return globbed(axis, item)


def globbed(axis: str, item: Any) -> list[Any]:
    if not (isinstance(item, str) and item.startswith("glob(")):
        return [item]
    glob = OverridesParser.create().parse_override(f"{axis}={item}").value()
    return glob.filter([path.stem for path in sorted((CONF / axis).glob("*.yaml"))])


def chosen(block: dict[str, Any], group: str) -> list[str]:
    """Return the components of one group in the cells of a block; empty where the files alone do not tell."""
    if named := values(block, group):
        return [str(name) for name in named]
    return [name for threat in values(block, "threat") if (name := brought(threat, group))]


def stacks(block: dict[str, Any]) -> list[list[str]]:
    """Return the stack of defenses of each cell."""
    return [[str(n) for n in one] if isinstance(one, list) else [str(one)] for one in values(block, "defense")]


def problems(block: dict[str, Any]) -> list[str]:
    """Return the names in a block that do not exist."""
    found = []
    for group in SINGLE:
        for name in values(block, group):
            if not (CONF / group / f"{name}.yaml").exists():
                found.append(f"no {group} {name}")
    found += [f"no defense {n}" for stack in stacks(block) for n in stack if not (CONF / f"defense/{n}.yaml").exists()]
    for axis in block if not found else ():
        group, _, option = axis.partition(".")
        if group in SINGLE and option:
            found += [
                f"{group} {name} has no {option}" for name in chosen(block, group) if not has(group, name, option)
            ]
        if group == "defense" and option:
            name, _, option = option.partition(".")
            found += [f"{axis} without {name} in {stack}" for stack in stacks(block) if name not in stack]
            found += [] if has("defense", name, option) else [f"defense {name} has no {option}"]
    return found


def has(group: str, name: str, option: str) -> bool:
    node: Any = component(group, name)
    for part in option.split("."):
        if not isinstance(node, dict):
            return True  # an interpolation or a value: what is in it the file does not tell
        if part not in node:
            return False
        node = node[part]
    return True


def blocks(sweep: Path) -> list[dict[str, Any]]:
    node = OmegaConf.to_container(OmegaConf.merge(LISTS, OmegaConf.load(sweep)), resolve=True)
    assert isinstance(node, dict)
    return flat({str(key): value for key, value in node.items()})


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.stem)
def test_the_blocks_of_a_sweep_name_what_there_is(sweep: Path) -> None:
    for number, block in enumerate(blocks(sweep)):
        assert not problems(block), f"block {number} of {sweep.name}"


def test_a_wrong_name_is_noticed() -> None:
    right = {"threat": ["leakage_dlg", "leakage_idlg"], "threat.adaptive": True, "defense": [["none"], "rmt"]}
    assert not problems(right)
    assert problems({**right, "threat.adaptve": True}) == [f"threat {name} has no adaptve" for name in right["threat"]]  # type: ignore[union-attr]
    assert problems({**right, "defense.rmt.noise": 1.0}) == ["defense.rmt.noise without rmt in ['none']"]
    assert problems({**right, "defense": "rmt", "defense.rmt.nose": 1.0}) == ["defense rmt has no nose"]
    assert problems({**right, "dataset": "digts"}) == ["no dataset digts"]
    assert problems({"threat": "member_lira", "setting.victms": 3}) == ["setting release has no victms"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.stem)
def test_cells_of_every_block_compose(sweep: Path) -> None:
    judge = Judge()
    for block in blocks(sweep):
        axes = {name: values(block, name) for name in block}
        for number in range(max(len(axis) for name, axis in axes.items() if name != "seed")):
            cell = {name: axis[number % len(axis)] for name, axis in axes.items() if name != "seed"}
            judge.refusal(composed(*(f"{name}={_in_grammar(name, [value])}" for name, value in cell.items())))


SHARED = {
    "base": {"dataset": "digits", "seed": 0},
    "bases": {"wide": {"base": "deep", "model": "mlp"}, "deep": {"model": "lenet", "setting.rounds": 5, "seed": 1}},
    "blocks": [{"threat": "leakage_dlg"}, {"base": "wide", "setting.rounds": 7}],
}


def test_the_nearest_value_of_a_key_wins() -> None:
    assert flat(SHARED) == [
        {"dataset": "digits", "seed": 0, "threat": "leakage_dlg"},
        {"dataset": "digits", "seed": 1, "model": "mlp", "setting.rounds": 7},
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"blocks": [{"base": "wied"}]}, "the base 'wied', which the sweep does not define; did you mean wide?"),
        ({"bases": {"wide": {"base": "deep"}, "deep": {"base": "wide"}}}, "begin from each other"),
    ],
)
def test_a_wrong_base_is_told(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
        flat(SHARED | change)


def test_what_all_blocks_share_stands_in_the_base() -> None:
    for sweep in SWEEPS:
        written = read(sweep)["blocks"]
        shared = set.intersection(*(set(block) for block in written)) if len(written) > 1 else set()
        for key in shared - {"base"}:
            assert len({str(block[key]) for block in written}) > 1, f"{key} in {sweep.name} belongs in its base"
