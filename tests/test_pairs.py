"""Tests that every threat meets every defense at smoke scale, or is refused with a reason.

The default tier plays a covering sample with everything shrunk to a few steps: each threat and each defense at least
once. ``-m slow`` plays all pairs.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from benchmark.cell import Cell, play, traits
from benchmark.compatibility import refusal
from benchmark.errors import ConfigError, DataMissing, Diverged, Refused
from benchmark.settings.base import Artifact, ArtifactCache, no_cache
from benchmark.settings.collaboration import training
from runners.config import catalogue
from runners.config.build import build, locate
from runners.config.compose import register
from runners.config.identity import SINGLE
from runners.config.loader import SweepLoader
from runners.sweep.plan import overrides
from tests import options

FEW = {"iterations": 3, "restarts": 1, "rounds": 3, "epochs": 1, "examiner_epochs": 1, "observations": 2, "victims": 4}
FEW |= {"auxiliary": 8, "trees": 3}
FEW |= {"descent_steps": 3, "proxy_epochs": 1}
FEW |= {"steps": 4, "identity_epochs": 1, "participants": 2, "generators": 2}
FEW |= {"trials": 2, "shadows": 4, "mixtures": 40, "image_pairs": 60, "draws": 3}
ROOT = Path(os.environ["GAUNTLET_DATA"]) if "GAUNTLET_DATA" in os.environ else None
THREATS = [option.name for option in catalogue.options("threat")]
DEFENSES = [option.name for option in catalogue.options("defense")]


def shrink(node: Any) -> Any:
    """Return the node with smaller values of every number that only buys quality."""
    if not isinstance(node, dict):
        return node
    if "references" in node:  # of a service: fewer models that are screened, and the rate that so few still reach
        node = node | {"references": 3, "population": 2, "false_alarm_rate": 0.25}
    return {
        name: min(value, FEW[name]) if name in FEW and isinstance(value, int) else shrink(value)
        for name, value in node.items()
    }


MODEL = {
    "shift_natural": ("dataset=heart_detectron", "model=xgboost", "setting.batch=10"),
    "leakage_analytic": ("model=mlp",),
    "leakage_fishing": ("model=mlp",),
    "attribute_about_people": ("threat.attackers=[svm,tree]",),  # attribute_strongest plays all five
    "property_inference": ("dataset=digits_mirrored",),
    **{
        f"attribute_{name}": ("dataset.sizes={owner: 300, attacker: 200, public: 100, calibration: 100, test: 100}",)
        for name in ("density_gap", "joint_inversion")
    },
    **{
        f"leakage_v_{name}": ("dataset=digits_mirrored",)
        for name in ("latent", "original", "control_shuffled", "control_told")
    },
}
"""Threats that need another model or dataset than their setting's own, or less of it."""


@cache
def parts(threat: str, model: str = "") -> dict[str, Any]:
    """Return the shrunk nodes of a cell without a defense, with this ``model`` or the threat's own."""
    another = (f"model={model}",) if model else ()
    return shrink(options.cell(f"threat={threat}", *MODEL.get(threat, ()), *another).nodes)


@cache
def defense_node(defense: str) -> dict[str, Any]:
    return shrink(options.node("defense", defense))


@cache  # as are those of defenses: thousands of pairs ask
def classes(threat: str, model: str = "") -> tuple[Any, Any, Any]:
    """Return the classes of the threat and of its setting, and the traits of its data and model."""
    nodes = parts(threat, model)
    dataset, network, setting, attack = (locate(nodes[group]["_target_"], group) for group in SINGLE)
    return setting, attack, traits(dataset, network)


@cache
def guard_of(defense: str) -> Any:
    return locate(defense_node(defense)["_target_"], "defense")


def reason_of(threat: str, defense: str, model: str = "") -> str | None:
    """Why the two do not meet, from their classes; None when they do."""
    setting, attack, found = classes(threat, model)
    return refusal(setting, attack, [guard_of(defense)], found)


