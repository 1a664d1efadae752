"""Every threat meets every defense at smoke scale, or is refused with a reason.

The default tier plays a covering sample with everything shrunk to a few steps: each threat and each defense at least
once. ``-m slow`` plays all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from benchmark.cell import Cell, play, traits
from benchmark.compatibility import refusal
from benchmark.errors import Diverged
from runners import catalogue
from runners.build import ALLOWED, build, locate
from runners.compose import SINGLE
from tests.runners.conftest import composed

FEW = {"iterations": 3, "restarts": 1, "rounds": 3, "epochs": 1, "examiner_epochs": 1, "observations": 2, "victims": 4}
FEW |= {"auxiliary": 8, "trees": 3}
FEW |= {"descent_steps": 3, "proxy_epochs": 1}
FEW |= {"steps": 4, "identity_epochs": 1, "participants": 2, "generators": 2}
FEW |= {"shadows": 4, "mixtures": 40, "image_pairs": 60}
THREATS = [option.name for option in catalogue.options("threat")]
DEFENSES = [option.name for option in catalogue.options("defense")]


def shrink(node: Any) -> Any:
    """The node with every number that only buys quality cut down."""
    if not isinstance(node, dict):
        return node
    return {
        name: min(value, FEW[name]) if name in FEW and isinstance(value, int) else shrink(value)
        for name, value in node.items()
    }


MODEL = {
    "leakage_analytic": ("model=mlp",),
    "leakage_fishing": ("model=mlp",),
    **{
        f"leakage_v_{name}": ("dataset=digits_mirrored",)
        for name in ("latent", "original", "control_shuffled", "control_told")
    },
}
"""Threats that need another model or dataset than their setting's own."""


@cache
def parts(threat: str) -> dict[str, Any]:
    """Shrunk nodes of a cell without a defense."""
    return shrink(composed(f"threat={threat}", "scale=smoke", *MODEL.get(threat, ())).nodes)


@cache
def defense_node(defense: str) -> dict[str, Any]:
    return shrink(composed(f"defense={defense}", "scale=smoke").nodes["defense"][defense])


def reason_of(threat: str, defense: str) -> str | None:
    """Why the two do not meet, from their classes; None when they do."""
    dataset, model, setting, attack = (locate(parts(threat)[group]["_target_"], group, ALLOWED) for group in SINGLE)
    guard = locate(defense_node(defense)["_target_"], "defense", ALLOWED)
    return refusal(setting, attack, [guard], traits(dataset, model))


def covering() -> Iterator[tuple[str, str]]:
    """Pairs that meet: for each threat one defense, the least used so far, and then whatever defense is left."""
    uses = dict.fromkeys(DEFENSES, 0)
    for threat in THREATS:
        meets = [defense for defense in DEFENSES if reason_of(threat, defense) is None]
        chosen = min(meets, key=lambda defense: (uses[defense], defense))
        uses[chosen] += 1
        yield threat, chosen
        for defense in meets:
            if uses[defense] == 0 and threat.startswith(
                ("leakage_control", "reconstruction_control", "evasion_control")
            ):
                uses[defense] += 1  # controls are the cheapest cells
                yield threat, defense


def check(threat: str, defense: str) -> None:
    reason = reason_of(threat, defense)
    if reason is not None:
        assert len(reason) > 30, "a refusal says why"
        return
    dataset, model, setting, attack = (build(parts(threat)[group], group) for group in SINGLE)
    guard = build(defense_node(defense), "defense")
    try:
        outcome, digest = play(Cell(dataset, model, setting, attack, [guard], seed=0))
    except Diverged:
        return  # an honest answer, shown as such
    assert len(digest) == 64
    assert type(attack).headline in outcome.risk
    assert outcome.utility and outcome.cost
    for name, value in {**outcome.utility, **outcome.risk}.items():
        assert math.isfinite(value), f"{name} is {value}"


def test_a_covering_sample_of_the_pairs_plays() -> None:
    pairs = list(covering())
    assert {threat for threat, _ in pairs} == set(THREATS)
    broken = {}
    for threat, defense in pairs:
        try:
            check(threat, defense)
        except Exception as error:  # one broken pair must not hide the others
            broken[f"{threat} x {defense}"] = f"{type(error).__name__}: {error}"
    assert not broken


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("threat", THREATS)
def test_every_pair_plays_or_is_refused(threat: str) -> None:
    for defense in DEFENSES:
        check(threat, defense)
