from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from runners.cli import main as cli
from runners.config.catalogue import target
from runners.config.identity import labelled
from runners.store import cache_admin
from runners.store.cache import Cache
from runners.store.records import Store, lock_path
from tests.runners.synthetic import record, store

KEY = ("victim", "model", "defense")


def build() -> dict[str, torch.Tensor]:
    return {"weights": torch.ones(1000)}


def cache_of(root: Path, record: dict[str, Any]) -> Cache:
    """The cache of the cell that left the record."""
    targets = {label: target(label, node["provider"]) for label, node in labelled(record["config"])}
    known = {label: found for label, found in targets.items() if found}
    return Cache(root, record["config"], "cpu", known).on_data(record["data"])


def fill(root: Path, *records: dict[str, Any]) -> None:
    for one in records:
        cache_of(root, one)(KEY, build)


def test_entries_say_what_they_are(tmp_path: Path) -> None:
    fill(tmp_path, record(seed=0), record(seed=1))
    found = list(cache_admin.entries(tmp_path))
    assert [(entry.artifact, entry.parts, entry.device) for entry in found] == [("victim", KEY[1:], "cpu")] * 2
    assert all(4000 < entry.size < 5000 for entry in found)


def test_prune_removes_what_no_record_was_made_from(tmp_path: Path) -> None:
    known, gone = record(seed=0), record(seed=1)
    store(tmp_path, [known])
    fill(tmp_path, known, gone)
    (damaged := tmp_path / "cache" / "ab" / f"{'ab' * 32}.safetensors").parent.mkdir(exist_ok=True)
    damaged.write_bytes(b"half")
    removed, left = cache_admin.prune(Store(tmp_path), None)
    assert sorted(entry.artifact for entry in removed) == ["(damaged)", "victim"]
    assert [entry.path for entry in left] == list(tmp_path.glob("cache/??/*.safetensors"))
    cache = cache_of(tmp_path, known)
    cache(KEY, build)
    assert cache.hits == 1, "what the record was made from is still there"


def test_prune_by_age_counts_from_the_last_use(tmp_path: Path) -> None:
    old, used = record(seed=0), record(seed=1)
    fill(tmp_path, old, used)
    month_ago = time.time() - 30 * cache_admin.DAY
    for entry in cache_admin.entries(tmp_path):
        os.utime(entry.path, (month_ago, month_ago))
    fill(tmp_path, used)
    removed, left = cache_admin.prune(Store(tmp_path), 7)
    assert [len(removed), len(left)] == [1, 1]
    assert left[0].path.stem == cache_of(tmp_path, used).name(KEY)


def test_what_is_being_built_stays(tmp_path: Path) -> None:
    fill(tmp_path, record())
    (entry,) = cache_admin.entries(tmp_path)
    with FileLock(lock_path(tmp_path, entry.path.stem)):
        assert cache_admin.prune(Store(tmp_path), None) == ([], [entry])
    assert cache_admin.prune(Store(tmp_path), None) == ([entry], [])


def test_leftovers_of_killed_writers_go_after_a_day(tmp_path: Path) -> None:
    fill(tmp_path, record())
    (folder,) = tmp_path.glob("cache/??")
    fresh, stale = folder / f".{'ab' * 8}-fresh", folder / f".{'ab' * 8}-stale"
    for path in (fresh, stale):
        path.write_bytes(b"half")
    os.utime(stale, (0, 0))
    cache_admin.prune(Store(tmp_path), 7)
    assert fresh.exists() and not stale.exists()


def test_the_command_lists_and_prunes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, record(seed=0), record(seed=1))
    (tmp_path / "records").mkdir()
    for arguments, words in (((), "victim"), (("--days", "1"), "0 removed"), (("--prune",), "2 removed")):
        monkeypatch.setattr("sys.argv", ["gauntlet", "cache", "--store", str(tmp_path), *arguments])
        assert cli.main() == 0
        assert words in capsys.readouterr().out
    assert not list(tmp_path.glob("cache/??/*.safetensors"))
