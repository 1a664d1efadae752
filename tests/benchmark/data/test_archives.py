"""Files of known data sets that hold something else are named, whatever it is."""

import zipfile

import numpy as np
import pytest

from benchmark.data.apnea_ecg import ApneaEcg
from benchmark.data.archives import Wanted, arrays
from benchmark.data.att_faces import ATTFaces
from benchmark.data.german_credit import GermanCredit
from benchmark.data.heart_disease import HeartDetectron, HeartSites
from benchmark.data.uci_har import UciHar
from benchmark.errors import DataMissing

FORMS = {
    "x": Wanted("f", ("n", 3)),
    "y": Wanted("iu", ("n",), 0, 1),
}
GOOD = {"x": np.linspace(-1, 1, 12).reshape(4, 3), "y": np.array([0, 1, 1, 0])}


def read(root, **changes):
    (root / "set").mkdir(exist_ok=True)
    np.savez(root / "set/a.npz", **(GOOD | changes))
    return arrays("set", root, "set/a.npz", FORMS)


def test_arrays_of_their_form_are_read_as_they_are(tmp_path):
    found = read(tmp_path)
    assert found.keys() == GOOD.keys() and all((found[name] == GOOD[name]).all() for name in GOOD)


def test_a_member_that_is_no_array_is_named_and_byte_orders_do_not_matter(tmp_path):
    found = read(tmp_path, x=GOOD["x"].astype(">f8"), y=GOOD["y"].astype(">i4"))
    assert all((found[name] == GOOD[name]).all() and found[name].dtype.isnative for name in GOOD)
    with zipfile.ZipFile(tmp_path / "set/a.npz", "w") as archive:
        for name in GOOD:
            archive.writestr(f"{name}.npy", b"nothing")
    with pytest.raises(DataMissing, match="x is no array"):
        arrays("set", tmp_path, "set/a.npz", FORMS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": np.ones((4, 2))}, r"x has the shape \(4, 2\)"),
        ({"x": np.ones(4)}, r"x has the shape \(4,\)"),
        ({"y": np.zeros(3, int)}, r"y has the shape \(3,\)"),
        ({"y": np.array(1)}, r"y has the shape \(\)"),
        ({"y": np.zeros(4)}, "y is of the type float64"),
        ({"y": np.array([0, 1, 2, 0])}, "y spans 0 to 2"),
        ({"y": np.array([0, -1, 1, 0])}, "y spans -1 to 1"),
        ({"x": np.full((4, 3), np.nan)}, "x spans nan to nan"),
        ({"x": np.full((4, 3), np.inf)}, "x spans inf to inf"),
        ({"x": np.ones((0, 3)), "y": np.zeros(0, int)}, "x is empty"),
        ({"x": np.zeros((4, 3), "M8[s]")}, "x is of the type datetime64"),
        ({"x": np.array([[{}]], object)}, "does not hold the arrays x, y"),
    ],
)
def test_an_array_of_another_form_is_named(tmp_path, changes, words):
    with pytest.raises(DataMissing, match=words):
        read(tmp_path, **changes)


ARCHIVES = [
    (UciHar(), "uci_har/uci_har.npz", ("X", "activity", "subject")),
    (ApneaEcg(), "apnea_ecg/apnea_ecg_rr.npz", ("record", "tick", "rr", "beat_record", "minute_record", "apnea")),
    (ATTFaces(), "att_faces/att_faces.npz", ("images", "subject")),
    (
        HeartDetectron(),
        "heart_disease/detectron_split.npz",
        tuple(f"{part}_{kind}" for part in ("train", "val", "iid_test", "ood_test") for kind in "xy"),
    ),
]
ODD = {
    "scalars": np.uint8(1),
    "dates": np.zeros(3, "M8[s]"),
    "nothing": np.zeros((0, 2, 1)),
    "texts": np.array(["a01", "x"]),
    "numbers": np.zeros((400, 2)),
}


@pytest.mark.parametrize("source_file_names", ARCHIVES, ids=lambda given: type(given[0]).__name__)
@pytest.mark.parametrize("what", [*ODD, "no archive", "an empty file"])
def test_a_known_file_that_holds_something_else_is_named(tmp_path, source_file_names, what):
    source, path, names = source_file_names
    file = tmp_path / path
    file.parent.mkdir()
    if what in ODD:
        np.savez(file, **dict.fromkeys(names, ODD[what]))
    else:
        file.write_bytes(b"\x99\x80" if what == "no archive" else b"")
    with pytest.raises(DataMissing, match=file.name):
        source.load(tmp_path, 0)


def test_recordings_of_one_class_are_no_data(tmp_path):
    (tmp_path / "apnea_ecg").mkdir()
    one = np.zeros(1, np.uint8)
    beats = dict(tick=one, rr=one, beat_record=one, minute_record=one, apnea=one)
    np.savez(tmp_path / "apnea_ecg/apnea_ecg_rr.npz", record=np.array(["a01"]), **beats)
    with pytest.raises(DataMissing, match="no recording has both classes"):
        ApneaEcg().load(tmp_path, 0)
    np.savez(tmp_path / "apnea_ecg/apnea_ecg_rr.npz", record=np.array(["x01"]), **beats)
    with pytest.raises(DataMissing, match="has a record 'x01'"):
        ApneaEcg().load(tmp_path, 0)


@pytest.mark.parametrize("rows", [0, 1, 30])
def test_a_table_of_one_class_or_too_few_rows_is_named(tmp_path, rows):
    row = "A11 6 A34 A43 1169 A65 A75 4 A93 A101 4 A121 67 A143 A152 2 A173 1 A192 A201 1\n"
    (tmp_path / "german_credit").mkdir()
    (tmp_path / "german_credit/german.data").write_text(row * rows)
    with pytest.raises(DataMissing, match="german_credit"):
        GermanCredit(sensitive="sex").load(tmp_path, 0)


def test_a_constant_column_is_not_divided_by(tmp_path):
    (tmp_path / "heart_disease").mkdir()
    for name in ("cleveland", "hungarian", "switzerland", "va"):
        row = "63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0\n"
        (tmp_path / f"heart_disease/processed.{name}.data").write_text(row * 20)
    with pytest.raises(DataMissing, match="empty or constant"):
        HeartSites(sizes={"owner": 4, "test": None}).load(tmp_path, 0)
