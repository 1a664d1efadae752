"""No record, however odd, stops a command, is believed without its key, or changes what lies beside it."""

from __future__ import annotations

import copy
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from benchmark.errors import GauntletError
from runners.cli.difference import differences
from runners.config.identity import digest
from runners.store import columns, gate, table
from runners.store.merge import merge
from runners.store.pack import pack
from runners.store.records import Damaged, Store, StoreError, read_loose
from tests.fuzz.tiers import Sandbox, both, gauntlet, hold, quietly, said
from tests.runners.synthetic import noise, record, store, with_pictures

Mutation = Callable[[dict[str, Any]], dict[str, Any]]


def base() -> dict[str, Any]:
    """Return a sound record with something in every field."""
    one = with_pictures(record(defense=[noise(0.1)], seed=1), "grid")
    code = {"threat/leakage_dlg": {"version": 1, "digest": "ab" * 32}}
    return one | {
        "curves": {"loss": [1.0, 0.5, None]},
        "captions": {"grid": ["original", "recovered"]},
        "versions": {"suite": "1", "git": "0" * 40, "components": code},
    }


TEXTS = [
    *(
        "",
        " ",
        "\x00",
        "\n",
        "\x1b[2J",
        "\u202e",
        "\ud800",
        "é",
        "𝔘",
        "x" * 300,
        "x" * 100_000,
        "..",
        "../../mine",
        ".",
    ),
    *("/etc/passwd", "mine/thesis.txt", "${seed}", "${oc.env:HOME}", "<script>alert(1)</script>", "|", "`id`", "=1+1"),
    *("a.b", "a/b", "a'b", '"', "[bold]x", "%s", "{0}", "nan", "NaN", "1", "null", "ok", "diverged", "failed", "smoke"),
    *("_target_", "_x", "name", "key", "seed", "layout", "config", "threat", "ssim", "psnr_db", "test_accuracy"),
    *("media/00/0011223344556677-x.png", "0" * 64, "ab" * 32, "leakage_dlg", "none", "\\", "\r\n", "a\tb", "#x", "@x"),
]
NUMBERS = [
    *(0, 1, -1, 2, 2**31, 2**53, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**30, 10**308, 10**400, -(10**400)),
    *(0.0, -0.0, 0.5, 1.0, 1.00001, 1.1, -1.1, 5e-324, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 1e15),
]


def nested(levels: int) -> Any:
    node: Any = 1
    for level in range(levels):
        node = [node] if level % 2 else {"a": node}
    return node


