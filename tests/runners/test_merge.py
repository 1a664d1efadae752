from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runners.cli import main as cli
from runners.store.merge import PNG, merge
from runners.store.records import Store, StoreError
from tests.runners.synthetic import record, store, with_pictures


def stores(tmp_path: Path, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> tuple[Store, Store]:
    return Store(store(tmp_path / "ours", ours)), Store(store(tmp_path / "theirs", theirs))


def test_what_only_the_other_has_is_added_with_its_pictures(tmp_path: Path) -> None:
    new = with_pictures(record(seed=1), "images")
    ours, theirs = stores(tmp_path, [record(seed=0)], [new])
    picture = theirs.root / new["media"]["images"]
    picture.parent.mkdir(parents=True)
    picture.write_bytes(PNG + b"picture")
    result = merge(ours, theirs)
    assert result.added == [new["key"]]
    assert ours.read(new["key"]) == new
    assert (ours.root / new["media"]["images"]).read_bytes() == PNG + b"picture"
    again = merge(ours, theirs)
    assert (again.added, again.kept, again.conflicts) == ([], [new["key"]], {})


@pytest.mark.parametrize(
    ("here", "there", "winner"), [("failed", "ok", "ok"), ("ok", "failed", "ok"), ("failed", "timeout", "failed")]
)
def test_finished_beats_failed(tmp_path: Path, here: str, there: str, winner: str) -> None:
    ours, theirs = stores(tmp_path, [record(status=here)], [record(status=there)])
    result = merge(ours, theirs)
    assert not result.conflicts
    assert [one["status"] for one in ours.all()] == [winner]


def test_times_are_no_conflict_but_numbers_are(tmp_path: Path) -> None:
    slower = record(seed=0, cost={"seconds": 9.0}) | {"seconds": 10.0, "started": "2031-01-01T00:00:00Z"}
    ours, theirs = stores(tmp_path, [record(seed=0), record(seed=1, risk=0.5)], [slower, record(seed=1, risk=0.6)])
    before = list(ours.all())
    result = merge(ours, theirs)
    assert list(result.conflicts.values()) == [["risk.ssim"]]
    assert list(ours.all()) == before


def test_conflicts_end_in_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = stores(tmp_path, [record(risk=0.5)], [record(risk=0.6), record(seed=1)])
    monkeypatch.setattr("sys.argv", ["gauntlet", "merge", str(theirs.root), "--store", str(ours.root)])
    assert cli.main() == 1
    assert "1 added" in (out := capsys.readouterr().out) and "risk.ssim differ; ours was kept" in out


def test_only_another_store_can_be_merged(tmp_path: Path) -> None:
    ours, _ = stores(tmp_path, [record()], [record(seed=1)])
    with pytest.raises(StoreError, match="is not a store"):
        merge(ours, Store(tmp_path / "nothing"))
    with pytest.raises(StoreError, match="is the store itself"):
        merge(ours, Store(tmp_path / "ours" / ".." / "ours"))
