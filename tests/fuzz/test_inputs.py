"""No file that a user brings is read as anything but what it must be: a data set loads whole, or its file is named."""

from __future__ import annotations

import io
import json
import shutil
import warnings
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st
from PIL import Image

from benchmark.data.arrays import Arrays
from benchmark.data.base import PRIVATE_SPLITS, Dataset
from benchmark.data.npz import Npz
from benchmark.data.table_file import TableFile
from benchmark.errors import GauntletError
from benchmark.outcome import Outcome
from runners.config.build import build
from runners.report import output, pictures
from runners.store.records import StoreError
from tests.fuzz.tiers import Sandbox, both, gauntlet, hold, said
from tests.runners.conftest import composed
from tests.runners.synthetic import record, store, with_pictures

TYPES = [
    "uint8",
    "int8",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
    "bool",
    "complex64",
    "U3",
    "S2",
    "M8[s]",
    "O",
]
FILLS = [0, 1, 2, 0.5, -1, 255, 256, 2**62, np.nan, np.inf, -np.inf, 1e-300]


@st.composite
def arrays(draw: st.DrawFn, most: int = 5) -> np.ndarray:
    """Any small array."""
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=most)))
    kind, fill = np.dtype(draw(st.sampled_from(TYPES))), draw(st.sampled_from(FILLS))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        values = np.arange(int(np.prod(shape))).reshape(shape) % 3 if draw(st.booleans()) else np.full(shape, fill)
        try:
            return np.asarray(values).astype(kind)
        except (ValueError, TypeError, OverflowError):
            return np.zeros(shape, kind)


@st.composite
def images(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """The arrays of a set of images, nearly always right, with one or two of them changed."""
    rng = np.random.default_rng(0)
    shape = draw(st.sampled_from([(3, 8, 8), (1, 8, 8), (8, 8), (4, 2, 2)]))
    counts = {"train": draw(st.integers(0, 24)), "test": draw(st.integers(0, 9))}
    classes = draw(st.integers(1, 4))
    kind = draw(st.sampled_from(["uint8", "float32", "float64"]))
    found: dict[str, np.ndarray] = {}
    for part, count in counts.items():
        x = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        found[f"{part}_x"] = x if kind == "uint8" else (x / 255).astype(kind)
        found[f"{part}_y"] = np.arange(count) % classes * draw(st.sampled_from([1, 1, 3]))
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(sorted(found)))
        change = draw(st.sampled_from(["any", "value", "value", "type", "big", "drop", "shape"]))
        if change == "drop":
            del found[name]
            break
        if change == "any":
            found[name] = draw(arrays())
        elif change == "value" and found[name].size:
            place = draw(st.integers(0, found[name].size - 1))
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                found[name] = found[name].copy()
                try:
                    found[name].reshape(-1)[place] = draw(st.sampled_from(FILLS))
                except (OverflowError, ValueError):
                    assume(False)
        elif change == "type":
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")  # an imaginary part is dropped
                try:
                    found[name] = found[name].astype(draw(st.sampled_from(TYPES[:8])))
                except (OverflowError, ValueError, TypeError):  # of objects and texts that "any" brought
                    assume(False)
        elif change == "big":
            found[name] = found[name].astype(found[name].dtype.newbyteorder(">"), order="F")
        else:
            found[name] = found[name][..., None]
    return found


@st.composite
def damaged(draw: st.DrawFn, found: st.SearchStrategy[dict[str, np.ndarray]]) -> bytes:
    """An archive of arrays, whole or with damaged bytes, or something else under its name."""
    stream = io.BytesIO()
    way = draw(st.sampled_from(["whole", "whole", "whole", "whole", "bytes", "cut", "text", "npy", "zip"]))
    made = draw(found)
    save = np.savez_compressed if draw(st.booleans()) else np.savez
    save(stream, allow_pickle=True, **made)  # objects are written, never read
    content = stream.getvalue()
    if way == "bytes":
        at = draw(st.integers(0, len(content)))
        return content[:at] + draw(st.binary(min_size=1, max_size=4)) + content[at + draw(st.integers(0, 4)) :]
    if way == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if way == "text":
        return draw(st.binary(max_size=20))
    if way == "npy":
        stream = io.BytesIO()
        np.save(stream, np.zeros(3))
        return stream.getvalue()
    if way == "zip":
        stream = io.BytesIO()
        header = draw(st.sampled_from(HEADERS))
        with zipfile.ZipFile(stream, "w") as archive:
            for name in ("train_x", "train_y", "test_x", "test_y"):
                archive.writestr(f"{name}.npy", header + b"\x00" * draw(st.integers(0, 40)))
        return stream.getvalue()
    return content


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + (len(text)).to_bytes(2, "little") + text.encode()


