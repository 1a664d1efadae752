"""UCI Adult: made-up rows in the true layout, real data where they are, and the errors."""

import os
from pathlib import Path

import pytest
import torch

from benchmark.data.adult import NUMERIC, Adult
from benchmark.errors import ConfigError, DataMissing

SIZES = {"owner": 4, "attacker": 0, "public": 0, "calibration": 0, "test": None}
TRAIN = """\
39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, 2174, 0, 40, Cuba, <=50K
50, Private, 83311, Bachelors, 9, Married-civ-spouse, Sales, Husband, Black, Male, 0, 0, 20, Peru, >50K
20, ?, 83311, Bachelors, 1, Married-civ-spouse, Sales, Wife, Black, Female, 0, 0, 99, Peru, >50K
29, Private, 83311, HS-grad, 5, Divorced, Sales, Wife, Other, Female, 0, 0, 30, Peru, <=50K
40, Private, 83311, HS-grad, 11, Divorced, Sales, Wife, White, Female, 0, 10, 25, Cuba, >50K
"""
TEST = """\
|1x3 Cross validator
60, Private, 1, HS-grad, 13, Divorced, Sales, Wife, White, Female, 0, 0, 40, Japan, <=50K.
29, Private, 1, HS-grad, 5, Divorced, Sales, Wife, White, Male, 0, 0, 40, Peru, >50K.
"""


def adult(**overrides) -> Adult:
    return Adult(**(dict(sizes=SIZES, sensitive="sex", hide_sensitive=False, scaling="minmax") | overrides))


def adult_root(folder: Path, train: str, test: str) -> Path:
    """Return ``folder`` as a data root with these two files."""
    (folder / "adult").mkdir()
    (folder / "adult/adult.data").write_text(train)
    (folder / "adult/adult.test").write_text(test)
    return folder


@pytest.fixture
def root(tmp_path) -> Path:
    return adult_root(tmp_path, TRAIN, TEST)


def test_rows_are_encoded_by_the_training_pool_alone(root):
    train, test, classes = adult().pools(root)
    assert (len(train), len(test), classes) == (4, 2, 2), "the row with a missing value is left out"
    assert train.x.dtype == torch.float32 and train.x.min() == 0 and train.x.max() == 1
    assert train.y.tolist() == [0, 1, 0, 1] and test.y.tolist() == [0, 1]
    assert train.sensitive.tolist() == [1, 1, 0, 0]
    assert train.x[:, 0].tolist() == pytest.approx([10 / 21, 1, 0, 11 / 21]), "age, 29 to 50"
    assert test.x[:, 0].tolist() == [1, 0], "60 is beyond the training pool's oldest: cut off"
    assert (train.x[:, len(NUMERIC) :].sum(1) == 7).all(), "one of each category"
    assert test.x[:, len(NUMERIC) :].sum(1).tolist() == [6, 7], "Japan is not in the training pool"


def test_standard_scaling(root):
    train, _, _ = adult(scaling="standard").pools(root)
    numeric = train.x[:, : len(NUMERIC)]
    assert numeric.mean(0).abs().max() < 1e-6
    assert numeric.std(0, correction=0).tolist() == pytest.approx([1.0] * len(NUMERIC), abs=1e-5)


def test_the_sensitive_attribute_can_be_chosen_and_hidden(root):
    shown, hidden = adult(sensitive="race"), adult(sensitive="race", hide_sensitive=True)
    train, without = shown.pools(root)[0], hidden.pools(root)[0]
    assert train.sensitive.tolist() == without.sensitive.tolist() == [4, 2, 3, 4]
    assert train.x.shape[1] - without.x.shape[1] == 3, "Black, Other, White"
    # Nothing that is left tells the race: two rows may differ in it alone.
    assert torch.equal(shown.load(root, 0).owner.y, hidden.load(root, 0).owner.y)


def test_mistakes_are_told(root):
    with pytest.raises(ConfigError, match="sensitive must be one of sex, race, got 'age'"):
        adult(sensitive="age")
    with pytest.raises(ConfigError, match="scaling must be minmax or standard"):
        adult(scaling="log")
    with pytest.raises(DataMissing, match=r"data\.root=PATH or GAUNTLET_DATA"):
        adult().load(None, 0)
    (root / "adult/adult.test").unlink()
    with pytest.raises(DataMissing, match=r"expected at .*adult\.test"):
        adult().load(root, 0)


@pytest.mark.parametrize(
    "text",
    ["", "<html>no such page</html>\n", TRAIN.replace("<=50K", "poor"), TRAIN.replace("39", "inf"), "1, 2, 3\n" * 9],
)
def test_another_file_is_refused(root, text):
    (root / "adult/adult.data").write_text(text)
    with pytest.raises(DataMissing, match=r"adult\.data is not the original file of UCI Adult"):
        adult().load(root, 0)


def test_real_data():
    folder = os.environ.get("GAUNTLET_DATA")
    if not folder:
        pytest.skip("GAUNTLET_DATA names no folder with real data")
    train, test, _ = adult().pools(Path(folder))
    # The counts of complete rows that adult.names states.
    assert (len(train), len(test)) == (30_162, 15_060)
    assert train.y.double().mean().item() == pytest.approx(0.2489, abs=5e-5)
    assert train.x.shape[1] == test.x.shape[1] == 87
