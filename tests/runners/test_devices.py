from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock

from benchmark.errors import ConfigError
from runners.sweep import devices

CARDS = ["GPU-a", "GPU-b"]


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    held: dict[str, FileLock] = {}
    monkeypatch.setattr(devices, "_held", held)
    yield
    for lock in held.values():
        lock.release()


def test_each_process_takes_a_card_that_nobody_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [devices._take(CARDS, tmp_path) for _ in range(2)] == [0, 0], "a process keeps what it has"
    monkeypatch.setattr(devices, "_held", mine := {})
    assert devices._take(CARDS, tmp_path) == 1
    assert devices._take(CARDS[::-1], tmp_path) == 0, "known by its name, not by its index"
    mine["GPU-b"].release()
    monkeypatch.setattr(devices, "_held", {})
    assert devices._take(CARDS, tmp_path) == 1, "free again"


def test_only_unnamed_gpus_are_assigned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=CARDS[index]))
    folder = tmp_path / f"gauntlet-gpus-{os.getuid()}"
    folder.mkdir()
    with FileLock(folder / "GPU-a.lock"):
        assert {wanted: devices.assign(wanted) for wanted in ("cpu", "cuda:0", "cuda", "auto")} == {
            "cpu": "cpu",
            "cuda:0": "cuda:0",
            "cuda": "cuda:1",
            "auto": "cuda:1",
        }
    with pytest.raises(ConfigError, match="this machine has 2 GPUs"):
        devices.assign("cuda:2")
