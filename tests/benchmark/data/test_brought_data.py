"""Data of one's own: what is read, how it is divided, and that whatever cannot be used is named in a sentence."""

from __future__ import annotations

import io
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from benchmark.cell import read_traits
from benchmark.data import brought, content
from benchmark.data.arrays import Arrays
from benchmark.data.base import PRIVATE_SPLITS, Dataset
from benchmark.data.huggingface import HuggingFace
from benchmark.data.pictures import ImageFolder, TorchvisionSet
from benchmark.data.table_file import TableFile
from benchmark.errors import ConfigError
from benchmark.models.any_shape import AnyShape
from runners.cli.problems import guarded
from tests.benchmark.data.test_torchvision_sets import write_mnist

RNG = np.random.default_rng(0)
N = 60
Y = np.arange(N) % 3
TABLE = RNG.random((N, 4))
BYTES = RNG.integers(0, 256, (N, 1, 8, 8), dtype=np.uint8)
FRAME = pd.DataFrame(
    {
        "size": RNG.normal(10, 3, N).round(3),
        "colour": np.array(["red", "green", "blue"])[np.arange(N) // 3 % 3],
        "sex": np.array(["f", "m"])[np.arange(N) // 2 % 2],
        "label": np.array(["no", "yes"])[np.arange(N) % 2],
    }
)


def npz(root: Path, **arrays: Any) -> Path:
    np.savez(root / "d.npz", **({"x": TABLE, "y": Y} | arrays))
    return root / "d.npz"


def parted(root: Path, **arrays: Any) -> Path:
    parts = {"train_x": BYTES[:40], "train_y": Y[:40], "test_x": BYTES[40:], "test_y": Y[40:]} | arrays
    np.savez(root / "d.npz", **{name: array for name, array in parts.items() if array is not None})
    return root / "d.npz"


def table(root: Path, frame: pd.DataFrame = FRAME, name: str = "d.csv") -> Path:
    frame.to_csv(root / name, index=False)
    return root / name


def text(root: Path, content: str | bytes, name: str = "d.csv") -> Path:
    (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return root / name


def picture(file: Path, array: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file)


def folder(root: Path, classes: int = 2, each: int = 20, dtype: type = np.uint8, part: str = "") -> Path:
    top = root / "pictures" / part
    for label in range(classes):
        for number in range(each):
            picture(top / f"c{label}" / f"{number}.png", RNG.integers(0, 256, (6, 6)).astype(dtype))
    return root / "pictures"


def spoilt(root: Path, change: Callable[[Path], Any]) -> Path:
    change(folder(root))
    return root / "pictures"


def empty(root: Path) -> Path:
    (root / "e").mkdir()
    return root / "e"


def twice(root: Path) -> Path:
    (root / "t").mkdir()
    table(root / "t", FRAME, "train.csv")
    table(root / "t", FRAME.rename(columns={"size": "length"}), "test.csv")
    return root / "t"


def unreadable(root: Path) -> Path:
    (root / "loop.csv").symlink_to(root / "loop.csv")
    return root / "loop.csv"


def nothing(root: Path) -> Path:
    return root


# -- what cannot be used ----------------------------------------------------------------------------------------------
IN_ARRAYS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no file": (lambda r: r / "none.npz", "names nothing"),
    "a path of a null byte": (lambda r: r / "\x00", "names nothing"),
    "an unknown suffix": (lambda r: text(r, "x", "d.mat"), "is none of .npz, .safetensors"),
    "a table": (table, "for .csv and .parquet use dataset=table"),
    "an empty file": (lambda r: text(r, "", "d.npz"), "cannot be read, BadZipFile"),
    "no archive": (lambda r: text(r, "nothing", "d.npz"), "cannot be read, BadZipFile"),
    "half an archive": (lambda r: text(r, npz(r).read_bytes()[:900], "d.npz"), "cannot be read"),
    "no safetensors": (lambda r: text(r, "nothing", "d.safetensors"), "cannot be read, SafetensorError"),
    "an array without labels": (lambda r: text(r, "x", "d.npy"), "put x.npy and y.npy into a folder"),
    "an empty folder": (empty, "there is no array x or y"),
    "no labels": (lambda r: parted(r, train_y=None), "there is no array train_y"),
    "no test part": (lambda r: parted(r, test_x=None), "there is no array test_x"),
    "groups of one part": (lambda r: parted(r, train_group=Y[:40]), "there is train_group, but no test_group"),
    "two of a name": (lambda r: npz(r, X=TABLE), "holds x twice"),
    "objects": (lambda r: npz(r, x=np.array([None] * N)), "array of objects, which is never unpickled"),
    "labels that are objects": (lambda r: npz(r, y=np.array(["a", None] * 30, dtype=object)), "never unpickled"),
    "texts": (lambda r: npz(r, x=TABLE.astype(str)), "x must hold numbers, it is <U"),
    "complex numbers": (lambda r: npz(r, x=TABLE + 1j), "x must hold numbers, it is complex128"),
    "a single number": (lambda r: npz(r, x=np.float64(3)), "x has the shape ()"),
    "five axes": (lambda r: npz(r, x=np.zeros((N, 1, 2, 2, 2))), "x has the shape (60, 1, 2, 2, 2)"),
    "no channels": (lambda r: npz(r, x=RNG.random((N, 20, 9, 9))), "no axis holds 1 to 4 channels"),
    "no samples": (lambda r: npz(r, x=TABLE[:0], y=Y[:0]), "x is empty"),
    "no features": (lambda r: npz(r, x=TABLE[:, :0]), "x is empty, it has the shape (60, 0)"),
    "NaN": (lambda r: npz(r, x=np.where(TABLE > 0.9, np.nan, TABLE)), "x holds NaN or infinity"),
    "infinity": (lambda r: npz(r, x=np.where(TABLE > 0.9, np.inf, TABLE)), "x holds NaN or infinity"),
    "samples all alike": (lambda r: npz(r, x=np.ones((N, 4))), "All samples of x are the same"),
    "fewer labels": (lambda r: npz(r, y=Y[:-1]), "x holds 60 samples, y 59"),
    "fewer persons": (lambda r: npz(r, group=Y[:-1]), "x holds 60 samples, group 59"),
    "one class": (lambda r: npz(r, y=np.full(N, 7)), "All of y is 7"),
    "labels in rows": (lambda r: npz(r, y=np.eye(3)[Y]), "y must be one value for each sample"),
    "labels that are quantities": (lambda r: npz(r, y=TABLE[:, 0] * 9), "a quantity (regression), no class"),
    "labels of which none repeats": (lambda r: npz(r, y=np.arange(N)), "y has 60 values in 60 samples"),
    "a label not known": (lambda r: npz(r, y=np.where(Y == 1, np.nan, Y)), "y holds NaN"),
    "labels that are times": (lambda r: npz(r, y=Y.astype("M8[s]")), "y must hold whole numbers or texts"),
    "a class of one": (lambda r: npz(r, y=np.where(np.arange(N) == 5, 9, Y)), "one sample of the class 9"),
    "a class only tested": (
        lambda r: parted(r, test_y=Y[40:] + 1),
        "No training sample has this class of the test part",
    ),
    "a constant attribute": (lambda r: npz(r, sensitive=np.ones(N, int)), "sensitive has one value"),
    "persons of few samples": (lambda r: npz(r, group=np.arange(N) // 6), "No person has enough samples of a class"),
    "two persons": (lambda r: npz(r, group=np.arange(N) % 2), "The group names 2 persons"),
    "parts of two kinds": (
        lambda r: parted(r, test_y=Y[40:].astype("datetime64[s]")),
        "train_y holds int64, test_y datetime64[s]; both",
    ),
    "parts of two shapes": (lambda r: parted(r, test_x=BYTES[40:, :, :4]), "train_x holds samples of the shape"),
    "parts that are the same": (lambda r: parted(r, test_x=BYTES[:20]), "every sample of test_x is one of train_x"),
    "fewer samples than roles": (lambda r: npz(r, x=TABLE[:6], y=Y[:6] % 2), "too few for the roles"),
}
IN_TABLES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no table": (lambda r: r / "none.csv", "names nothing"),
    "arrays": (npz, "for .npz and .safetensors use dataset=arrays"),
    "a file that links to itself": (unreadable, "names nothing"),
    "an empty table": (lambda r: text(r, ""), "cannot be read as a table, EmptyDataError"),
    "a header alone": (lambda r: text(r, "a,label\n"), "has no rows below its header"),
    "another separator": (lambda r: text(r, "a;label\n1;2\n"), "separated by commas"),
    "bytes": (lambda r: text(r, b"a,label\n\xff\xfe,1\n"), "cannot be read as a table, UnicodeDecodeError"),
    "rows too long": (lambda r: text(r, "a,label\n1,2\n1,2,3,4\n"), "cannot be read as a table, ParserError"),
    "no Parquet": (lambda r: text(r, "nothing", "d.parquet"), "cannot be read as a table, ArrowInvalid"),
    "no column of labels": (lambda r: table(r, FRAME.rename(columns={"label": "lable"})), "did you mean lable"),
    "two columns of a name": (lambda r: text(r, "a,a,label\n1,2,3\n"), "has two columns 'a'"),
    "rows without a label": (lambda r: table(r, FRAME.assign(label=FRAME.label.where(Y > 0))), "no value in 20 rows"),
    "a constant label": (lambda r: table(r, FRAME.assign(label=1)), "All of the column 'label' is 1"),
    "a quantity to tell": (lambda r: table(r, FRAME.assign(label=FRAME["size"])), "a quantity (regression)"),
    "an infinite number": (lambda r: table(r, FRAME.assign(size=np.inf * (Y - 1.5))), "holds an infinite number"),
    "numbers and a text": (lambda r: table(r, FRAME.assign(size=["x", *FRAME["size"][1:]])), "numbers, and 'x'"),
    "names": (lambda r: table(r, FRAME.assign(name=[f"n{i}" for i in range(N)])), "different texts in 60 rows"),
    "nothing to learn from": (lambda r: table(r, FRAME[["label"]].assign(one=1, none=None)), "no column left"),
    "an empty folder": (empty, "must hold train.csv and test.csv"),
    "two files of other columns": (twice, "the column 'length' is in one of the two files only"),
}
IN_FOLDERS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no folder": (lambda r: r / "none", "names nothing"),
    "a file": (table, "is a file; dataset=folder reads a folder"),
    "no classes": (empty, "holds no folders"),
    "one class": (lambda r: folder(r, 1), "All of the folder of a class is 'c0'"),
    "one picture": (lambda r: folder(r, 1, 1), "All of the folder of a class is 'c0'"),
    "a class without pictures": (lambda r: spoilt(r, lambda f: (f / "c9").mkdir()), "every class needs pictures"),
    "no picture": (lambda r: spoilt(r, lambda f: text(f, "x", "c0/0.png")), "cannot be read as a picture, Unid"),
    "half a picture": (
        lambda r: spoilt(r, lambda f: text(f, (f / "c0/1.png").read_bytes()[:60], "c0/0.png")),
        "cannot be read as a picture",
    ),
    "a class only tested": (
        lambda r: (folder(r, 2, part="train"), folder(r, 3, part="test"))[0],
        "has the class 'c2', which",
    ),
    "fewer pictures than roles": (lambda r: folder(r, 2, 3), "too few for the roles"),
}
OTHERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a column twice": (lambda r: TableFile(label="a", sensitive="a"), "the column 'a' twice"),
    "a label that is dropped": (lambda r: TableFile(label="a", drop=["a"]), "leaves out 'a'"),
    "no sensitive column": (lambda r: TableFile(path=str(table(r)), sensitive="sax"), "did you mean sex"),
    "a sensitive quantity": (lambda r: TableFile(path=str(table(r)), sensitive="size"), "a quantity (regression)"),
    "an unknown set": (lambda r: TorchvisionSet(set="svhn"), "Did you mean SVHN?"),
    "a set that is not there": (lambda r: TorchvisionSet(set="MNIST"), "dataset.download=true"),
    "neither path nor name": (lambda r: HuggingFace(), "either dataset.path=FOLDER or dataset.hub=NAME"),
    "an unknown kind": (lambda r: Arrays(path=str(npz(r)), kind="text"), "must be one of image, table, signal"),
    "a table taken for pictures": (lambda r: Arrays(path=str(npz(r)), kind="image"), "images are"),
    "other content": (lambda r: Arrays(path=str(npz(r)), content="0" * 64), "does not hold the data that"),
    "too many asked for": (lambda r: Arrays(path=str(npz(r)), sizes={"owner": 61}), "asks for 61 training samples"),
    "too many to test": (lambda r: Arrays(path=str(npz(r)), sizes={"owner": 9, "test": 99}), "99 samples of test"),
    "an owner of one class": (lambda r: Arrays(path=str(npz(r)), sizes={"owner": 1}), "samples are of one class"),
}


def refused(capsys: pytest.CaptureFixture[str], load: Callable[[], object], words: str) -> None:
    """Fail unless the command line would answer ``load`` with exit code 2 and one paragraph that holds ``words``."""
    assert guarded(load) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1 and "Traceback" not in told


@pytest.mark.parametrize(
    ("source", "write", "words"),
    [
        pytest.param(source, *case, id=f"{source.__name__}: {name}")
        for source, cases in ((Arrays, IN_ARRAYS), (TableFile, IN_TABLES), (ImageFolder, IN_FOLDERS))
        for name, case in cases.items()
    ],
)
def test_data_that_cannot_be_used_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: Any, write: Callable[[Path], Path], words: str
) -> None:
    path = str(write(tmp_path))
    refused(capsys, lambda: source(path=path).load(None, 0), words)


