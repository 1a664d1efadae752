"""Tests of packing: packed records equal the loose ones bit for bit, and a kill at any moment loses none."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runners.cli import main as cli
from runners.store import columns, gate, packed, table
from runners.store import pack as packing
from runners.store.merge import PNG, merge
from runners.store.pack import pack
from runners.store.records import Store, StoreError
from tests.runners.load import fill, measure
from tests.runners.synthetic import keyed, noise, record, store, with_pictures

Records = list[dict[str, Any]]


def varied() -> Records:
    """Return records of all that JSON can hold: texts among numbers, integers, nulls, odd floats, other orders."""
    first, second, third = record(seed=0), record(defense=[noise(0.1), noise(1e-300)], seed=1), record(seed=2)
    first["risk"] = {"ssim": 0.1 + 0.2, "psnr_db": None, "tiny": 5e-324, "minus_zero": -0.0}
    first["diagnostics"] = {"note": "text", "count": 3, "sure": True, "huge": 2**70, "unicode": "ε ≤ 1"}
    second["risk"] = {"psnr_db": 20, "ssim": 1.0}
    second["diagnostics"] = {"count": 3.0, "note": 0.5, "huge": 1, "sure": None}
    second |= {"sweep": None, "data": None, "peak_memory_mb": None, "reason": "two\nlines"}
    third |= {
        "status": "diverged",
        "curves": {"loss": [1.0, None, 2]},
        "captions": {"loss": ["a", "b"]},
        "new": {"x": 1},
    }
    third["config"]["protocol"] = {"rounds": [1, 2.0]}
    return [first, second, keyed(third)]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "records").glob("*.parquet"))}


def loose(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "records").glob("*/*.json"))


def test_packed_records_are_the_same_in_every_way_of_reading(tmp_path: Path) -> None:
    records = sorted(varied(), key=lambda one: one["key"])
    there = Store(store(tmp_path, records))
    before = table.load(tmp_path), there.columns("key", "threat", "seconds", "risk.ssim")
    result = pack(there, there)
    assert len(result.added) == 3 and loose(tmp_path) == []
    assert json.dumps(list(there.all())) == json.dumps(records)
    assert [json.dumps(there.read(one["key"])) for one in records] == [json.dumps(one) for one in records]
    assert json.dumps(there.find(records[1]["key"][:20])) == json.dumps(records[1])
    assert all(there.finished(one["key"]) and there.stamp(one["key"]) for one in records)
    assert [set(one) for one in there.all("risk", "config")] == [{"key", "risk", "config"}] * 3
    pd.testing.assert_frame_equal(table.load(tmp_path), before[0])
    assert there.columns("key", "threat", "seconds", "risk.ssim") == before[1]
    assert there.read("ab" * 32) is None and not there.finished("ab" * 32) and there.stamp("ab" * 32) == 0
    with pytest.raises(StoreError, match="No record in"):
        there.find("zz")


def test_packing_the_same_records_gives_the_same_bytes_and_twice_is_once(tmp_path: Path) -> None:
    records = varied()
    at_once, by_steps = Store(store(tmp_path / "a", records)), Store(store(tmp_path / "b", records[:1]))
    pack(at_once, at_once)
    pack(by_steps, by_steps)
    for one in records[1:]:
        pack(Store(store(tmp_path / one["key"], [one])), by_steps)
    assert files(at_once.root) == files(by_steps.root)
    assert set(files(at_once.root)) == {"test.parquet", "unswept.parquet"}
    assert str(tmp_path).encode() not in b"".join(files(at_once.root).values())
    stamps = [path.stat().st_mtime_ns for path in (tmp_path / "a/records").glob("*.parquet")]
    again = pack(at_once, at_once)
    assert (again.added, again.replaced, again.kept, again.tables) == ([], [], [], [])
    assert stamps == [path.stat().st_mtime_ns for path in (tmp_path / "a/records").glob("*.parquet")]


def test_pandas_reads_what_people_sort_and_filter_by(tmp_path: Path) -> None:
    there = Store(store(tmp_path, varied()))
    pack(there, there)
    frame = pd.read_parquet(there.table("test"))
    assert list(frame["key"]) == sorted(frame["key"]) and list(frame["sweep"]) == ["test"] * 2
    wanted = {"status", "reason", "dataset", "model", "setting", "threat", "defense", "scale", "family", "surface"}
    wanted |= {"utility.test_accuracy", "cost.seconds", "device", "started", "data", "config.threat", "versions"}
    assert wanted <= set(frame)
    assert all(frame[name].dtype == float for name in ("risk.ssim", "risk.psnr_db", "seconds"))
    assert frame["seed"].dtype == int and frame["adaptive"].dtype == bool
    assert set(frame["diagnostics.note"].dropna()) == {"text"}
    assert json.loads(frame["config.defense"].iloc[0])[0]["name"] == "none"
    assert list(pd.read_parquet(there.table(None))["defense"]) == ["gradient_noise+gradient_noise"]


def test_a_loose_record_counts_more_than_a_packed_one(tmp_path: Path) -> None:
    there = Store(store(tmp_path, [record(seed=seed) for seed in range(3)]))
    pack(there, there)
    failed = record(seed=1) | {"status": "failed", "reason": "later"}
    store(tmp_path, [failed])
    assert there.read(failed["key"]) == failed and not there.finished(failed["key"])
    assert there.find(failed["key"][:16]) == failed
    assert sorted(one["status"] for one in there.all()) == ["failed", "ok", "ok"]
    assert sorted(there.columns("status")["status"]) == ["failed", "ok", "ok"]
    assert pack(there, there).unfinished == [failed["key"]] == loose(tmp_path)


def test_a_later_run_replaces_and_a_conflict_stays_loose(tmp_path: Path) -> None:
    there = Store(store(tmp_path / "results", [record(seed=0), record(seed=1), record(seed=2, status="failed")]))
    pack(there, there)
    slower = record(seed=0) | {"seconds": 99.0}
    other = record(seed=1, risk=0.1)
    made = Store(store(tmp_path / "outputs", [slower, other, record(seed=2)]))
    result = pack(made, there)
    assert (sorted(result.replaced), result.added) == (sorted([slower["key"], record(seed=2)["key"]]), [])
    assert result.conflicts == {other["key"]: ["risk.ssim"]}
    assert loose(tmp_path / "outputs") == [other["key"]] and loose(tmp_path / "results") == []
    assert {one["seed"]: one["seconds"] for one in there.all()} == {0: 99.0, 1: 3.0, 2: 3.0}
    assert there.read(other["key"]) == record(seed=1)


def test_a_published_record_does_not_tell_where_data_lay(tmp_path: Path) -> None:
    one = record()
    told = one | {"facts": {**one["facts"], "data_path": "/home/me/secret.csv"}}
    mine, shared = Store(store(tmp_path / "mine", [told])), Store(tmp_path / "shared")
    pack(mine, shared)
    assert shared.find(one["key"])["facts"] == one["facts"]


def test_a_record_that_changes_its_sweep_is_in_one_table_only(tmp_path: Path) -> None:
    there = Store(store(tmp_path, [record(seed=0), record(seed=1)]))
    pack(there, there)
    store(tmp_path, [record(seed=1) | {"sweep": "papers/other"}])
    pack(there, there)
    assert {name: len(pd.read_parquet(tmp_path / "records" / name)) for name in files(tmp_path)} == {
        "papers-other.parquet": 1,
        "test.parquet": 1,
    }
    store(tmp_path, [record(seed=0) | {"sweep": "papers/other"}])
    pack(there, there)
    assert set(files(tmp_path)) == {"papers-other.parquet"} and len(list(there.all())) == 2


@pytest.mark.parametrize("moment", ["before the table", "before deletion"])
def test_a_pack_that_is_killed_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    records = [record(seed=seed) for seed in range(4)]
    there = Store(store(tmp_path, records))
    before = sorted(json.dumps(one) for one in there.all())

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    target, name = (os, "replace") if moment == "before the table" else (packing, "_delete")
    monkeypatch.setattr(target, name, killed)
    with pytest.raises(KeyboardInterrupt):
        pack(there, there)
    monkeypatch.undo()
    assert len(loose(tmp_path)) == 4
    assert bool(files(tmp_path)) == (moment == "before deletion")
    assert sorted(json.dumps(one) for one in there.all()) == before
    pack(there, there)
    assert loose(tmp_path) == [] and sorted(json.dumps(one) for one in there.all()) == before
    assert not [path for path in (tmp_path / "records").iterdir() if path.name.startswith(".")]


def test_a_record_that_was_replaced_while_packing_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Store(store(tmp_path, [record()]))
    newer = record() | {"status": "failed", "reason": "played again meanwhile"}
    write = packed.write

    def slowly(*arguments: Any) -> None:
        write(*arguments)
        store(tmp_path, [newer])

    monkeypatch.setattr(packed, "write", slowly)
    pack(there, there)
    assert there.read(newer["key"]) == newer


def test_pictures_come_along_where_it_is_said_and_of_one_seed(tmp_path: Path) -> None:
    made = tmp_path / "outputs"
    records = [with_pictures(record(seed=seed), "x") for seed in (3, 1, 2)]
    store(made, records)
    for one in records:
        (made / one["media"]["x"]).parent.mkdir(parents=True, exist_ok=True)
        (made / one["media"]["x"]).write_bytes(PNG)
    plain, illustrated = Store(tmp_path / "plain"), Store(tmp_path / "pictures")
    store(tmp_path / "copy", records)
    (made / "media").rename(tmp_path / "copy/media")
    pack(Store(tmp_path / "copy"), illustrated, ["te*"])
    pack(Store(made), plain, ["other"])
    assert [one["media"] for one in plain.all()] == [{}] * 3
    assert [p.name for p in illustrated.root.glob("media/*/*")] == [Path(records[1]["media"]["x"]).name]
    assert {one["seed"]: len(one["media"]) for one in illustrated.all()} == {1: 1, 2: 0, 3: 0}


def test_an_error_that_quotes_the_bytes_of_a_table_is_shown_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = record()
    there = Store(store(tmp_path, [one]))
    pack(there, there)

    def broken(*_: object, **__: object) -> None:
        raise OSError("don't know what type: \x1b[2J")

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", broken)
    with pytest.raises(StoreError, match=r"type: \\x1b\[2J\); take it back"):
        there.packed().read(one["key"])


def test_a_damaged_table_is_named_with_the_remedy_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = Store(store(tmp_path, [record(seed=seed) for seed in range(20)]))
    pack(there, there)
    path = there.table("test")
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :]):
        path.unlink()
        path.write_bytes(content)
        gate.forget()
        assert list(there.all()) == []
        assert re.search(r"test\.parquet cannot be read.*git checkout.*pack its records again", capsys.readouterr().err)
        store(tmp_path, [record()])
        with pytest.raises(StoreError, match="is damaged and is not written anew"):
            pack(there, there)
        assert [one["seed"] for one in there.all()] == [0] and path.read_bytes() == content
        there.path(record()["key"]).unlink()
    path.unlink()
    pd.DataFrame({"a": [1]}).to_parquet(path)
    assert list(there.all()) == [] and "no column key" in capsys.readouterr().err


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made = store(tmp_path / "outputs", [record(), record(seed=1, status="failed")])
    monkeypatch.setattr("sys.argv", ["gauntlet", "pack", str(made), "--into", str(tmp_path / "results")])
    assert cli.main() == 0
    assert "1 added, 0 replaced, 0 packed before, 1 unfinished" in (out := capsys.readouterr().out)
    assert "test.parquet" in out
    store(made, [record(risk=0.1)])
    assert cli.main() == 1 and "risk.ssim differ" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["gauntlet", "pack", str(tmp_path / "none")])
    assert cli.main() == 2


# -- large stores -----------------------------------------------------------------------------------------------------
def heavy(count: int) -> Records:
    """Return records of a real one's size: 3 kB, most of it curves that tables do not need."""
    made = [record(defense=[noise(0.01 * i)], seed=0) for i in range(count)]
    for one in made:
        one["diagnostics"] |= {f"number_{i}": 0.1 * i for i in range(20)}
        one["curves"] = {f"curve_{i}": [0.001 * i + 0.01 * j for j in range(40)] for i in range(10)}
    return made


