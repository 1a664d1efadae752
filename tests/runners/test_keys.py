from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runners.config.identity import canonical, component, digest, module_file
from tests.runners.conftest import FAKE_CELL, composed

NOISY = (*FAKE_CELL, "defense=[gradient_noise,gradient_clipping]")


def test_order_of_parameters_does_not_matter() -> None:
    assert digest({"a": 1, "b": {"c": 0.1, "d": None}}) == digest({"b": {"d": None, "c": 0.1}, "a": 1})


def test_nan_has_no_key() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        canonical({"a": float("nan")})


@pytest.mark.parametrize(
    "override", ["store=elsewhere", "device=cuda", "threads=2", "data.root=/data", "cache=false", "time_limit=3"]
)
def test_the_machine_is_not_in_the_key(override: str) -> None:
    assert composed(*NOISY, override).key == composed(*NOISY).key


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "scale=cpu",
        "threat.risk=0.25",
        "threat.adaptive=true",
        "dataset.sizes.owner=3",
        "model.width=3",
        "defense.gradient_noise.std=0.2",
        "+setting.story=another",
    ],
)
def test_every_parameter_is_in_the_key(override: str) -> None:
    assert composed(*NOISY, override).key != composed(*NOISY).key


def test_the_order_of_a_stack_is_in_the_key() -> None:
    turned = composed(*FAKE_CELL, "defense=[gradient_clipping,gradient_noise]")
    assert [part["name"] for part in turned.config["defense"]] == ["gradient_clipping", "gradient_noise"]
    assert turned.key != composed(*NOISY).key


def test_a_new_version_of_a_component_is_a_new_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    keys = []
    for version in (1, 2):
        module = tmp_path / f"component_v{version}.py"
        module.write_text(f"VERSION = {version}\n")
        cell = composed(*FAKE_CELL, f"threat._target_=component_v{version}.X")
        keys.append(cell.key)
        assert cell.config["threat"]["version"] == version
    assert keys[0] != keys[1]


def test_a_version_is_read_without_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "hidden_package" / "inner"
    folder.mkdir(parents=True)
    (folder / "module.py").write_text("VERSION = 7\nraise RuntimeError('imported')\n")
    found = component("hidden_package.inner.module.Class.method")
    assert found is not None
    assert found.version == 7
    assert "hidden_package" not in sys.modules
    assert module_file("no_such_package.module.Class") is None


def test_how_data_are_come_by_is_not_in_the_key() -> None:
    assert composed("dataset=mnist").key == composed("dataset=mnist", "dataset.download=true").key