HEADERS = [
    b"",
    b"\x93NUMPY",
    *(
        header(f"{{'descr': {kind!r}, 'fortran_order': {order}, 'shape': {shape}}}\n")
        for kind, order, shape in [
            ("|u1", False, (10**12,)),
            ("|u1", False, (10**30, 3)),
            ("|u1", True, (-1, 4)),
            ("<f8", False, (0, 0, 0, 10**18)),
            ("|O", False, (3,)),
            ("<U99999999", False, (10**9,)),
            ("nonsense", False, (3,)),
            ([("a", "<i4")], False, (5,)),
            ("|u1", "7", (3, 1, 1, 1)),
        ]
    ),
    header("__import__('os').system('true')\n"),
    header("[" * 4000),
]


def whole(data: Dataset) -> None:
    """Fail if a data set is not what its class promises."""
    for role in (*PRIVATE_SPLITS, "test"):
        split = getattr(data, role)
        assert split.x.dtype == torch.float32 and split.y.dtype == torch.int64 and len(split.x) == len(split.y)
        assert bool(split.x.isfinite().all())
        assert len(split) == 0 or 0 <= int(split.y.min()) <= int(split.y.max()) < data.num_classes
        for extra in (split.sensitive, split.group):
            assert extra is None or (len(extra) == len(split) and int(extra.min() if len(extra) else 0) >= 0)
    assert len(data.digest) == 64 and data.num_classes >= 2 and len(data.test)


def loads(source: Any, root: Path) -> Dataset | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = source.load(root, 0)
        except GauntletError as error:
            said(error)
            return None
    whole(data)
    return data


@both
def test_an_archive_of_images_loads_whole_or_is_named(tier: str, sandbox: Sandbox) -> None:
    file = sandbox.root / "data/set.npz"
    file.touch()

    def read(content: bytes, sizes: dict[str, Any]) -> None:
        file.write_bytes(content)
        with sandbox.untouched():
            try:
                source = Npz(sizes=sizes, path="set.npz")
            except GauntletError:
                return
            data = loads(source, sandbox.root / "data")
        if data is not None:
            for split in (data.owner, data.test):
                assert not len(split) or (float(split.x.min()) >= 0 and float(split.x.max()) <= 1)
            assert data.owner.x.ndim == 4

    counts = st.one_of(st.integers(0, 8), st.none(), st.sampled_from([-1, 10**9, 2**70, 1.5, True, "x"]))
    sizes = st.dictionaries(st.sampled_from([*PRIVATE_SPLITS, "test", "test", "owner", "x"]), counts, max_size=5)
    hold(tier, (20, 5000), read, damaged(images()), sizes)