MEMORY_OF_READING = """
import sys, tracemalloc
from pathlib import Path
from runners.store import packed, table
tracemalloc.start()
records = table.read_all(Path(sys.argv[1]))
print(len(records), tracemalloc.get_traced_memory()[0] / len(records))
"""


@pytest.mark.ci
def test_a_read_record_takes_little_memory(tmp_path: Path) -> None:
    folder = fill(tmp_path, 2000, heavy(20))
    words = [sys.executable, "-c", MEMORY_OF_READING, str(folder)]
    count, each = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    assert int(count) == 2000
    assert float(each) < 6000, "bytes of a record; whole ones with parts of their own take 20,000 and more"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_records(tmp_path: Path) -> None:
    folder = fill(tmp_path, 100_000, heavy(300))
    for words, megabytes in ((("table",), 1000), (("plan", "sweep=check"), 1500), (("check",), 1500)):
        _, worked, peak, code = measure(words, folder)
        assert code in (0, 1) and peak < megabytes and worked < 60


def test_a_table_whose_one_key_is_null_is_named(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    made = columns.table([one := record()], columns.schema([one]))
    nothing = pa.array([None], pa.string())
    pq.write_table(made.set_column(made.column_names.index("key"), "key", nothing), tmp_path / "records/test.parquet")
    assert list(Store(tmp_path).all()) == []
    assert "order of their keys" in Store(tmp_path).packed().faults[0].reason


# -- merge
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
