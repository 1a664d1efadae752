"""Tests of wandb without a network or an account, and of stand-ins for one that misbehaves."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runners.sweep import tracking
from tests.runners.conftest import FAKE_CELL, ROOT, Command, records

BLOCK, HEADER = 32768, 7  # of wandb's log file, which is LevelDB's


@pytest.fixture(autouse=True)
def own_tracker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start each test without a helper, and end those that it started."""
    trackers: list[tracking.Tracker] = []
    monkeypatch.setattr(tracking, "_trackers", trackers)
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield
    for tracker in trackers:
        tracker.close()


def stub(folder: Path, monkeypatch: pytest.MonkeyPatch, init: str) -> None:
    """Put a package ``wandb`` with this ``init`` in front of the real one for the helper process."""
    text = "import os, time\ndef Settings(**given): ...\nclass api:\n    api_key = None\n"
    (folder / "stub" / "wandb").mkdir(parents=True)
    (folder / "stub" / "wandb" / "__init__.py").write_text(f"{text}def init(**given):\n    {init}\n")
    monkeypatch.setenv("PYTHONPATH", str(folder / "stub"))


def chunks(path: Path) -> Iterator[bytes]:
    """Yield the documents in a ``.wandb`` file."""
    content, at, whole = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(content):
        left = BLOCK - at % BLOCK
        if left < HEADER:
            at += left
            continue
        size, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        if kind == 0:
            break
        whole += content[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if kind in (1, 4):  # complete, or the last part
            yield whole
            whole = b""


def read_back(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return config and last summary of an offline run; run in a process of its own, because wandb warns at import."""
    code = """
import json, sys, warnings
warnings.simplefilter("ignore")
from wandb.proto.wandb_internal_pb2 import Record
config, history = {}, {}
for line in sys.stdin:
    record = Record.FromString(bytes.fromhex(line))
    if record.HasField("run"):
        config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
    if record.HasField("history"):
        history |= {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
print(json.dumps([config, history]))
"""
    text = "\n".join(chunk.hex() for chunk in chunks(path))
    answer = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, text=True, check=True)
    config, history = json.loads(answer.stdout)
    return config, history


@pytest.mark.ci
def test_an_offline_run_holds_config_numbers_pictures_and_a_row(command: Command, tmp_path: Path) -> None:
    code, _, error = command("run", *FAKE_CELL, "logger=wandb", "seed=3")
    assert (code, error) == (0, "")
    (record,) = records(tmp_path)
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    (log,) = folder.glob("*.wandb")
    tracking._trackers[0].close()
    config, history = read_back(log)
    assert config["key"] == record["key"]
    assert (config["seed"], config["threat"]) == (3, record["config"]["threat"])
    assert history["risk/ssim"] == record["risk"]["ssim"]
    assert history["utility/test_accuracy"] == record["utility"]["test_accuracy"]
    picture = folder / "files" / history["pictures/images.path"]
    assert picture.read_bytes() == (tmp_path / record["media"]["images"]).read_bytes()
    table = json.loads((folder / "files" / history["cells.path"]).read_text())
    row = dict(zip(table["columns"], table["data"][0], strict=True))
    assert (row["key"], row["status"], row["defense"]) == (record["key"], "ok", "none")
    assert row["risk/ssim"] == pytest.approx(record["risk"]["ssim"])


@pytest.mark.ci
def test_wandb_is_told_nothing_of_the_machine(command: Command, tmp_path: Path) -> None:
    assert command("run", *FAKE_CELL, "logger=wandb")[0] == 0
    tracking._trackers[0].close()
    files = [path for path in (tmp_path / "wandb").rglob("*") if path.is_file()]
    written = b"".join(path.read_bytes() for path in files)
    assert b"test_accuracy" in written
    names = (sys.executable, str(ROOT), os.uname().release, f'"{socket.gethostname()}"', f"\x12{socket.gethostname()}")
    for name in names:  # in quotes as JSON has it, or with a length before it as wandb's log has it
        assert name.encode() not in written, name


@pytest.mark.ci
@pytest.mark.parametrize(
    ("init", "limit", "words"),
    [
        ("raise RuntimeError('told to\\nfail')", 10.0, "RuntimeError: told to fail"),
        ("raise SystemExit(3)", 10.0, "SystemExit: 3"),
        ("os._exit(1)", 10.0, "its process died"),
        ("time.sleep(600)", 0.5, "no answer within 0.5 s"),
    ],
)
def test_a_wandb_that_misbehaves_costs_a_warning(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: str, limit: float, words: str
) -> None:
    stub(tmp_path, monkeypatch, init)
    monkeypatch.setattr(tracking, "LIMIT_SECONDS", limit)
    started = time.monotonic()
    code, _, error = command("run", "--multirun", *FAKE_CELL, "logger=wandb", "seed=0,1")
    assert time.monotonic() - started < 15
    assert code == 0
    assert [record["status"] for record in records(tmp_path)] == ["ok"] * 2
    assert error.count("logger=wandb is given up") == 1
    assert words in error
    assert tracking._trackers[0].helper is None, "nothing is left running"


def test_an_unknown_logger_is_a_mistake(command: Command, tmp_path: Path) -> None:
    for name in ("run", "sweep"):
        code, _, error = command(name, *FAKE_CELL, "logger=wandbb", *(["sweep=fake"] if name == "sweep" else []))
        assert code == 2
        assert "logger must be none or wandb, got 'wandbb'" in error
    assert records(tmp_path) == []


def test_wandb_is_imported_by_nobody_else() -> None:
    code = "import sys, runners.run, runners.sweep.sweep, runners.sweep.execute; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
