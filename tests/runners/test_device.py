"""Tests of sessions on a lent machine: what is chosen and packed, what fits the time, and that a call resumes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from runners.device import pack, session
from runners.device.session import DATA, PACKED, QUEUE, RESULTS, STATE, Session, finish, read_tests
from runners.store.records import Store

LOG = """
collected 4 items
tests/accelerator/test_cells.py::test_cells[leakage_dlg-none-True] PASSED  [ 25%]
tests/accelerator/test_waits.py::test_waits[epoch of training]
epoch of training: 305 kernels, 1.0 waits
PASSED                                                                    [ 50%]
tests/accelerator/test_waits.py::test_other SKIPPED (no GPU)              [ 75%]
tests/accelerator/test_waits.py::test_last FAILED                        [100%]
FAILED tests/accelerator/test_waits.py::test_last - assert 5 <= 4
"""


def planned(sweep: str, *seconds: float, dataset: str = "digits") -> list[list[dict[str, Any]]]:
    """Return rows of one cell each."""
    cells = [{"overrides": [f"dataset={dataset}", f"threat.steps={n}", "seed=0"]} for n in range(len(seconds))]
    return pack.rows(sweep, {"to_run": cells, "cost": {"seconds": list(seconds)}})


def test_outcomes_and_waits_are_read_from_the_log_of_the_tests() -> None:
    outcomes, waits = read_tests(LOG)
    assert {name.rpartition("::")[2]: outcome for name, outcome in outcomes.items()} == {
        "test_cells[leakage_dlg-none-True]": "PASSED",
        "test_waits[epoch of training]": "PASSED",
        "test_other": "SKIPPED",
        "test_last": "FAILED",
    }
    assert waits == {"epoch of training": (305, 1.0)}


def test_the_sweep_with_the_fewest_rows_comes_first_with_its_cheapest_row() -> None:
    plans = {
        "a": {"rows": planned("a", 5.0, 1.0), "played": 0},
        "b": {"rows": planned("b", 3.0, 2.0, 9.0), "played": 1},
    }
    queue = pack.by_value(plans)
    assert [(cell["sweep"], cell["seconds"]) for cell in queue] == [("a", 1), ("a", 5), ("b", 2), ("b", 3), ("b", 9)]


def test_seeds_of_a_row_stay_together() -> None:
    lines = [[f"threat={threat}", f"seed={seed}", "store=x"] for seed in (0, 1) for threat in ("p", "q")]
    told = {"to_run": [{"overrides": cell} for cell in lines], "cost": {"seconds": [4.0, 1.0, 4.0, 1.0]}}
    assert [[cell["overrides"] for cell in row] for row in pack.rows("s", told)] == [
        [[f"threat={threat}", f"seed={seed}"] for seed in (0, 1)] for threat in ("q", "p")
    ]


def test_data_travel_as_far_as_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name, size in (("small", 100), ("large", 9000)):
        (data / name).write_bytes(random.Random(0).randbytes(size))
    monkeypatch.setattr(pack, "files_read", lambda cell, _: [cell["overrides"][0].partition("=")[2]])
    queue = [cell for name in ("large", "small", "small") for row in planned("s", 1.0, dataset=name) for cell in row]
    kept = pack.with_data(queue, data, tmp_path / DATA, megabytes=0.002)
    assert [cell["overrides"][0] for cell in kept] == ["dataset=small"] * 2
    with tarfile.open(tmp_path / DATA) as tar:
        assert tar.getnames() == ["small"]


def test_what_is_read_under_a_folder_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("there/a", "there/b", "c"):
        (tmp_path / name).write_text("x")
    with pack.opened_under(tmp_path / "there") as found:
        assert (tmp_path / "there/a").read_text() + (tmp_path / "c").read_text() == "xx"
    (tmp_path / "there/b").read_text()
    assert found == {"a"}


def test_a_child_ends_with_its_time() -> None:
    started = time.monotonic()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    assert finish(child, 0.2) is None and child.returncode is not None
    assert time.monotonic() - started < 30


def test_a_call_goes_on_where_the_last_one_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: dict[str, list[str]] = {}

    def child(self: Session, name: str, line: list[str], seconds: float) -> int | None:
        lines[name] = line
        (self.into / "tests.log").write_text(LOG)
        if name == "bench":
            told = [{"path": "krum", "plain_over_fast": 2.0}, {"path": "job_pgd", "fast_seconds": 1.5}]
            (self.into / "bench.json").write_text(json.dumps({"machine": {"device": "cpu"}, "paths": told}))
        return None if name == "tests" else 0

    monkeypatch.setattr(Session, "child", child)
    monkeypatch.setattr(session, "HOT_PATHS", dict.fromkeys(["krum", "jsma", "job_pgd"]))
    for call in range(2):
        assert Session("cpu", 1.0, tmp_path, tmp_path / "none", None).run() == 1, "a test failed"
        deselected = [word for word in lines["tests"] if word.startswith("--deselect")]
        assert len(deselected) == (3 if call else 0), "what passed is not run again"
        assert ("krum" in lines["bench"]) is (call == 0)
    told = capsys.readouterr().out
    assert "krum: plain 2.00x on cpu" in told and "job_pgd: 1.50 s on cpu" in told
    assert not json.loads((tmp_path / STATE).read_text())["tests"]["complete"]
    assert (tmp_path / RESULTS).exists()


@pytest.mark.slow
def test_cells_are_played_and_packed_in_time(tmp_path: Path) -> None:
    carried = tmp_path / "carried"
    carried.mkdir()
    quick = {"overrides": ["threat=leakage_control_mean", "setting.rounds=1", "sweep=demo"], "seconds": 1.0}
    endless = {"overrides": ["threat=leakage_dlg", "threat.iterations=10000000", "sweep=demo"], "seconds": 1.0}
    (carried / QUEUE).write_text(json.dumps([quick, endless]))
    started = time.monotonic()
    assert Session("cpu", 1.0, tmp_path / "found", carried, None, steps=["cells"]).run() == 0
    assert time.monotonic() - started < 70
    (record,) = Store(tmp_path / "found" / PACKED).all("status", "sweep")
    assert record["status"] == "ok" and record["sweep"] == "demo"
