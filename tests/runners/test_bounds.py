"""Tests that parameters out of bounds are refused before anything runs, with the sentence of the annotation."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import ConfigError
from benchmark.parameters import constructor_hints, described
from runners.config import catalogue
from runners.config.build import build, locate
from tests.options import node
from tests.runners.conftest import Command, records

COUNT, ZERO, TWO = (f"a whole number of at least {least}" for least in (1, 0, 2))

REFUSED = [
    ("setting", "collaboration", "rounds", -1, COUNT),
    ("setting", "collaboration", "rounds", 0, COUNT),
    ("setting", "collaboration", "rounds", 2.5, COUNT),
    ("setting", "collaboration", "rounds", True, COUNT),
    ("setting", "collaboration", "batch_size", 0, COUNT),
    ("setting", "collaboration", "batch_size", -5, COUNT),
    ("setting", "collaboration", "lr", 0, "above 0"),
    ("setting", "collaboration", "lr", -1, "above 0"),
    ("setting", "collaboration", "parties", 0, COUNT),
    ("setting", "collaboration", "victims", 0, COUNT),
    ("setting", "collaboration", "victim_batch_size", 0, COUNT),
    ("setting", "collaboration", "local_steps", 0, COUNT),
    ("setting", "collaboration", "fraction", 0, "in (0, 1]"),
    ("setting", "collaboration", "fraction", 1.5, "in (0, 1]"),
    ("setting", "collaboration", "model_state", "half", "untrained or trained"),
    ("setting", "collaboration", "dirichlet_alpha", -0.5, "above 0 or null"),
    ("setting", "collaboration", "momentum", 1, "in [0, 1)"),
    ("setting", "collaboration", "weight_decay", -0.1, "at least 0"),
    ("setting", "collaboration", "partition", "odd", "one of mixed, by_class, one_class_apart"),
    ("setting", "collaboration", "apart", -1, ZERO),
    ("setting", "collaboration", "spectator", 1, "true or false"),
    ("setting", "deployment", "epochs", 0, COUNT),
    ("setting", "deployment", "lr", -1, "above 0"),
    ("setting", "deployment", "victims", 0, COUNT),
    ("setting", "deployment", "targets", 0, f"{COUNT} or null"),
    ("setting", "deployment", "false_alarm_rate", 1, "in [0, 1)"),
    ("setting", "deployment", "radius", 0, "above 0"),
    ("setting", "deployment", "batch", 0, COUNT),
    ("setting", "deployment", "draws", -2, COUNT),
    ("setting", "release", "epochs", -1, COUNT),
    ("setting", "release", "examiner_epochs", 0, COUNT),
    ("setting", "release", "victims", 0, COUNT),
    ("setting", "release", "candidates", 1, TWO),
    ("setting", "service", "epochs", 0, COUNT),
    ("setting", "service", "lr", 0.0, "above 0"),
    ("setting", "service", "victims", 1, f"{TWO} or null"),
    ("setting", "service", "population", 0, COUNT),
    ("setting", "service", "false_alarm_rate", 0, "in (0, 1)"),
    ("dataset", "digits", "sizes", 5, f"a mapping (each value {ZERO} or null) or null"),
    ("dataset", "digits_grouped", "classes", 1, "a whole number in [2, 10]"),
    ("dataset", "att_faces", "side", 0, COUNT),
    ("model", "mlp", "hidden", 128, f"a list (each item {COUNT})"),
    ("model", "convnet", "hidden", 0, COUNT),
    ("model", "papernot_cnn", "dropout", 1.0, "in [0, 1)"),
    ("model", "random_forest", "trees", 0, COUNT),
    ("model", "resnet18", "norm", "layer", "group or batch"),
    ("threat", "leakage_dlg", "iterations", -5, COUNT),
    ("threat", "leakage_dlg", "observations", 0, COUNT),
    ("threat", "leakage_dlg", "observations", -1, COUNT),
    ("threat", "leakage_dlg", "restarts", 0, COUNT),
    ("threat", "leakage_dlg", "adaptive", "yes", "true or false"),
    ("threat", "poison_badnets", "fraction", 1, "in [0, 1)"),
    ("threat", "poison_badnets", "target", -1, ZERO),
    ("threat", "poison_badnets", "share", 2, "in [0, 1]"),
    ("threat", "evasion_pgd", "eps", 0, "above 0"),
    ("threat", "evasion_pgd", "steps", 0, COUNT),
    ("threat", "member_lira", "shadows", 2, "a whole number of at least 4"),
    ("threat", "reconstruction_vicious_hidden", "width", 0, COUNT),  # of its parent's constructor
    ("defense", "dp_sgd", "max_norm", 0, "above 0"),
    ("defense", "dp_sgd", "noise_multiplier", -1, "at least 0"),
    ("defense", "dp_sgd", "delta", 0, "in (0, 1)"),
    ("defense", "dp_sgd", "delta", 1, "in (0, 1)"),
    ("defense", "krum", "f_assumed", -1, f"{ZERO} or null"),
    ("defense", "gradient_noise", "std", "much", "a number of at least 0"),
    ("defense", "gradient_noise", "distribution", "cauchy", "gaussian or laplace"),
    ("defense", "gradient_pruning", "ratio", 1.0, "in [0, 1)"),
    ("defense", "output_top_k", "k", 0, COUNT),
    ("defense", "instahide", "k", 1, TWO),
    ("defense", "pooled", "epochs", -1, COUNT),
    ("defense", "safenet", "tolerated", 0.5, "in [0, 0.5)"),
    ("defense", "stimuli", "epochs", 0, COUNT),
]


@pytest.mark.parametrize(("group", "option", "parameter", "value", "words"), REFUSED)
def test_a_value_out_of_bounds_is_refused(group: str, option: str, parameter: str, value: Any, words: str) -> None:
    bad = node(group, option) | {parameter: value}
    path = f"defense.{option}" if group == "defense" else group
    with pytest.raises(ConfigError) as caught:
        build(bad, path)
    assert str(caught.value) == f"{path}.{parameter} must be {words}, got {value!r}."


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("setting.rounds=-1", f"setting.rounds must be {COUNT}, got -1."),
        ("setting.batch_size=0", f"setting.batch_size must be {COUNT}, got 0."),
        ("setting.lr=-1", "setting.lr must be above 0, got -1."),
        ("setting.parties=0", f"setting.parties must be {COUNT}, got 0."),
        ("setting.order=odd", "setting.order must be fedavg or roundrobin, got 'odd'."),
        ("dataset.sizes.test=0", "dataset.sizes.test must be a whole number of at least 1"),
        ("dataset.sizes.owner=-1", f"dataset.sizes.owner must be {ZERO} or null, got -1."),
        ("threat.observations=0", f"threat.observations must be {COUNT}, got 0."),
    ],
)
def test_a_run_refuses_and_records_nothing(change: str, sentence: str, command: Command, tmp_path: Path) -> None:
    code, _, error = command("run", "threat=leakage_dlg", "dataset=digits", "scale=smoke", change)
    assert code == 2
    assert " ".join(sentence.split()) in " ".join(error.split())
    assert records(tmp_path) == []


def test_whole_numbers_may_be_written_as_floats() -> None:
    threat = build(node("threat", "leakage_dlg") | {"iterations": 30.0}, "threat")
    assert repr(threat.iterations) == "30"


@pytest.mark.parametrize("group", ["dataset", "model", "setting", "threat", "defense"])
def test_every_number_has_an_annotation_that_is_checked(group: str) -> None:
    targets = {locate(node(group, option.name)["_target_"], group) for option in catalogue.options(group)}
    for component in targets:
        hints = constructor_hints(component)
        for name, parameter in inspect.signature(component).parameters.items():
            if parameter.kind is not parameter.VAR_KEYWORD and name not in (
                "of",
                "measures",
                "recipe",
                "shape",
                "function",
            ):
                assert described(hints[name]), f"{component.__name__}.{name}"
