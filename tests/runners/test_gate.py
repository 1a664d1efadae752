"""No record of a stranger is believed, whichever form it has, and none stops a command."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runners.cli import main as cli
from runners.report import leaderboard
from runners.store import cache_admin, gate, packed, table
from runners.store.merge import PNG, merge
from runners.store.pack import pack
from runners.store.place import place
from runners.store.records import Record, Store, StoreError, write_atomically
from tests.runners.conftest import FAKE_CELL, ROOT, Command
from tests.runners.synthetic import keyed, record, store, with_pictures

Mutation = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(autouse=True)
def _nothing_told_yet() -> Iterator[None]:
    gate.forget()
    yield
    gate.forget()


def call(*words: str | Path) -> int:
    before, sys.argv = sys.argv, ["gauntlet", *map(str, words)]
    try:
        return cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before


def deep(levels: int) -> Any:
    node: Any = 1
    for _ in range(levels):
        node = [node]
    return node


def cell(**parts: Any) -> Mutation:
    """A change of the cell, under the key that it then has."""
    return lambda one: keyed(one | {"config": one["config"] | parts})


def changed(**fields: Any) -> Mutation:
    return lambda one: one | fields


def component(**fields: Any) -> Mutation:
    return lambda one: keyed(one | {"config": one["config"] | {"threat": one["config"]["threat"] | fields}})


DAMAGES: dict[str, tuple[Mutation, str]] = {
    "schema 1": (changed(schema=1), "schema is 1"),
    "schema 99": (changed(schema=99), "schema is 99"),
    "key of another": (changed(key="ab" * 32), "key"),
    "path as key": (changed(key="../../../home/evil"), "key"),
    "digest": (
        lambda one: one | {"config": one["config"] | {"scale": {"name": "full"}}},
        "not the digest of its config",
    ),
    "status": (changed(status="OK"), "status"),
    "ssim": (changed(risk={"ssim": 5.0}), "risk.ssim is 5.0"),
    "accuracy": (changed(utility={"test_accuracy": -0.5}), "utility.test_accuracy is -0.5"),
    "cost": (changed(cost={"bytes_sent": -1.0}), "cost.bytes_sent"),
    "seed": (changed(seed=7), "seed is 7"),
    "seed as text": (changed(seed="0"), "seed"),
    "number as text": (changed(risk={"ssim": "high"}), "risk.ssim"),
    "list of media": (changed(media=["a.png"]), "media"),
    "media above": (changed(media={"x": "../../.ssh/id_rsa"}), "no picture of its own"),
    "media elsewhere": (changed(media={"x": "records/17/x.json"}), "no picture of its own"),
    "picture of another": (changed(media={"x": "media/00/0011223344556677-x.png"}), "no picture of its own"),
    "deep": (changed(diagnostics={"x": deep(200)}), "diagnostics.x"),
    "deep extra": (changed(extra=deep(200)), "levels deep"),
    "reason": (changed(reason=3), "reason"),
    "facts": (changed(facts={"floor": {"metric": "ssim"}}), "facts.floor.at_least"),
    "half a character": (changed(reason="\ud800"), "half of a character"),
    "interpolation": (component(owner="${oc.create:{_target_:torch.hub.load}}"), "interpolation"),
    "traversal": (component(name="../../../evil/threat/x"), "threat.name"),
    "call": (component(_target_="os.system"), "_target_"),
    "no config": (lambda one: {name: one[name] for name in one if name != "config"}, "config"),
    "no stack": (cell(defense="none"), "defense"),
    "full precision told": (cell(precision="full"), "precision"),
    "seconds": (changed(seconds=-1.0), "seconds"),
    **{
        f"no {name}": (lambda one, name=name: {key: one[key] for key in one if key != name}, f"lacks {name}")
        for name in ("sweep", "reason", "curves", "captions", "started", "device", "peak_memory_mb", "versions", "data")
    },
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_loose_record_is_left_out_and_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    mutate, reason = DAMAGES[name]
    sound, before = record(seed=0), record(seed=1)
    damaged = mutate(before)
    key = damaged["key"] if gate.KEY.fullmatch(damaged["key"]) and name != "key of another" else before["key"]
    path = store(tmp_path, [sound]) / "records" / key[:2] / f"{key}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(damaged))
    there = Store(tmp_path)
    assert [one["key"] for one in there.all()] == [sound["key"]]
    told = capsys.readouterr().err
    assert path.name in told and reason in told
    assert there.columns("key")["key"] == [sound["key"]] and list(table.load(tmp_path)["key"]) == [sound["key"]]
    assert capsys.readouterr().err == "", "told once"
    assert not there.finished(key), "a sweep plays its cell again"
    with pytest.raises(StoreError, match=path.name):
        there.find(key)


@pytest.mark.parametrize(
    "name", [name for name in DAMAGES if name not in ("half a character", "list of media", "no stack")]
)
def test_a_damaged_packed_record_is_left_out_and_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    mutate, _ = DAMAGES[name]
    sound, damaged = record(seed=0), mutate(record(seed=1))
    monkeypatch.setattr(packed, "_verify", lambda *_: None)
    packed.write(Store(tmp_path).table("test"), lambda: sorted([sound, damaged], key=lambda one: one["key"]))
    there = Store(tmp_path)
    try:
        found = [one["key"] for one in there.all()]
        assert found == [one["key"] for one in there.all(*table.READ)]
        assert set(there.columns("key")["key"]) <= {sound["key"], damaged["key"]}
    finally:
        told = capsys.readouterr().err
    assert damaged["key"] not in found and "test.parquet" in told
    assert not there.finished(damaged["key"])
    with pytest.raises(StoreError):
        there.find(damaged["key"])
    store(tmp_path, [record(seed=2)])
    before = there.table("test").read_bytes()
    with pytest.raises(StoreError, match="is not written anew"):
        pack(there, there)
    assert there.table("test").read_bytes() == before, "what cannot be read is not lost by packing"


def test_nothing_but_regular_files_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound, elsewhere = record(seed=0), record(seed=1)
    store(tmp_path / "s", [sound])
    outside = store(tmp_path / "other", [elsewhere])
    folder = tmp_path / "s/records"
    place_of = {seed: folder / (key := record(seed=seed)["key"])[:2] / f"{key}.json" for seed in (1, 2, 3, 4)}
    for path in place_of.values():
        path.parent.mkdir(exist_ok=True)
    place_of[1].symlink_to(next(outside.glob("records/*/*.json")))
    os.mkfifo(place_of[2])
    place_of[3].mkdir()
    with place_of[4].open("wb") as file:
        file.truncate(gate.LARGEST + 1)
    (folder / "zz").symlink_to(outside)
    (folder / sound["key"][:2] / "copy.json").write_text(json.dumps(sound))
    assert [one["seed"] for one in Store(tmp_path / "s").all()] == [0]
    told = capsys.readouterr().err
    for path in (*place_of.values(), folder / "zz", folder / sound["key"][:2] / "copy.json"):
        assert told.count(f"{path}:") == 1
    for word in ("link", "regular file", "bytes", "its name is not the key"):
        assert word in told
    shutil.rmtree(folder)
    folder.symlink_to(outside / "records")
    assert list(Store(tmp_path / "s").all()) == []


@pytest.mark.ci
def test_every_reading_command_goes_on_and_the_one_about_the_record_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = record(seed=1) | {"status": "OK"}, record(seed=2)
    folder = store(tmp_path / "s", [record(seed=0), one, other])
    next(folder.glob(f"records/*/{other['key']}.json")).write_text("{")
    for words in (["table"], ["leaderboard"], ["site", "--to", tmp_path / "site"], ["cache"], ["check"]):
        gate.forget()
        assert call(*words, "--store", folder) == 0, words
        told = capsys.readouterr().err
        if words != ["cache"]:
            assert told.count("2 records are damaged") == 1 and one["key"] in told and other["key"] in told
    for command in ("show", "explain", "again"):
        assert call(command, one["key"][:16], "--store", folder) == 2
        assert "status" in capsys.readouterr().err
    assert call("merge", folder, "--store", tmp_path / "mine") == 0
    assert "1 added" in capsys.readouterr().out


@pytest.mark.ci
def test_a_sweep_plays_its_damaged_cells_again(command: Command, tmp_path: Path) -> None:
    overrides = ("sweep=fake", "hydra/launcher=basic")
    assert command("sweep", *overrides)[0] == 0
    first, second = sorted(tmp_path.glob("records/*/*.json"))[:2]
    first.write_text("{")
    second.write_text(second.read_text().replace('"ok"', '"OK"'))
    code, _, err = command("plan", *overrides)
    assert code == 0 and "2 records are damaged" in err
    gate.forget()
    assert command("sweep", *overrides)[0] == 0
    assert all(json.loads(path.read_text())["status"] == "ok" for path in (first, second))


# -- what merging may do ----------------------------------------------------------------------------------------------
def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_merge_writes_nothing_for_a_key_that_is_a_path(tmp_path: Path) -> None:
    ours = store(tmp_path / "ours", [record(seed=0)])
    theirs = tmp_path / "theirs/records/ab"
    theirs.mkdir(parents=True)
    for name in ("../../../victim", "/elsewhere/victim", "ab" * 32):
        (theirs / f"{'ab' * 32}.json").write_text(json.dumps(record(seed=1) | {"key": name}))
        before = tree(tmp_path)
        assert merge(Store(ours), Store(tmp_path / "theirs")).added == []
        assert {name: content for name, content in tree(tmp_path).items() if "locks" not in name} == before


def test_merge_overwrites_neither_our_records_nor_our_pictures(tmp_path: Path) -> None:
    mine, evil = with_pictures(record(seed=0), "grid"), record(seed=1)
    ours, theirs = store(tmp_path / "ours", [mine]), tmp_path / "theirs"
    picture = ours / mine["media"]["grid"]
    picture.parent.mkdir(parents=True)
    picture.write_bytes(PNG + b"mine")
    for target in (mine["media"]["grid"], f"records/{mine['key'][:2]}/{mine['key']}.json", "cache/x.png"):
        shutil.rmtree(theirs, ignore_errors=True)
        (theirs / target).parent.mkdir(parents=True)
        (theirs / target).write_bytes(PNG + b"evil")
        store(theirs, [evil | {"media": {"x": target}}])
        before = tree(ours)
        assert merge(Store(ours), Store(theirs)).added == []
        assert {name: content for name, content in tree(ours).items() if "locks" not in name} == before


def test_merge_and_pack_write_through_no_link(tmp_path: Path) -> None:
    theirs_record = with_pictures(record(seed=1), "grid")
    theirs, away = store(tmp_path / "theirs", [theirs_record]), tmp_path / "away"
    (theirs / theirs_record["media"]["grid"]).parent.mkdir(parents=True)
    (theirs / theirs_record["media"]["grid"]).write_bytes(PNG)
    away.mkdir()
    for folder in ("media", "records"):
        ours = tmp_path / f"ours {folder}"
        ours.mkdir()
        (ours / folder).symlink_to(away)
        with pytest.raises(StoreError, match="link"):
            merge(Store(ours), Store(theirs))
        with pytest.raises(StoreError, match="link"):
            pack(Store(theirs), Store(ours), ["*"])
    assert not any(away.rglob("*")) and len(list(Store(theirs).all())) == 1


def test_a_picture_that_is_a_link_or_no_picture_is_not_taken(tmp_path: Path) -> None:
    one = with_pictures(record(), "link", "text")
    theirs = store(tmp_path / "theirs", [one])
    secret = tmp_path / "secret.png"
    secret.write_bytes(PNG + b"secret")
    (theirs / one["media"]["link"]).parent.mkdir(parents=True)
    (theirs / one["media"]["link"]).symlink_to(secret)
    (theirs / one["media"]["text"]).write_text("<script>")
    assert merge(Store(tmp_path / "ours"), Store(theirs)).added == [one["key"]]
    assert not list(tmp_path.glob("ours/media/*/*"))


# -- what is deleted --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["boards", "site"])
def test_reports_are_not_written_through_a_link(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    folder, mine = store(tmp_path / "s", [record()]), tmp_path / "mine"
    mine.mkdir()
    for file in ("README.md", "index.html", ".written.json"):
        (mine / file).write_text('["README.md", "index.html"]')
    (folder / name).symlink_to(mine)
    before = tree(mine)
    assert call({"boards": "leaderboard", "site": "site"}[name], "--store", folder) == 2
    assert "is a link" in capsys.readouterr().err and tree(mine) == before


def test_pruning_the_cache_deletes_nothing_behind_a_link_and_nothing_that_is_no_artifact(tmp_path: Path) -> None:
    folder, mine = store(tmp_path / "s", [record()]), tmp_path / "mine"
    mine.mkdir()
    names = [f"{'ab' * 32}.safetensors", "thesis.safetensors", ".bashrc", f".{'ab' * 8}-x"]
    for name in names:
        (mine / name).write_text("mine")
        os.utime(mine / name, (0, 0))
    (folder / "cache").mkdir()
    (folder / "cache/aa").symlink_to(mine)
    (folder / "cache/ab").mkdir()
    (folder / "cache/ab/thesis.safetensors").write_text("mine")
    (folder / "cache/ab" / names[0]).symlink_to(mine / names[0])
    assert call("cache", "--prune", "--store", folder) == call("cache", "--days", "1", "--store", folder) == 0
    assert sorted(tree(mine)) == sorted(names) and (folder / "cache/ab/thesis.safetensors").exists()
    assert not list(cache_admin.entries(folder))


# -- what is replaced -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("earlier", "later", "kept"),
    [
        ("ok", "ok", False), ("ok", "failed", True), ("ok", "timeout", True), ("ok", "diverged", True),
        ("diverged", "failed", True), ("diverged", "ok", False), ("failed", "timeout", False), ("failed", "ok", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["loose", "packed"])
def test_a_finished_record_is_replaced_by_a_finished_one_only(
    tmp_path: Path, earlier: str, later: str, kept: bool, form: str
) -> None:
    there = Store(store(tmp_path, [record(status=earlier)]))
    if form == "packed":
        pack(there, there)
    new = Record(**(record(status=later) | {"started": "later"}))
    if kept:
        with pytest.raises(StoreError, match="is kept"):
            there.write(new)
    else:
        there.write(new)
    found = there.read(new.key)
    assert found is not None and (found["status"], found["started"] == "later") == (
        (earlier if kept else later),
        not kept,
    )


def test_a_run_that_fails_keeps_the_record_that_is_ok(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (done := command("run", *FAKE_CELL))[0] == 0, done
    (path,) = tmp_path.glob("records/*/*.json")
    before = path.read_bytes()
    from tests.runners import fakes

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("told to fail")

    monkeypatch.setattr(fakes.FakeThreat, "attack", broken)
    code, _, err = command("run", *FAKE_CELL)
    assert code == 1 and "told to fail" in err and "The earlier record, ok, was kept" in err
    assert path.read_bytes() == before


# -- modes and places -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_mode_that_the_umask_gives(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        folder = tmp_path / "s"
        there = Store(folder)
        path = there.write(Record(**record()))
        write_atomically(folder / "cache" / "x", b"x")
        leaderboard.write(folder)
        modes = {stat.S_IMODE(one.stat().st_mode) for one in (path, folder / "cache/x", folder / "boards/README.md")}
        pack(there, there)
        assert modes | {stat.S_IMODE(there.table("test").stat().st_mode)} == {mode}
    finally:
        os.umask(before)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")
def test_a_store_can_be_read_by_another_user(tmp_path: Path) -> None:
    folder = Path("/var/tmp") / f"gauntlet-{os.getpid()}"
    before = os.umask(0o022)
    try:
        Store(folder).write(Record(**record()))
        leaderboard.write(folder)
        code = (
            "import os, pathlib, sys; os.setgid(65534); os.setuid(65534);"
            "paths = [p for p in pathlib.Path(sys.argv[1]).rglob('*') if p.is_file()];"
            "print(len([p.read_bytes() for p in paths]))"
        )
        done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
        assert int(done.stdout) >= 3
    finally:
        os.umask(before)
        shutil.rmtree(folder, ignore_errors=True)


READING = (
    ["table"],
    ["check"],
    ["leaderboard"],
    ["site"],
    ["cache"],
    ["show", "ab"],
    ["explain", "ab"],
    ["again", "ab"],
)


@pytest.mark.parametrize("words", [*READING, ["diff", "ab", "cd"]], ids=lambda words: words[0])
def test_a_command_that_reads_wants_a_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    before = tree(tmp_path)
    for name in ("typo", "file", "folder", "file/below"):
        assert call(*words, "--store", tmp_path / name) == 2
        assert "is not a store" in capsys.readouterr().err
    assert tree(tmp_path) == before and not (tmp_path / "typo").exists()


@pytest.mark.parametrize("name", ["file", "/dev/null", "/proc/store", "x" * 300])
@pytest.mark.parametrize("what", ["run", "sweep"])
def test_a_store_that_cannot_be_written_is_a_sentence(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "file").write_text("x")
    there = str(tmp_path / name) if not name.startswith("/") else name
    search = f"hydra.searchpath=[file://{ROOT}/tests/runners/conf]"
    cells = FAKE_CELL if what == "run" else ("sweep=fake",)
    words = [sys.executable, "-m", f"runners.{what}", *cells, search, "trusted=[tests.runners.]", f"store={there}"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "cannot be written" in done.stderr and "Traceback" not in done.stderr
    assert not Path("/proc/store").exists()


def test_a_store_is_where_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place("~/x") == tmp_path / "x" and place("outputs") == Path("outputs")
    for empty in ("", " "):
        with pytest.raises(StoreError, match="The store is empty"):
            place(empty)
        assert call("table", "--store", empty) == 2


# -- what a terminal is sent ------------------------------------------------------------------------------------------
def test_a_terminal_shows_control_characters_and_markup_and_obeys_neither(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b]0;owned\x07[red]x[/red][/nothing]"
    ones = [record(seed=0) | {"device": evil, "status": "failed", "reason": evil}, record(seed=1) | {"device": "cpu"}]
    folder = store(tmp_path, ones)
    for words in (
        ["table"],
        ["show", ones[0]["key"]],
        ["diff", ones[0]["key"], ones[1]["key"]],
        ["explain", ones[0]["key"]],
    ):
        call(*words, "--store", folder)
        out = "".join(capsys.readouterr())
        assert "\x1b" not in out and "\x07" not in out
        if words[0] == "diff":
            assert r"\x1b" in out and "[red]" in out
    assert gate.visible(evil + "ü\n‮") == r"\x1b]0;owned\x07[red]x[/red][/nothing]ü\n\u202e"


@pytest.mark.parametrize(
    "query",
    [
        "@pd.io", "@frame.to_csv('{0}')", "threat.to_csv('{0}') == 1", "`risk.ssim`.to_csv('{0}') == 1",
        "__import__('os').system('touch {0}')", "threat.__class__ == 1", "(lambda: 1)() == 1", "seed == 1 # '\n or 1",
        "threat.map(print) == 1", "'`' == threat.to_csv('{0}') + '`'", "print(1)", "[x for x in threat] == 1",
    ],
)  # fmt: skip
def test_a_query_calls_nothing(tmp_path: Path, query: str) -> None:
    folder = store(tmp_path / "s", [record(), record(seed=1)])
    assert call("table", "--store", folder, "--query", query.replace("{0}", str(tmp_path / "written"))) == 2
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("seed == 1", 1), ("`risk.ssim` > 0.5 and threat == 'leakage_dlg'", 2), ("threat.str.contains('d@g')", 0),
        ("seed in [0, 1] & ~(seed == 0)", 1), ("`risk.ssim`.notna()", 2), ('device == "#cpu"', 0),
    ],
)  # fmt: skip
def test_a_query_that_compares_is_answered(tmp_path: Path, query: str, count: int) -> None:
    frame = table.load(store(tmp_path, [record(), record(seed=1)]))
    assert len(table.select(frame, query)) == count


def test_commands_on_the_site_are_quoted(tmp_path: Path) -> None:
    folder = store(tmp_path / "a;reboot #", [record()])
    assert call("site", "--store", folder, "--to", tmp_path / "site") == 0
    pages = "".join(path.read_text() for path in (tmp_path / "site").rglob("*.html"))
    assert "--store &#39;a;reboot #&#39;" in pages and "--store a;reboot" not in pages


def test_a_cell_that_measures_what_cannot_be_is_a_failure(command: Command, tmp_path: Path) -> None:
    code, _, err = command("run", *FAKE_CELL, "threat.risk=7")
    assert code == 1 and "risk.ssim is" in err
    (path,) = tmp_path.glob("records/*/*.json")
    assert (found := json.loads(path.read_text()))["status"] == "failed" and found["risk"] == {}
    assert Store(tmp_path).find(path.stem)["reason"] == found["reason"]
