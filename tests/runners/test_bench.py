"""Timing hot paths: only what agrees with its oracle is timed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.errors import ConfigError
from runners import bench


def test_a_path_is_timed_against_its_oracle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run_all(["inversion"], tmp_path)
    (result,) = json.loads((tmp_path / "bench.json").read_text())
    assert result["ratio"] == result["plain_cpu_seconds"] / result["fast_cpu_seconds"]
    assert "inversion" in capsys.readouterr().out


def test_a_fast_path_that_is_wrong_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = bench.HotPath(lambda: 2.0, lambda: 1.0, lambda a, b: abs(a - b), 1e-3, "nothing")
    monkeypatch.setitem(bench.HOT_PATHS, "wrong", lambda: wrong)
    with pytest.raises(AssertionError, match="differ by 1"):
        bench.measure("wrong")


def test_an_unknown_path_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="inversion, federated_round"):
        bench.measure("nothing")