@pytest.mark.parametrize("name", OTHERS)
def test_parameters_that_do_not_fit_the_data_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    make, words = OTHERS[name]
    refused(capsys, lambda: make(tmp_path).load(tmp_path, 0), words)


@pytest.mark.parametrize("write", [npz, table, folder], ids=["arrays", "table", "folder"])
def test_data_larger_than_half_of_the_memory_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], Path]
) -> None:
    source = {npz: Arrays, table: TableFile, folder: ImageFolder}[write](path=str(write(tmp_path)))  # type: ignore
    monkeypatch.setattr(content, "memory", lambda: 1000)
    refused(capsys, lambda: source.load(None, 0), "more than half of what this machine has")


def test_a_library_that_is_not_there_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused(capsys, lambda: HuggingFace(hub="mnist").load(None, 0), "pip install -e '.[huggingface]'")


# -- what is read -----------------------------------------------------------------------------------------------------
def rows_of(data: Dataset) -> int:
    return sum(len(getattr(data, role)) for role in (*PRIVATE_SPLITS, "test"))


@pytest.mark.parametrize("form", ["npz", "npy", "safetensors"])
def test_every_form_of_arrays_gives_the_same_data(tmp_path: Path, form: str) -> None:
    arrays = {"x": TABLE.astype(np.float32), "y": Y}
    path = tmp_path / f"d.{form}"
    if form == "npy":
        path.mkdir()
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)
    else:
        save_file(arrays, path) if form == "safetensors" else np.savez(path, **arrays)
    data = Arrays(path=str(path)).load(None, 0)
    assert data.digest == Arrays(path=str(npz(tmp_path, **arrays))).load(None, 0).digest
    assert rows_of(data) == N and len(data.test) == 18 and len(data.owner) == 22 and data.notes == ()
    originals = {row.tobytes(): label for row, label in zip(arrays["x"], Y, strict=True)}
    for role in (*PRIVATE_SPLITS, "test"):
        split = getattr(data, role)
        assert [originals.pop(row.numpy().tobytes()) for row in split.x] == split.y.tolist(), "disjoint, and all there"