scalars = st.one_of(
    st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.integers(), st.floats(), st.text()
)
names = st.one_of(st.sampled_from(TEXTS), st.text(max_size=6))
junk = st.one_of(
    scalars,
    st.sampled_from([20, 23, 24, 25, 26, 200]).map(nested),
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)),
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of everything in a document, by keys and positions."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return (
        [path, *(place for key, value in inner for place in places(value, (*path, key)))]
        if path
        else [place for key, value in inner for place in places(value, (key,))]
    )


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A record with one to three changes, under the key that it had or under that of its changed cell."""
    one = copy.deepcopy(base())
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(places(one)))
        node = one
        for step in way:
            node = node[step]
        change = draw(st.sampled_from(["replace", "replace", "add", "add", "drop", "rename"]))
        if change == "replace":
            node[last] = draw(junk)
        elif change == "drop":
            del node[last]
        elif isinstance(node[last], dict):
            node[last][draw(names)] = draw(junk)
        elif isinstance(node[last], list):
            node[last].append(draw(junk))
        elif isinstance(node, dict):
            node[draw(names)] = node.pop(last)
    if draw(st.integers(0, 3)):
        if draw(st.booleans()) and isinstance(one.get("config"), dict):
            one["seed"] = one["config"].get("seed")
        with_key(one)
    return one


def with_key(one: dict[str, Any]) -> None:
    """Give a record the key of its cell, and its pictures their paths, where there is a key for such a cell."""
    try:
        key = digest(one["config"])
    except (KeyError, ValueError, TypeError, RecursionError):
        return
    if "key" in one and isinstance(media := one.get("media"), dict) and one["media"] == base()["media"]:
        one["media"] = {name: f"media/{key[:2]}/{key[:16]}-{name}.png" for name in media}
    one["key"] = key


def key_of(one: dict[str, Any]) -> str:
    """Return the name under which a record lies in a store."""
    key = one.get("key")
    return key if isinstance(key, str) and gate.KEY.fullmatch(key) else base()["key"]


def put(folder: Path, one: dict[str, Any], text: bytes | None = None) -> Path:
    path = folder / "records" / key_of(one)[:2] / f"{key_of(one)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json.dumps(one).encode() if text is None else text)
    return path


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """The file of a record with damaged bytes."""
    text = json.dumps(base(), indent=draw(st.sampled_from([None, 1]))).encode()
    at, end = draw(st.integers(0, len(text))), draw(st.integers(0, 8))
    put_in = draw(
        st.one_of(
            st.binary(max_size=4),
            st.sampled_from(
                [b"NaN", b"\xff\xfe", b"\\ud800", b'"key":1,', b"[" * 3000, b"9" * 5000, b"\x00", b"{", b"}"]
            ),
        )
    )
    return text[:at] + put_in + text[at + end :]


@both
def test_a_record_is_read_whole_or_named(tier: str, sandbox: Sandbox) -> None:
    sound = record(seed=7)

    def read(one: dict[str, Any] | bytes) -> None:
        given = one if isinstance(one, dict) else base()
        path = put(sandbox.store, given, None if isinstance(one, dict) else one)
        try:
            found = read_loose(path)
        except Damaged as error:
            said(error, plain=True)
            return
        finally:
            path.unlink()
        assert found["key"] == path.stem == digest(found["config"])
        assert gate.Gate().fault(found, found["key"]) is None
        differences(found, sound)
        columns.flat(found)
        json.dumps(found, allow_nan=False)

    hold(tier, (60, 6000), read, mutated())
    hold(tier, (40, 3000), read, spoilt())


@both
def test_what_is_believed_survives_tables_merging_and_packing(tier: str, sandbox: Sandbox) -> None:
    sound, away = record(seed=7), sandbox.root / "mine"

    def survives(one: dict[str, Any]) -> None:
        shutil.rmtree(sandbox.store)
        store(sandbox.store, [sound])
        (kept,) = sandbox.store.glob("records/*/*.json")
        before = kept.read_bytes(), kept.stat().st_mtime_ns
        path = put(sandbox.store, one)
        there = Store(sandbox.store)
        believed = there.sound(path.stem)
        keys = sorted({sound["key"], *([path.stem] if believed else [])})
        with sandbox.untouched():
            code, _ = quietly(lambda: check(keys, there, sandbox.store))
            assert code == 0
            assert (kept.read_bytes(), kept.stat().st_mtime_ns) == before
            finished = [key for key in keys if there.finished(key)]
            quietly(lambda: packs(there))
            assert [key for key in keys if there.finished(key)] == finished
            if believed:
                assert json.dumps(there.sound(path.stem)) == json.dumps(bare(believed, there))
        assert away.is_dir()

    def check(keys: list[str], there: Store, folder: Path) -> int:
        assert [found["key"] for found in there.all()] == keys == there.columns("key")["key"]
        assert len(table.rows(folder)) == len(keys)
        frame = table.load(folder)
        for kind in ("csv", "parquet"):
            table.write_as(frame, kind, folder / f"table.{kind}")
        merged = merge(Store(folder / "other"), there)
        assert sorted(merged.added) == keys
        assert [json.dumps(found) for found in Store(folder / "other").all()] == [json.dumps(f) for f in there.all()]
        return 0

    hold(tier, (4, 1000), survives, mutated())


def packs(there: Store) -> int:
    """Pack a store in itself; a refusal says so and loses nothing."""
    try:
        pack(there, there)
    except StoreError as error:
        said(error, plain=True)
        print(error)
        return 2
    return 0


def bare(one: dict[str, Any], there: Store) -> dict[str, Any]:
    """Return a finished record as it is when packed: without the pictures that are not there."""
    if one["status"] not in ("ok", "diverged") or there.path(one["key"]).exists():
        return one
    return one | {"media": {}}


COMMANDS = [
    *(["table"], ["table", "--csv", "t.csv"], ["table", "--query", "status == 'ok'"], ["leaderboard"], ["site"]),
    *(
        ["check", "--reported", "none", "--baseline", "none"],
        ["cache"],
        ["cache", "--prune"],
        ["leaderboard", "--strip"],
    ),
    *(["show"], ["explain"], ["diff"], ["merge"], ["pack"]),
]


@both
def test_every_command_goes_on_beside_an_odd_record(tier: str, sandbox: Sandbox) -> None:
    sound = record(seed=7)

    def goes_on(ones: list[dict[str, Any]], words: list[str]) -> None:
        shutil.rmtree(sandbox.store)
        store(sandbox.store, [sound])
        (kept,) = sandbox.store.glob("records/*/*.json")
        before, (name, *rest) = kept.read_bytes(), words
        keys = [put(sandbox.store, one).stem for one in ones]
        place = ["--store", sandbox.store]
        if name in ("show", "explain"):
            line = [name, keys[0], *place]
        elif name == "diff":
            line = [name, sound["key"], keys[0], *place]
        elif name == "merge":
            line = [name, sandbox.store, "--store", sandbox.store / "other"]
        elif name == "pack":
            line = [name, sandbox.store, "--into", sandbox.store / "other", "--pictures", "*"]
        elif rest == ["--strip"]:
            line = [name, "--strip", "all", *place]
        else:
            line = [name, *(word.replace("t.csv", str(sandbox.store / "t.csv")) for word in rest), *place]
        gate.forget()
        with sandbox.untouched():
            code, told = gauntlet(*line)
        assert name in ("show", "explain", "diff", "check") or code == 0, told
        if name == "pack":
            assert Store(sandbox.store / "other").sound(sound["key"]) == sound
        else:
            assert kept.read_bytes() == before

    hold(tier, (3, 500), goes_on, st.lists(mutated(), min_size=1, max_size=3), st.sampled_from(COMMANDS))


# -- packed -----------------------------------------------------------------------------------------------------------
TYPES = [pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.int8(), pa.binary(), pa.large_string(), pa.null()]


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A table with values or types of columns changed, or with damaged bytes."""
    rows = sorted([record(seed=7), base(), draw(mutated())], key=lambda one: str(one.get("key")))
    try:
        made = columns.table(rows, columns.schema(rows))
    except Exception:  # no table at all can be made of it
        made = columns.table(rows := [base()], columns.schema(rows))
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from([*made.column_names, "layout", "layout"]))
        place = made.column_names.index(name)
        change = draw(st.sampled_from(["drop", "type", "value", "value", "rename"]))
        if change == "drop":
            made = made.remove_column(place)
        elif change == "rename":
            other = draw(names).encode(errors="replace").decode()  # Parquet has no lone surrogates
            made = made.rename_columns([other if i == place else n for i, n in enumerate(made.column_names)])
        else:
            values = made.column(place).to_pylist()
            values[draw(st.integers(0, len(values) - 1))] = draw(st.one_of(scalars, layouts))
            kind = made.column(place).type if change == "value" else draw(st.sampled_from(TYPES))
            try:
                made = made.set_column(place, name, pa.array(values, kind))
            except (pa.ArrowException, TypeError, OverflowError, ValueError):
                continue
    content = io.BytesIO()
    try:
        pq.write_table(made, content, store_schema=False)
    except (pa.ArrowException, UnicodeError):
        return b""
    whole = content.getvalue()
    if draw(st.integers(0, 2)):
        return whole
    at = draw(st.integers(0, len(whole)))
    return whole[:at] + draw(st.binary(max_size=3)) + whole[at + draw(st.integers(0, 3)) :]


