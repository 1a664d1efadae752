from __future__ import annotations

from pathlib import Path

import pytest

from runners.sweep import progress
from tests.runners.conftest import FAKE_CELL, Command, records, start

TIMES = ("started", "seconds", "peak_memory_mb")


def test_one_cell_leaves_one_record(command: Command, tmp_path: Path) -> None:
    code, out, _ = command("run", *FAKE_CELL, "defense=gradient_noise", "seed=3")
    (record,) = records(tmp_path)
    assert code == 0
    assert record["key"] in out
    assert record["status"] == "ok"
    assert record["config"]["threat"]["risk"] == 0.5, "by_scale gives the value for smoke"
    assert record["facts"] == {
        "family": "gradient_leakage",
        "setting": "collaboration",
        "surface": "uploads",
        "headline": "ssim",
        "control": None,
        "floor": {"metric": "ssim", "at_least": 0.1},
        "adaptive": False,
    }
    assert (tmp_path / record["media"]["images"]).is_file()
    assert record["versions"]["components"]["threat/fake"]["version"] == 1
    assert len(record["data"]) == 64


def test_the_same_seed_gives_the_same_record_apart_from_times(command: Command, tmp_path: Path) -> None:
    seen = []
    for extra in ((), ("threads=2", "cache=false")):
        command("run", *FAKE_CELL, *extra)
        seen.append({name: value for name, value in records(tmp_path)[0].items() if name not in TIMES})
        seen[-1]["diagnostics"].pop("shared_seconds", None)  # a time too, and there is no cache in the second
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("threat=leakage_dgl",), ["threat 'leakage_dgl'", "leakage_dlg"]),
        (("threat.does=succeed", "threat.slep=3"), ["'threat.slep'", "did you mean sleep?"]),
        (("thraet=fake",), ["'thraet'", "did you mean threat"]),
        (("threat.sleep=long",), ["threat.sleep must be a number, got 'long'"]),
        (("threat.risk=-1",), ["threat.risk must not be negative, got -1"]),
        (("seed=one",), ["seed must be a whole number, got 'one'"]),
        (("seed==1",), ["'seed==1' is not an override"]),
        (("device=tpu",), ["device must be auto, cpu, cuda or cuda:N, got 'tpu'"]),
        (("device=cuda:99",), ["device=cuda:99, but this machine has", "use device=cpu"]),
        (("defense=fake_defense",), ["There is no defense 'fake_defense'"]),
        (("threat=fake_input", "defense=gradient_noise"), ["'inputs'", "screen_inputs", "GradientNoise"]),
        (("threat.risk=nan",), ["parameters must be finite numbers"]),
        (("threat._target_=os.system",), ["threat._target_=os.system is not allowed"]),
        (("dataset.sizes.owner=${nowhere}",), ["dataset cannot be resolved"]),
    ],
)
def test_a_mistake_is_answered_in_a_sentence(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    code, _, error = command("run", *FAKE_CELL, *arguments)
    assert code == 2
    assert len(error.splitlines()) == 1, error
    for word in words:
        assert word in error
    assert records(tmp_path) == []


def test_missing_data_is_answered_with_the_place(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GAUNTLET_DATA", raising=False)
    code, _, error = command("run", "dataset=mnist", "threat=leakage_control_mean")
    assert code == 2
    assert "data.root" in error and "GAUNTLET_DATA" in error


def test_a_cell_that_fails_is_recorded_with_its_traceback(command: Command, tmp_path: Path) -> None:
    code, _, error = command("run", *FAKE_CELL, "threat.does=fail")
    (record,) = records(tmp_path)
    assert code == 1
    assert record["status"] == "failed"
    assert record["reason"].endswith("ZeroDivisionError: told to fail") and "fakes.py" in record["reason"]
    assert record["reason"] in error
    assert record["facts"]["headline"] == "ssim"


@pytest.mark.parametrize("does", ["fill_gpu", "fill_memory", "allocate_too_much"])
def test_out_of_memory_is_recorded_with_the_remedy(command: Command, tmp_path: Path, does: str) -> None:
    code, _, error = command("run", *FAKE_CELL, f"threat.does={does}")
    (record,) = records(tmp_path)
    assert (code, record["status"]) == (1, "failed")
    assert record["reason"].startswith("out of memory: lower the batch size") and record["reason"] in error


def test_divergence_has_its_own_status(command: Command, tmp_path: Path) -> None:
    code, _, _ = command("run", *FAKE_CELL, "threat.does=diverge")
    (record,) = records(tmp_path)
    assert (code, record["status"], record["reason"]) == (1, "diverged", "told to diverge")


@pytest.mark.ci
def test_a_cell_has_a_time_limit(command: Command, tmp_path: Path) -> None:
    code, _, _ = command("run", *FAKE_CELL, "threat.sleep=60", "time_limit=0.3")
    (record,) = records(tmp_path)
    assert (code, record["status"], record["reason"]) == (1, "timeout", "stopped after time_limit=0.3 s")
    assert record["seconds"] < 30


def test_a_planted_nan_becomes_null_with_a_reason(command: Command, tmp_path: Path) -> None:
    code, out, _ = command("run", *FAKE_CELL, "threat.does=lose")
    (record,) = records(tmp_path)
    assert "risk     ssim                     -\n" in out and "note     risk.ssim is nan\n" in out
    assert (code, record["status"], record["risk"], record["reason"]) == (0, "ok", {"ssim": None}, "risk.ssim is nan")


@pytest.mark.ci
def test_a_model_that_learned_nothing_is_told_so(command: Command) -> None:
    cell = ("threat=leakage_labels", "setting.victims=1", "setting.rounds=1")
    _, idle, _ = command("run", *cell, "setting.lr=1e-6")
    _, busy, _ = command("run", *cell, "setting.lr=0.2", "setting.rounds=20", "model=mlp")
    assert "The model learned nothing: the most frequent class is 0.10" in idle
    assert "learned nothing" not in busy


def test_a_long_cell_says_that_it_is_played(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SAY_SECONDS", 0.2)
    code, _, told = command("run", *FAKE_CELL, "threat.sleep=1")
    assert code == 0 and "fake vs none on fake/fake/smoke, seed 0: playing for " in told
    assert command("run", *FAKE_CELL, "seed=1", "threat.sleep=0")[2].count("playing") <= 1


@pytest.mark.parametrize("line", ["defense=[a", "threat.x='a", "threat"])
def test_what_is_no_override_is_told_with_the_remedy(command: Command, line: str) -> None:
    code, _, error = command("run", *FAKE_CELL, line)
    assert code == 2 and "Exception" not in error
    assert error.startswith(f"{line!r} is not an override") and "key=value" in error


@pytest.mark.ci
def test_a_process_of_its_own_says_no_more_than_the_sentence(tmp_path: Path) -> None:
    process = start("run", tmp_path, "threat=leakage_analytic")
    _, error = process.communicate()
    assert process.returncode == 2
    assert error.splitlines() == ["AnalyticFC needs model.first_layer=linear, but here it is conv."]