def test_the_test_part_is_the_same_for_every_seed_and_the_rest_is_not(tmp_path: Path) -> None:
    one, two = (Arrays(path=str(npz(tmp_path))).load(None, seed) for seed in range(2))
    tested = [set(map(tuple, data.test.x.tolist())) for data in (one, two)]
    assert tested[0] == tested[1] and one.test.y.bincount().tolist() == [6, 6, 6]
    assert set(map(tuple, one.owner.x.tolist())) != set(map(tuple, two.owner.x.tolist()))


@pytest.mark.parametrize(
    ("x", "shape", "kind", "note"),
    [
        (BYTES, (1, 8, 8), "image", ""),
        (BYTES[:, 0], (1, 8, 8), "image", "taken for that of images"),
        (BYTES.reshape(N, 8, 8, 1), (1, 8, 8), "image", "taken for channels"),
        (BYTES / 255, (1, 8, 8), "image", ""),
        (BYTES.astype(np.float32), (1, 8, 8), "image", "divided by 255"),
        (BYTES.astype(np.uint16) * 257, (1, 8, 8), "image", "divided by 65535"),
        (BYTES / 127.5 - 1, (1, 8, 8), "image", "scaled to [0, 1] by the owner's range"),
        (RNG.normal(size=(N, 128, 9)), (9, 128), "signal", "taken for time"),
        (RNG.random((N, 3, 20)), (3, 20), "signal", "taken for that of signals"),
        (TABLE, (4,), "tabular", ""),
        (TABLE * 50 - 9, (4,), "tabular", "each channel or column by itself"),
    ],
)
def test_samples_are_recognised_and_brought_to_one_range(
    tmp_path: Path, x: np.ndarray, shape: tuple[int, ...], kind: str, note: str
) -> None:
    data = Arrays(path=str(npz(tmp_path, x=x))).load(None, 0)
    assert data.shape == shape and read_traits(data)["dataset.kind"] == kind
    assert note in " ".join(data.notes) and bool(data.notes) == bool(note)
    for role in (*PRIVATE_SPLITS, "test"):
        split = getattr(data, role).x
        assert split.dtype == torch.float32 and float(split.min()) >= 0 and float(split.max()) <= 1
    assert AnyShape(shape=data.shape, num_classes=data.num_classes)(data.test.x).shape == (len(data.test), 3)


