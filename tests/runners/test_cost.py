"""Tests of the cost model: of its arithmetic, and of its errors on published sweeps that it has not seen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from torch import rand
from torch.utils.flop_counter import FlopCounterMode

from runners.config.build import build
from runners.store.records import Store
from runners.sweep.cost import FORWARD, NINE_OF_TEN, PUBLISHED, CostModel, Costs, Measured, features, measured
from tests.runners.conftest import composed
from tests.runners.synthetic import record, store


def cell(seconds: float, *, device: str = "cpu", sweep: str = "s", **setting: float) -> Measured:
    config = record(setting=dict(setting))["config"]
    return Measured(config, device, sweep, count=3, seconds=seconds, peak_memory_mb=100.0)


def test_features_are_levels_and_logarithms_of_counts() -> None:
    usual = {("setting", "collaboration"): math.log(8)}
    found = features(record(setting={"rounds": 10, "lr": 5.0, "batch_size": 4}, defense="none")["config"], usual)
    assert found["threat:leakage_dlg"] == found["defense:none"] == found["dataset:digits"] == 1
    assert found["work:collaboration"] == pytest.approx(math.log(10 * 10 * 4 / 8))  # parties, rounds, batch; no rate
    assert found["work:threat"] == found["work:defense"] == 0.0, "nobody knows what is usual for them"
    assert found["samples:"] == pytest.approx(math.log(700 / 2000))


def test_time_grows_with_a_measured_count_as_measured_and_with_another_by_its_prior() -> None:
    model = CostModel([cell(2.0 * rounds, rounds=rounds) for rounds in (1, 10, 100, 1000)] * 200)
    few, many, longer = model.predict([cell(1, **setting).config for setting in ({"rounds": 5}, {"rounds": 500}, {})])[
        0
    ]
    assert math.exp(many - few) == pytest.approx(100, rel=0.1)
    assert longer < few
    config = cell(1, rounds=5).config
    varied = {**config, "threat": config["threat"] | {"iterations": 100}}
    strange = {**config, "threat": config["threat"] | {"name": "leakage_idlg", "iterations": 100}}
    (known, more, other), deviations = model.predict([config, varied, strange])
    assert more - known == pytest.approx(0.8 * math.log(100), rel=0.1) and deviations[1] > deviations[0]
    assert other == pytest.approx(known, abs=0.5) and deviations[2] > deviations[0]


def test_a_gpu_has_hours_only_where_its_cells_were_measured() -> None:
    cells = [cell(10.0 * rounds, rounds=rounds) for rounds in (1, 3, 9)] * 500
    config = [cell(1, rounds=3).config] * 720
    plain = Costs(cells).forecast(config)
    assert plain.cpu_hours == pytest.approx(6, rel=0.2)
    assert plain.summary()["gpu_hours"] is None and "GPU-hours not measured" in plain.text()
    card = Costs([*cells, cell(3.0, device="NVIDIA H200", rounds=3)]).forecast(config)
    assert card.summary()["gpu_hours"]["NVIDIA H200"] == pytest.approx(0.6, rel=0.2)
    assert card.cpu_hours == plain.cpu_hours


def test_cells_of_one_config_are_measured_together(tmp_path: Any) -> None:
    records = [record(seed=seed) | {"seconds": seconds} for seed, seconds in ((0, 1.0), (1, 4.0))]
    (found,) = measured(Store(store(tmp_path, [*records, record("leakage_idlg", status="failed")])))
    assert (found.count, found.seconds, found.sweep) == (2, pytest.approx(2.0), "test")


@pytest.mark.slow
@pytest.mark.parametrize(("target", "median", "ninety"), [("seconds", 3.5, 25), ("peak_memory_mb", 1.3, 1.6)])
def test_the_errors_on_a_sweep_left_out_are_those_that_a_plan_states(
    target: str, median: float, ninety: float, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = measured(Store(PUBLISHED))
    errors, inside = [], []
    for sweep in sorted({cell.sweep for cell in cells}):
        model = CostModel([cell for cell in cells if cell.sweep != sweep], target)
        left_out = [cell for cell in cells if cell.sweep == sweep]
        expected, deviations = model.predict([cell.config for cell in left_out])
        wrong = np.abs(expected - np.log([getattr(cell, target) for cell in left_out]))
        counts = [cell.count for cell in left_out]
        errors += list(np.repeat(wrong, counts))
        inside += list(np.repeat(wrong <= NINE_OF_TEN * deviations, counts))
    factors = np.exp(np.quantile(errors, [0.5, 0.9]))
    with capsys.disabled():
        print(
            f"\n{target}: factor of error {factors[0]:.2f} (median), {factors[1]:.1f} (90 %); {np.mean(inside):.0%} in"
        )
    assert factors[0] <= median and factors[1] <= ninety
    assert np.mean(inside) >= 0.85, "nine of ten cells lie in the range that a plan states"


@pytest.mark.slow
@pytest.mark.parametrize("name", FORWARD)
def test_the_passes_of_the_networks_are_counted_right(name: str) -> None:
    shape = (1, 256) if name.startswith("conv1d") else (3, 32, 32)
    network = build(composed(f"model={name}", "scale=cpu").nodes["model"], "model")(shape=shape, num_classes=10).eval()
    with FlopCounterMode(display=False) as counter:
        network(rand(1, *shape))
    assert FORWARD[name] == pytest.approx(counter.get_total_flops() / 2e6, rel=0.05, abs=0.01)
