"""Tests that classes behind a defense, dataset or model can be built by hand, with the values of their YAML."""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from tests.options import need_library

CONF = Path(__file__).parents[1] / "conf"
OPTIONS = sorted(path for group in ("defense", "dataset", "model") for path in (CONF / group).glob("*.yaml"))
MUST_BE_CHOSEN = {"Npz": {"path"}, "Mirrored": {"of"}, "Factory": {"function"}}
NAMED_BY_OPTIONS_ALONE = {"Factory": {"call"}}  # a function that is given by hand needs no name
PRIMARY = {
    "Conv1d": "conv1d",
    "DPGAN": "dp_gan",
    "DeepEnsemble": "ensemble_disagreement",
    "Detectron": "detectron_disagreement",
    "FairAttGAN": "fair_attgan",
    "FairMapping": "fair_mapping",
    "InstaHide": "instahide",
    "LeNet": "lenet",
    "MLP": "mlp",
    "Memoriser": "memoriser",
    "Npz": "npz",
    "Shallow": "random_forest",
    "Stimuli": "stimuli",
    "StridedConvNet": "strided_convnet",
}
"""Class -> the option whose values it defaults to, where several options build the same class."""


def values(path: Path) -> dict[str, Any]:
    found = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def target(path: Path) -> type:
    module, name = values(path)["_target_"].rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def defaults(cls: type) -> dict[str, Any]:
    """Return the default of each parameter, over the constructors that hand unknown keywords on to their parent."""
    found: dict[str, Any] = {}
    for owner in cls.__mro__:
        if "__init__" not in vars(owner):
            continue
        parameters = inspect.signature(owner).parameters.values()
        found = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD} | found
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


def is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(is_plain(part) for part in value.values())
    return not (isinstance(value, str) and "${" in value)


def comparable(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_class_is_built_without_arguments(path: Path) -> None:
    cls = target(path)
    needed = {name for name, default in defaults(cls).items() if default is inspect.Parameter.empty}
    assert needed == MUST_BE_CHOSEN.get(cls.__name__, set())
    need_library(cls)
    if not needed:
        assert isinstance(cls(), cls)


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_plain_values_of_the_yaml_are_the_defaults(path: Path) -> None:
    cls, plain = target(path), {key: value for key, value in values(path).items() if is_plain(value)}
    if PRIMARY.get(cls.__name__, path.stem) != path.stem or cls.__name__ == "Mirrored":
        pytest.skip("another option gives this class its defaults")
    known = defaults(cls)
    if "sizes" in plain:
        assert plain.pop("sizes") == cls.SIZES  # type: ignore[attr-defined]
    chosen = MUST_BE_CHOSEN.get(cls.__name__, set()) | NAMED_BY_OPTIONS_ALONE.get(cls.__name__, set())
    compared = {
        key: value for key, value in plain.items() if not key.startswith("_") and key not in {"defaults", *chosen}
    }
    assert {key: comparable(known[key]) for key in compared} == {k: comparable(v) for k, v in compared.items()}


def test_no_primary_option_is_obsolete() -> None:
    classes = [target(path).__name__ for path in OPTIONS]
    assert {name for name in classes if classes.count(name) > 1} - {"Mirrored"} == set(PRIMARY)


@pytest.mark.parametrize("name", ["conv1d", "convnet", "hitaj_cnn", "knn", "lenet", "lstm", "mlp", "papernot_cnn"])
def test_a_model_takes_samples_of_its_default_shape(name: str) -> None:
    cls = target(CONF / "model" / f"{name}.yaml")
    known = defaults(cls)
    assert cls()(torch.zeros(2, *known["shape"])).shape == (2, known["num_classes"])