def test_bytes_keep_their_pixels_and_16_bits_their_ratio(tmp_path: Path) -> None:
    mine = Arrays(path=str(npz(tmp_path, x=BYTES))).load(None, 0)
    deep = Arrays(path=str(npz(tmp_path, x=BYTES.astype(np.uint16) * 257))).load(None, 0)
    assert torch.allclose(mine.owner.x, deep.owner.x, atol=1e-7)
    assert {(x * 255).round().byte().numpy().tobytes() for x in mine.test.x} <= {x.tobytes() for x in BYTES}


def test_scaling_is_fitted_on_the_owner_alone(tmp_path: Path) -> None:
    values = np.arange(N, dtype=float)[:, None] * [1, 10]
    data = Arrays(path=str(npz(tmp_path, x=values))).load(None, 0)
    frame = pd.DataFrame({"a": values[:, 0], "b": values[:, 1], "label": Y})
    same = TableFile(path=str(table(tmp_path, frame))).load(None, 0)
    assert data.owner.x.min(0).values.tolist() == [0, 0] and data.owner.x.max(0).values.tolist() == [1, 1]
    outside = torch.cat([getattr(data, role).x for role in ("attacker", "public", "calibration", "test")])
    assert int(((outside == 0) | (outside == 1)).any(1).sum()) >= 1, "clipped, where the owner's range was narrower"
    assert torch.allclose(data.owner.x, same.owner.x) and torch.allclose(data.test.x, same.test.x)