@st.composite
def named(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Arrays as ``dataset=arrays`` takes them, nearly always right."""
    made = draw(images())
    if draw(st.booleans()):
        return made
    rows = draw(st.integers(0, 40))
    shape = draw(st.sampled_from([(3,), (2, 9), (9, 2), (1, 4, 4), (4, 4, 3), (4, 4)]))
    found = {"x": np.random.default_rng(0).normal(size=(rows, *shape)), "y": np.arange(rows) % 3}
    for name in draw(st.lists(st.sampled_from(["sensitive", "group", "x", "y", "train_x"]), max_size=2)):
        found[name] = draw(st.one_of(arrays(), st.just(np.arange(rows) % draw(st.integers(1, 7)))))
    return found


@both
def test_arrays_of_any_form_load_whole_or_are_named(tier: str, sandbox: Sandbox) -> None:
    file = sandbox.root / "data/set.npz"

    def read(content: bytes, kind: str | None) -> None:
        file.write_bytes(content)
        with sandbox.untouched():
            data = loads(Arrays(path=str(file), kind=kind), sandbox.root)
        if data is not None:
            assert all(not len(s) or (float(s.min()) >= 0 and float(s.max()) <= 1) for s in (data.owner.x, data.test.x))

    kinds = st.sampled_from([None, None, "image", "table", "signal"])
    hold(tier, (20, 3000), read, damaged(named()), kinds)


CELLS = st.one_of(
    st.sampled_from(["1", "2.5", "a", "b", "", "?", "inf", "-1e300", "nan", "9" * 400, '"', "é", "\x00", "True"]),
    st.text(max_size=3),
)


@both
def test_a_table_of_any_cells_loads_whole_or_is_named(tier: str, sandbox: Sandbox) -> None:
    file = sandbox.root / "data/set.csv"

    def read(odd: list[tuple[int, int, str]], rows: int, names: list[str]) -> None:
        cells = [[str(row * 7 % 11), "ab"[row % 2], str(row % 3), "xy"[row // 2 % 2]] for row in range(rows)]
        for row, column, text in odd if rows else ():
            cells[row % rows][column] = text
        lines = [",".join(names), *(",".join(line) for line in cells)]
        file.write_text("\n".join(lines), encoding="utf-8", errors="replace")
        with sandbox.untouched():
            source = TableFile(path=str(file), label="c", sensitive="b")
            data = loads(source, sandbox.root)
        assert data is None or data.owner.sensitive is not None

    odd = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), CELLS), max_size=4)
    names = st.sampled_from([["a", "b", "c", "d"]] * 5 + [["a", "b", "c", "c"], ["", "b", "c", "d"], ["a", "c"]])
    hold(tier, (10, 1000), read, odd, st.integers(0, 60), names)


@both
def test_the_path_of_an_archive_stays_in_the_data_root(tier: str, sandbox: Sandbox) -> None:
    outside = sandbox.root / "mine/set.npz"
    rng = np.random.default_rng(0)
    y = np.arange(12) % 2
    np.savez(outside, train_x=rng.random((12, 4, 4)), train_y=y, test_x=rng.random((12, 4, 4)), test_y=y)
    (sandbox.root / "data/inner").mkdir()
    parts = st.sampled_from(
        ["..", ".", "mine", "set.npz", "inner", "", "/", "~", "\x00", "x" * 300, "\ud800", "é", "a\\b"]
    )
    roots = [None, sandbox.root / "data", sandbox.root / "data/inner", sandbox.root / "nowhere", Path("\x00")]

    def stays(path: str, root: Path | None) -> None:
        with sandbox.untouched():
            try:
                source = Npz(sizes={"owner": 4, "test": 4}, path=path)
            except GauntletError:
                return
            assert root is None or loads(source, root) is None

    paths = st.one_of(st.lists(parts, max_size=5).map("/".join), st.text(max_size=5), st.just(str(outside)))
    hold(tier, (20, 600), stays, paths, st.sampled_from(roots))


TABLES = {
    "adult": ["adult/adult.data", "adult/adult.test"],
    "compas": ["compas/compas-scores-two-years.csv"],
    "german_credit": ["german_credit/german.data"],
    "heart_sites": [f"heart_disease/processed.{name}.data" for name in ("cleveland", "hungarian", "switzerland", "va")],
}
ROWS = {
    "adult": "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, 2174, 0, "
    "40, United-States, <=50K",
    "compas": "Male,25,African-American,0,0,0,1,F,2,-1,1,Low,1",
    "german_credit": "A11 6 A34 A43 1169 A65 A75 4 A93 A101 4 A121 67 A143 A152 2 A173 1 A192 A201 1",
    "heart_sites": "63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0",
}
COMPAS = (
    "sex,age,race,juv_fel_count,juv_misd_count,juv_other_count,priors_count,c_charge_degree,days_b_screening_arrest,"
)
COMPAS += "is_recid,two_year_recid,score_text,x"
SWAPS = {
    "Male": "Female",
    ">50K": "<=50K",
    "<=50K": ">50K",
    "White": "Black",
    "A11": "A12",
    ",0": ",1",
    "39": "40",
    "African-American": "x",
    ",1": ",0",
    " 1": " 2",
    "Low": "N/A",
    "63.0": "64.0",
    "1169": "99",
}
ODD_CELLS = [
    "",
    "?",
    "nan",
    "inf",
    "-1",
    "1e400",
    "9" * 400,
    '"',
    "é",
    "\x00",
    "x",
    " ",
    ",",
    "\r",
    "0x1",
    "9" * 25,
    "True",
]


@st.composite
def texts(draw: st.DrawFn, option: str) -> bytes:
    """The lines of a table, of which some are odd."""
    lines = []
    for number in range(draw(st.integers(0, 30))):
        line = ROWS[option]
        for old in draw(st.lists(st.sampled_from(sorted(SWAPS)), max_size=3)) if number % 2 else []:
            line = line.replace(old, SWAPS[old])
        lines.append(line)
    for _ in range(draw(st.integers(0, 2))):
        if lines:
            at = draw(st.integers(0, len(lines) - 1))
            cells = lines[at].split(",")
            cells[draw(st.integers(0, len(cells) - 1))] = draw(
                st.one_of(st.sampled_from(ODD_CELLS), st.text(max_size=3))
            )
            lines[at] = draw(st.sampled_from([",", ",", ", ", " "])).join(cells)
    head = [COMPAS] if option == "compas" else []
    content = "\n".join([*head[: draw(st.sampled_from([1, 1, 1, 0]))], *lines]).encode(errors="surrogatepass")
    if draw(st.integers(0, 4)):
        return content
    at = draw(st.integers(0, len(content)))
    return content[:at] + draw(st.binary(max_size=3)) + content[at:]


@cache
def node(option: str) -> dict[str, Any]:
    return dict(composed(f"dataset={option}").nodes["dataset"])


@both
def test_a_table_loads_whole_or_is_named(tier: str, sandbox: Sandbox) -> None:
    def read(option: str, contents: list[bytes]) -> None:
        for number, name in enumerate(TABLES[option]):
            file = sandbox.root / "data" / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(contents[number % len(contents)])
        sizes = {"owner": 2, "attacker": 2, "public": 0, "calibration": 1, "test": None}
        loads(build(node(option) | {"sizes": sizes}, "dataset"), sandbox.root / "data")

    def of(option: str) -> st.SearchStrategy[tuple[str, list[bytes]]]:
        return st.tuples(st.just(option), st.lists(texts(option), min_size=1, max_size=2))

    hold(tier, (4, 700), lambda drawn: read(*drawn), st.sampled_from(sorted(TABLES)).flatmap(of))


ARCHIVES = {
    "att_faces": ("att_faces/att_faces.npz", ("images", "subject")),
    "uci_har": ("uci_har/uci_har.npz", ("X", "activity", "subject")),
    "apnea_ecg": ("apnea_ecg/apnea_ecg_rr.npz", ("record", "tick", "rr", "beat_record", "minute_record", "apnea")),
    "heart_detectron": (
        "heart_disease/detectron_split.npz",
        tuple(f"{part}_{kind}" for part in ("train", "val", "iid_test", "ood_test") for kind in "xy"),
    ),
}


@both
def test_an_archive_of_a_known_set_loads_whole_or_is_named(tier: str, sandbox: Sandbox) -> None:
    def read(option: str, content: bytes) -> None:
        file = sandbox.root / "data" / ARCHIVES[option][0]
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
        loads(build(node(option), "dataset"), sandbox.root / "data")

    def of(option: str) -> st.SearchStrategy[tuple[str, bytes]]:
        return st.tuples(st.just(option), damaged(st.fixed_dictionaries(dict.fromkeys(ARCHIVES[option][1], arrays(3)))))

    hold(tier, (4, 700), lambda drawn: read(*drawn), st.sampled_from(sorted(ARCHIVES)).flatmap(of))


# -- what reports write ----------------------------------------------------------------------------------------------
@both
def test_a_picture_of_any_numbers_is_written_or_refused(tier: str, sandbox: Sandbox) -> None:
    def write(name: str, array: np.ndarray, captions: list[str]) -> None:
        outcome = Outcome(utility={}, risk={})
        with sandbox.untouched():
            try:
                outcome.picture(name, {caption: torch.from_numpy(np.atleast_1d(array)) for caption in captions})
                paths = pictures.save(outcome, sandbox.store, "ab" * 8)
            except (ValueError, RuntimeError, StoreError) as error:
                said(error)
                return
        (path,) = paths.values()
        with Image.open(sandbox.store / path) as picture:
            picture.load()

    kinds = arrays().filter(lambda array: array.dtype.kind in "fiub").filter(lambda array: array.dtype != np.uint64)
    shapes = st.builds(np.full, st.tuples(*[st.integers(1, 3)] * 4), st.sampled_from([0.5, 2.0, np.nan, np.inf]))
    names = st.one_of(st.text(max_size=10), st.sampled_from(["../../x", "/etc/x", "a" * 400, "\x00", ".", "é"]))
    hold(tier, (15, 900), write, names, st.one_of(shapes, shapes, kinds), st.lists(st.text(max_size=20), max_size=4))


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A PNG file, whole or damaged, or something else under its name."""
    stream = io.BytesIO()
    mode, size = draw(st.sampled_from(["RGB", "L", "1", "RGBA", "P", "I;16"])), (draw(st.integers(1, 1500)), 3)
    Image.new(mode, size).save(stream, "PNG")
    content = stream.getvalue()
    way = draw(st.sampled_from(["whole", "bytes", "cut", "other", "huge"]))
    if way == "huge":  # a header that promises more pixels than any memory has
        return content[:16] + draw(st.sampled_from([b"\x00\x01\x00\x00" * 2, b"\x7f\xff\xff\xff" * 2])) + content[24:]
    if way == "bytes":
        at = draw(st.integers(0, len(content)))
        return content[:at] + draw(st.binary(min_size=1, max_size=4)) + content[at + draw(st.integers(0, 4)) :]
    if way == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if way == "other":
        Image.new("RGB", (4, 4)).save(stream := io.BytesIO(), draw(st.sampled_from(["GIF", "BMP", "TIFF", "PPM"])))
        return draw(st.one_of(st.just(stream.getvalue()), st.binary(max_size=30), st.just(b"<svg onload=x>")))
    return content


@both
def test_reports_stand_beside_a_damaged_picture(tier: str, sandbox: Sandbox) -> None:
    one = with_pictures(record(), "grid")
    picture, place = sandbox.store / one["media"]["grid"], ("--store", sandbox.store)

    def report(content: bytes, link: bool, words: list[str]) -> None:
        shutil.rmtree(sandbox.store)
        store(sandbox.store, [one])
        picture.parent.mkdir(parents=True)
        if link:
            picture.symlink_to(sandbox.root / "mine/thesis.txt")
        else:
            picture.write_bytes(content)
        with sandbox.untouched():
            gauntlet(*words, *place)

    commands = st.sampled_from([["leaderboard", "--strip", "all"], ["leaderboard", "--strip", "test"], ["site"]])
    hold(tier, (2, 250), report, files(), st.sampled_from([False, False, True]), commands)


@both
def test_generated_files_delete_only_what_was_generated(tier: str, sandbox: Sandbox) -> None:
    folder = sandbox.store / "site"

    def write(manifest: Any, names: list[str], raw: bytes | None) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "away").symlink_to(sandbox.root / "mine")
        (folder / output.MANIFEST).write_bytes(raw if raw is not None else json.dumps(manifest).encode())
        with sandbox.untouched():
            try:
                output.write(folder, dict.fromkeys(names, "x"))
            except (StoreError, OSError) as error:
                said(error)

    steps = st.sampled_from(
        ["..", "mine", "thesis.txt", "away", "index.html", "/", "", ".", "records", "~", "\x00", "x" * 300]
    )
    paths = st.lists(steps, min_size=1, max_size=5).map("/".join)
    listed = st.one_of(st.lists(st.one_of(paths, st.none(), st.integers()), max_size=5), st.none(), st.just({"a": 1}))
    raw = st.one_of(st.none(), st.none(), st.binary(max_size=10), st.just(b"[" * 5000))
    own = st.lists(st.sampled_from(["index.html", "a/b.html", "away/x.html", "c.css"]), max_size=3, unique=True)
    hold(tier, (15, 600), write, listed, own, raw)