@cache
def covering() -> dict[str, list[str]]:
    """Return for each threat the least used of the defenses that it meets; for a control any defense that is left."""
    uses = dict.fromkeys(DEFENSES, 0)
    sample: dict[str, list[str]] = {}
    for threat in THREATS:
        meets = [defense for defense in DEFENSES if reason_of(threat, defense) is None]
        sample[threat] = [min(meets, key=lambda defense: (uses[defense], defense))] if meets else []
        if "_control_" in threat and "gan" not in threat:  # the cheapest cells
            sample[threat] += [defense for defense in meets if uses[defense] == 0 and defense not in sample[threat]]
        for defense in sample[threat]:
            uses[defense] += 1
    return sample


def explained(reason: str) -> None:
    assert len(reason) > 30, "a refusal says why"


def shared_by_defenses() -> ArtifactCache:
    """Return a cache for cells that differ in the defense alone: it keeps artifacts in which no defense took part."""
    kept: dict[tuple[str, ...], Artifact] = {}

    def cache(key: tuple[str, ...], build: Callable[[], Artifact]) -> Artifact:
        if "defense" in key:
            return build()
        if key not in kept:
            kept[key] = build()
        return {name: tensor.clone() for name, tensor in kept[key].items()}

    return cache


def check(
    threat: str,
    defense: str,
    memo: ArtifactCache = no_cache,
    *,
    adaptive: bool = False,
    device: str = "cpu",
    model: str = "",
) -> None:
    reason = reason_of(threat, defense, model)
    if reason is not None:
        explained(reason)
        return
    nodes = parts(threat, model)
    if adaptive:
        nodes = nodes | {"threat": nodes["threat"] | {"adaptive": True}}
    dataset, network, setting, attack = (build(nodes[group], group) for group in SINGLE)
    guard = build(defense_node(defense), "defense")
    try:
        outcome, digest = play(
            Cell(dataset, network, setting, attack, [guard], seed=0), root=ROOT, device=device, cache=memo
        )
    except Diverged:
        return  # an honest answer, shown as such
    except Refused as refused:
        explained(str(refused))  # what only the data or the order of play tell
        return
    except DataMissing as missing:
        pytest.skip(str(missing))
    assert len(digest) == 64
    assert type(attack).headline in outcome.risk
    assert outcome.utility and outcome.cost
    for name, value in {**outcome.utility, **outcome.risk}.items():
        assert math.isfinite(value), f"{name} is {value}"


@pytest.mark.parametrize("threat", THREATS)
def test_a_covering_sample_of_the_pairs_plays(threat: str) -> None:
    options.need_library(locate(parts(threat)["threat"]["_target_"], "threat"))
    assert covering()[threat], "a threat that no defense meets"
    for defense in covering()[threat]:
        check(threat, defense)


def test_the_catalogue_sweep_lists_every_pair() -> None:
    register()
    with initialize_config_module("conf", version_base="1.3"):
        hydra = GlobalHydra.instance().config_loader()
        config = hydra.load_configuration("sweeps", ["sweep=catalogue"], RunMode.MULTIRUN)
        cells = [dict(line.split("=", 1) for line in lines) for lines in overrides(SweepLoader(hydra), config, [])]
    listed = Counter((cell["threat"], cell["defense"]) for cell in cells)
    assert set(listed.values()) == {1}, "each pair once"
    assert set(listed) == {(threat, defense) for threat in THREATS for defense in DEFENSES}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("threat", THREATS)
def test_every_pair_plays_or_is_refused(threat: str) -> None:
    memo = shared_by_defenses()
    for defense in DEFENSES:
        check(threat, defense, memo)


@pytest.mark.parametrize(
    "threat", ["leakage_labels", "leakage_v_control_told", "leakage_robbing_the_fed", "member_participant"]
)
def test_a_model_whose_gradients_are_attacked_is_refused_before_it_is_trained(
    threat: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "federate", lambda *_, **__: pytest.fail("trained in vain"))
    with pytest.raises(ConfigError, match="running statistics"):
        check(threat, "none", model="convnet_bn")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("threat", THREATS)
def test_a_model_without_gradients_plays_or_is_refused(threat: str) -> None:
    options.need_library(locate(parts(threat)["threat"]["_target_"], "threat"))
    for defense in {"none", *covering()[threat]}:
        check(threat, defense, model="random_forest")