def test_labels_with_gaps_and_texts_are_numbered_in_their_order_which_is_told(tmp_path: Path) -> None:
    for labels in (np.array([-1, 5, 99]), np.array(["a", "b", "c"])):
        data = Arrays(path=str(npz(tmp_path, y=labels[Y], sensitive=labels[Y]))).load(None, 0)
        assert data.num_classes == 3 and data.test.y.bincount().tolist() == [6, 6, 6]
        assert f"Y: {', '.join(map(str, labels))} are numbered from 0 in this order." in data.notes
        assert data.owner.sensitive is not None and torch.equal(data.owner.sensitive, data.owner.y)


def test_a_class_that_a_role_lacks_is_told(tmp_path: Path) -> None:
    data = Arrays(path=str(parted(tmp_path, test_y=Y[40:] % 2))).load(None, 0)
    assert data.num_classes == 3 and "1 of 3 classes have no sample among those of test." in data.notes
    assert len(data.test) == 20 and len(data.owner) == 20


def test_whole_persons_are_tested_and_public_and_the_owners_time_comes_first(tmp_path: Path) -> None:
    person, time = np.repeat(np.arange(10), 12), np.arange(120) / 120
    arrays = {"x": np.stack([person / 10, time], 1), "y": np.arange(120) % 2, "group": person}
    data, other = (Arrays(path=str(npz(tmp_path, **arrays))).load(None, seed) for seed in (0, 3))
    assert data.test.group is not None and other.test.group is not None
    of = {role: set(getattr(data, role).group.tolist()) for role in (*PRIVATE_SPLITS, "test")}
    assert len(of["test"]) == 3 and of["owner"] == of["attacker"] == of["calibration"]
    assert not of["test"] & (of["owner"] | of["public"]) and not of["owner"] & of["public"]
    for one in of["owner"]:
        last = data.owner.x[data.owner.group == one][:, 1].max()
        assert last <= data.calibration.x[data.calibration.group == one][:, 1].max()
    assert of["test"] == set(other.test.group.tolist()) and of["public"] != set(other.public.group.tolist())


