from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from runners.store.records import Record, Store, StoreError, finite, write_atomically
from tests.runners import synthetic


def record(seed: int = 0, **fields: Any) -> Record:
    return Record(**{**synthetic.record(seed=seed), **fields})


KEY = record().key
OTHER = record(seed=1).key


def test_a_record_survives_the_round_trip(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.write(record(risk={"ssim": 0.1 + 0.2}, utility={"accuracy": None}))
    assert path == tmp_path / "records" / KEY[:2] / f"{KEY}.json"
    found = store.read(KEY)
    assert found is not None
    assert found["risk"]["ssim"] == 0.1 + 0.2
    assert found["utility"] == {"accuracy": None}
    assert store.read(OTHER) is None


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
    for status, finished in {"failed": False, "timeout": False, "diverged": True, "ok": True}.items():
        store.write(record(status=status))
        assert store.finished(KEY) is finished
    assert not store.finished(OTHER)


def test_find_wants_one_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    seeds = range(17)  # two of which share their first digit
    keys = [store.write(record(seed=seed)).stem for seed in seeds]
    assert store.find(keys[3][:40])["seed"] == 3
    digit = next(key[0] for key in keys if [other[0] for other in keys].count(key[0]) > 1)
    with pytest.raises(StoreError, match=f"records in .* begins with '{digit}'"):
        store.find(digit)
    with pytest.raises(StoreError, match="No record in"):
        store.find("../*")
