from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from runners.store.records import Record, Store, StoreError, finite, write_atomically


def record(key: str = "ab" * 32, **fields: Any) -> Record:
    empty: dict[str, Any] = dict(
        sweep=None, status="ok", reason="", config={}, facts={}, seed=0, started="", seconds=1.0,
        peak_memory_mb=None, device="cpu", versions={}, data=None,
    )  # fmt: skip
    return Record(key=key, **{**empty, **fields})


def test_a_record_survives_the_round_trip(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.write(record(risk={"ssim": 0.1 + 0.2}, utility={"accuracy": None}))
    assert path == tmp_path / "records" / "ab" / f"{'ab' * 32}.json"
    found = store.read("ab" * 32)
    assert found is not None
    assert found["risk"]["ssim"] == 0.1 + 0.2
    assert found["utility"] == {"accuracy": None}
    assert store.read("cd" * 32) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="Out of range"):
        store.write(record(risk={"ssim": value}))
    assert list(store.all()) == []


def test_finite_tells_what_it_dropped() -> None:
    clean, lost = finite("risk", {"a": 1.0, "b": float("nan"), "c": [1.0, float("inf")], "d": "text"})
    assert clean == {"a": 1.0, "b": None, "c": [1.0, None], "d": "text"}
    assert lost == ["risk.b is nan", "risk.c has values that are not finite"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_record_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    store = Store(tmp_path)
    path = store.write(record(reason="old"))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, broken, full)
    with pytest.raises(StoreError, match="could not be written: No space left on device"):
        store.write(record(reason="new"))
    monkeypatch.undo()
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert json.loads(path.read_text())["reason"] == "old"


def test_a_file_is_never_seen_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "file"
    seen = []
    replace = os.replace

    def look(source: str, target: Path) -> None:
        seen.append((path.exists(), Path(source).parent == path.parent, Path(source).read_bytes()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    write_atomically(path, b"all of it")
    assert seen == [(False, True, b"all of it")]
    assert path.read_bytes() == b"all of it"


def test_only_ok_and_diverged_are_finished(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for status, finished in {"ok": True, "diverged": True, "failed": False, "timeout": False}.items():
        store.write(record(status=status))
        assert store.finished("ab" * 32) is finished
    assert not store.finished("cd" * 32)


def test_find_wants_one_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(record("ab" * 32))
    store.write(record("ab" + "cd" * 31))
    assert store.find("abcd")["key"] == "ab" + "cd" * 31
    with pytest.raises(StoreError, match="2 records in .* begins with 'ab'"):
        store.find("ab")
    with pytest.raises(StoreError, match="No record in"):
        store.find("ff")


def test_a_broken_record_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.write(record())
    path.write_text("{")
    with pytest.raises(StoreError, match=path.name):
        list(store.all())