def test_sizes_are_taken_as_given_and_the_others_share_the_rest() -> None:
    assert brought._divided(100, {}) == dict.fromkeys(PRIVATE_SPLITS, 0), "as in every data set, left out is none"
    sizes = dict.fromkeys(PRIVATE_SPLITS)
    assert brought._divided(100, sizes) == {"owner": 50, "attacker": 20, "public": 10, "calibration": 20}
    assert brought._divided(100, sizes | {"owner": 20, "public": 0}) == {
        "owner": 20,
        "attacker": 40,
        "public": 0,
        "calibration": 40,
    }


# -- tables -----------------------------------------------------------------------------------------------------------
def test_a_table_of_numbers_texts_and_gaps(tmp_path: Path) -> None:
    frame = FRAME.assign(one=3, none=None)
    frame.loc[::7, "size"] = np.nan
    frame.loc[::5, "colour"] = None
    frame.to_csv(tmp_path / "d.csv")  # with its index as a column without a name
    data = TableFile(path=str(tmp_path / "d.csv"), sensitive="sex", hide_sensitive=True).load(None, 0)
    assert data.shape == (5,) and data.num_classes == 2, "size, three colours and one for none"
    assert data.owner.x[:, 1:].sum(1).tolist() == [1.0] * len(data.owner)
    for told in ("'one' has one value", "'none' is empty", "has no name", "9 missing numbers", "sex", "label"):
        assert told in " ".join(data.notes)
    assert set(data.owner.sensitive.tolist()) == {0, 1} and read_traits(data)["dataset.sensitive"] == "yes"
    seen = TableFile(path=str(tmp_path / "d.csv"), sensitive="sex").load(None, 0)
    assert seen.shape == (7,)


def test_parquet_and_two_files_in_a_folder(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "d.parquet")
    one = TableFile(path=str(tmp_path / "d.parquet")).load(None, 0)
    assert one.digest == TableFile(path=str(table(tmp_path))).load(None, 0).digest
    (tmp_path / "two").mkdir()
    FRAME[:40].to_parquet(tmp_path / "two/train.parquet")
    table(tmp_path / "two", FRAME[40:][FRAME.columns[::-1]], "test.csv")
    two = TableFile(path=str(tmp_path / "two")).load(None, 0)
    assert len(two.test) == 20 and two.shape == one.shape


# -- pictures ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_folder_of_pictures(tmp_path: Path, dtype: type) -> None:
    path = folder(tmp_path, 3, 10, dtype)
    picture(path / "c0" / "0.png", RNG.integers(0, 256, (9, 20, 3), dtype=np.uint8))
    data = ImageFolder(path=str(path), size=8).load(None, 0)
    assert data.shape == (3, 8, 8) and data.num_classes == 3 and rows_of(data) == 30
    assert ("29 pictures have 16 bits" in " ".join(data.notes)) == (dtype is np.uint16)
    assert ImageFolder(path=str(path), size=8, channels="grey").load(None, 0).shape == (1, 8, 8)