layouts = st.dictionaries(
    st.sampled_from(["key", "config", "risk", "seed", "media", "status", "x"]),
    st.one_of(scalars, st.sampled_from("fisbnjd"), st.dictionaries(names, st.sampled_from(["f", "i", "j", "x", 1]))),
    max_size=5,
).map(json.dumps)


@both
def test_a_table_is_read_row_by_row_or_named(tier: str, sandbox: Sandbox) -> None:
    sound = record(seed=99)

    def read(content: bytes) -> None:
        shutil.rmtree(sandbox.store)
        store(sandbox.store, [sound])
        path = sandbox.store / "records/test.parquet"
        path.write_bytes(content)
        there = Store(sandbox.store)
        with sandbox.untouched():
            code, _ = quietly(lambda: reads(there, sandbox.store, sound["key"]))
            assert code == 0
            packs(there)
        assert json.dumps(there.read(sound["key"])) == json.dumps(sound)

    def reads(there: Store, folder: Path, key: str) -> int:
        found = {one["key"]: one for one in there.all()}
        for name, one in found.items():
            assert gate.Gate().fault(one, name) is None
            assert there.read(name) == one
        assert key in found and key in there.columns("key", "status", "seconds", "threat")["key"]
        # A table that breaks off in one column is whole in those that do without it.
        assert {*found} <= {*table.load(folder)["key"]} <= {row["key"] for row in table.rows(folder)}
        assert {row["key"] for row in table.rows(folder)} <= {*there.packed().keys} | {key}
        for name in there.packed().keys:
            try:
                there.find(name[:20])
            except StoreError as error:
                said(error, plain=True)
        return 0

    hold(tier, (4, 1000), read, tables())


@both
def test_a_query_only_compares(tier: str, sandbox: Sandbox) -> None:
    frame = table.frame_of([record(seed=seed) for seed in range(3)])
    words = [
        *(
            "status",
            "==",
            "'ok'",
            "(",
            ")",
            "`risk.ssim`",
            "<",
            "0.5",
            "and",
            "not",
            "@frame",
            "@",
            "seed",
            ".str",
            "in",
        ),
        *(
            ".contains('o')",
            ".map(print)",
            "[0]",
            "[",
            "]",
            ",",
            "lambda x: x",
            "__import__('os')",
            "~",
            "-",
            "`",
            "or",
        ),
        *("**", "9999999", "%", "/", "0", ".isna()", ".eval('1')", "=", ":=", ";", "\n", "\\", "#", "'", '"', "index"),
        *("isin(['a'])", ".abs()", ".index", "if", "else", "{}", "f'{seed}'", "threat", "1e999", "None"),
    ]

    def answers(query: str) -> None:
        try:
            with sandbox.untouched():
                code, _ = quietly(lambda: len(table.select(frame, query)) and 0)
                assert code == 0
        except GauntletError as error:
            said(error, plain=True)

    hold(tier, (20, 1500), answers, st.one_of(st.lists(st.sampled_from(words), max_size=7).map(" ".join), st.text()))


@pytest.mark.filterwarnings("default")
def test_the_record_that_is_changed_is_sound(tmp_path: Path) -> None:
    one = base()
    assert json.dumps(Store(store(tmp_path, [one])).find(one["key"])) == json.dumps(one)
