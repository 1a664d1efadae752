"""Tests of the check of parameters: types, bounds, its sentences, and classes that check themselves."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from annotated_types import Ge, Le

from benchmark.data.digits import Digits
from benchmark.defenses.collaboration.clients.gradient_clipping import GradientClipping
from benchmark.defenses.collaboration.clients.gradient_noise import GradientNoise
from benchmark.errors import ConfigError
from benchmark.models.mlp import MLP
from benchmark.parameters import Count, CountOrZero, Fraction, Positive, Rate, Sizes, described, validated
from benchmark.settings.release.measures.scenarios import Scenarios
from benchmark.settings.service.setting import Service
from benchmark.threats.gradient_leakage.dlg import DLG
from benchmark.threats.reconstruction.vicious_evasive import HiddenCarrier


def check(annotation: Any, value: Any) -> Any:
    """Return what a function with one parameter of this annotation is given for ``value``."""

    def takes(x: Any) -> None: ...

    takes.__annotations__["x"] = annotation
    return validated(takes, {"x": value}, "here")["x"]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Count, 1),
        (int, -3),
        (Positive, 2),  # an int is a number
        (Positive | None, None),
        (Rate, 0.5),
        (Literal["a", "b"], "b"),
        (float | str | None, "auto"),
        (Sequence[Count], (1, 2)),
        (Sequence[str], ["fc1"]),
        (Sizes, {"owner": 3, "test": None}),
        (bool, True),
        (np.ndarray, "not looked at"),
        (Mapping[str, np.ndarray], {"x": 1}),
    ],
)
def test_a_fitting_value_is_passed_on_as_it_is(annotation: Any, value: Any) -> None:
    found = check(annotation, value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("annotation", "value", "whole"),
    [
        (Count, 2.0, 2),
        (Count | None, np.int64(3), 3),
        (Sequence[Count], [1.0, 2], [1, 2]),
        (Sizes, {"owner": 3.0}, {"owner": 3}),
    ],
)
def test_one_and_one_point_zero_are_one_number(annotation: Any, value: Any, whole: Any) -> None:
    found = check(annotation, value)
    assert repr(found) == repr(whole)


@pytest.mark.parametrize(
    ("annotation", "value", "sentence"),
    [
        (Count, 0, "here.x must be a whole number of at least 1, got 0."),
        (Count, 1.5, "here.x must be a whole number of at least 1, got 1.5."),
        (Count, True, "here.x must be a whole number of at least 1, got True."),
        (Count, "3", "here.x must be a whole number of at least 1, got '3'."),
        (Count, None, "here.x must be a whole number of at least 1, got None."),
        (CountOrZero | None, -1, "here.x must be a whole number of at least 0 or null, got -1."),
        (Annotated[int, Ge(2), Le(10)], 11, "here.x must be a whole number in [2, 10], got 11."),
        (Positive, 0, "here.x must be above 0, got 0."),
        (Positive, False, "here.x must be a number above 0, got False."),
        (Positive, float("nan"), "here.x must be a number above 0, got nan."),
        (Positive, float("inf"), "here.x must be a number above 0, got inf."),
        (float, float("-inf"), "here.x must be a number, got -inf."),
        (Fraction, 1.01, "here.x must be in [0, 1], got 1.01."),
        (Rate, 1, "here.x must be in (0, 1), got 1."),
        (bool, 1, "here.x must be true or false, got 1."),
        (str, 1, "here.x must be text, got 1."),
        (Literal["a", "b"], "c", "here.x must be a or b, got 'c'."),
        (Literal["a", "b", "c"], 1, "here.x must be one of a, b, c, got 1."),
        (Sequence[Count], [4, 0], "here.x[1] must be a whole number of at least 1, got 0."),
        (Sequence[Count], 4, "here.x must be a list (each item a whole number of at least 1), got 4."),
        (Sequence[str], "fc1", "here.x must be a list (each item text), got 'fc1'."),
        (Sizes, {"owner": -1}, "here.x.owner must be a whole number of at least 0 or null, got -1."),
        (Sizes, 5, "here.x must be a mapping (each value a whole number of at least 0 or null), got 5."),
    ],
)
def test_another_value_is_refused_in_one_sentence(annotation: Any, value: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(annotation, value)
    assert str(caught.value) == sentence


def test_words_for_the_documentation() -> None:
    assert described(Positive | None) == "a number above 0 or null"
    assert described(np.ndarray) == ""


# -- classes built by hand --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: GradientClipping(max_norm=-1), "defense.gradient_clipping.max_norm must be above 0, got -1."),
        (lambda: DLG(iterations=-5), "threat.iterations must be a whole number of at least 1, got -5."),
        (lambda: Digits(sizes={"owner": -1}), "dataset.sizes.owner must be a whole number of at least 0 or null"),
        (lambda: Digits(sizes={"test": 0}), "dataset.sizes.test must be a whole number of at least 1"),
        (lambda: Scenarios(epochs=0), "setting.measures.scenarios.epochs must be a whole number of at least 1, got 0."),
        (lambda: MLP(hidden=[0]), "model.hidden[0] must be a whole number of at least 1, got 0."),
        (lambda: HiddenCarrier(width=0), "threat.width must be a whole number of at least 1, got 0."),
    ],
)
def test_a_class_checks_itself(build: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value).startswith(sentence)


def test_a_class_gets_whole_numbers() -> None:
    assert repr(DLG(iterations=20.0).iterations) == "20"  # type: ignore[arg-type]


def test_a_checked_class_keeps_its_signature_and_can_be_copied() -> None:
    assert list(inspect.signature(GradientNoise).parameters) == ["std", "distribution"]
    noise = GradientNoise(std=0.5)
    assert vars(copy.deepcopy(noise)) == vars(noise) == vars(pickle.loads(pickle.dumps(noise)))


def test_a_partly_given_model_is_checked_when_it_is_built() -> None:
    with pytest.raises(ConfigError, match="model.hidden"):
        partial(MLP, hidden=[-1])(shape=(4,), num_classes=2)


def test_a_missing_or_unknown_parameter_is_the_calls_own_error() -> None:
    with pytest.raises(TypeError, match="missing"):
        Service(epochs=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected"):
        GradientNoise(sdt=1)  # type: ignore[call-arg]