def test_a_folder_with_two_parts(tmp_path: Path) -> None:
    folder(tmp_path, 2, 20, part="train")
    path = folder(tmp_path, 2, 4, part="val")
    data = ImageFolder(path=str(path), size=6, channels="grey").load(None, 0)
    assert len(data.test) == 8 and rows_of(data) == 48
    stored = {np.asarray(Image.open(file)).tobytes() for file in path.glob("val/*/*.png")}
    assert {(x * 255).round().byte().numpy().tobytes() for x in data.test.x} == stored


def test_a_set_of_torchvision_by_its_name(tmp_path: Path) -> None:
    images = write_mnist(tmp_path)
    data = TorchvisionSet(set="MNIST").load(tmp_path, 0)
    assert data.shape == (1, 28, 28) and data.num_classes == 10 and len(data.test) == 20
    seen = {(image * 255).round().byte().numpy().tobytes() for image in data.test.x}
    assert seen == {image.tobytes() for image in images}
    assert TorchvisionSet(set="MNIST", size=14, channels="colour").load(tmp_path, 0).shape == (3, 14, 14)


def test_every_set_that_is_offered_is_one_of_torchvision() -> None:
    import inspect

    from torchvision import datasets

    from benchmark.data.pictures import NO_DOWNLOAD, SETS

    for name, parts in SETS.items():
        known = inspect.signature(getattr(datasets, name)).parameters
        assert ("download" in known or "kwargs" in known) == (name not in NO_DOWNLOAD) or name == "CLEVRClassification"
        for options in parts.values():
            assert known.keys() >= options.keys() or "kwargs" in known


# -- datasets ---------------------------------------------------------------------------------------------------------
class Part:
    """A split of a data set as the library ``datasets`` hands it out."""

    def __init__(self, columns: dict[str, Any], features: dict[str, Any]) -> None:
        self.columns, self.features, self.column_names = columns, features, list(columns)

    def __len__(self) -> int:
        return len(self.columns["label"])

    def __getitem__(self, key: Any) -> Any:
        return self.columns[key] if isinstance(key, str) else {name: self.columns[name][key] for name in self.columns}

    def to_pandas(self) -> pd.DataFrame:
        return pd.DataFrame(self.columns)


@pytest.mark.parametrize("kind", ["pictures", "arrays", "table"])
def test_a_data_set_of_the_library_datasets(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    library = types.ModuleType("datasets")
    library.Image = type("Image", (), {})  # type: ignore[attr-defined]
    library.config = types.SimpleNamespace(HF_HUB_OFFLINE=False)  # type: ignore[attr-defined]
    values: dict[str, Any] = {
        "pictures": {"image": [Image.open(io.BytesIO(_png(x[0]))) for x in BYTES]},
        "arrays": {"image": TABLE.tolist()},
        "table": {name: list(FRAME[name]) for name in ("size", "colour")},
    }[kind]
    feature = library.Image() if kind == "pictures" else None  # type: ignore[attr-defined]
    part = Part({**values, "label": Y.tolist()}, {"image": feature, "label": None})
    asked: list[Any] = []

    def load_dataset(*names: Any, **options: Any) -> dict[str, Part]:
        asked.append((names, options, library.config.HF_HUB_OFFLINE))
        return {"train": part, "other": part}

    library.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)
    data = HuggingFace(hub="me/mine", x="image" if kind == "arrays" else None).load(None, 0)
    assert data.shape == {"pictures": (1, 8, 8), "arrays": (4,), "table": (4,)}[kind]
    assert asked == [(("me/mine", None), {"revision": None}, True)], "nothing is fetched unless asked for"
    assert library.config.HF_HUB_OFFLINE is False
    with pytest.raises(ConfigError, match="There is no column 'target'"):
        HuggingFace(hub="me/mine", label="target").load(None, 0)


def _png(array: np.ndarray) -> bytes:
    Image.fromarray(array).save(stream := io.BytesIO(), "PNG")
    return stream.getvalue()
