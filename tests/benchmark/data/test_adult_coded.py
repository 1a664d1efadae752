"""UCI Adult with its categories as numbers: codes by hand, the split, and the real files where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from benchmark.data.adult import read_parts
from benchmark.data.adult_coded import AdultCoded, coded
from benchmark.errors import DataMissing
from tests.benchmark.data.test_adult import adult_root

TRAIN = """\
39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, 2174, 0, 40, Cuba, <=50K
50, Private, 83311, Bachelors, 9, Married-AF-spouse, Sales, Husband, Black, Male, 0, 0, 20, Peru, >50K
20, ?, 83311, Bachelors, 1, Married-civ-spouse, Sales, Wife, Black, Female, 0, 0, 99, ?, >50K
50, Private, 83311, Bachelors, 9, Married-AF-spouse, Sales, Husband, Black, Male, 0, 0, 20, Peru, >50K
"""
TEST = """\
|1x3 Cross validator
60, Private, 1, HS-grad, 13, Divorced, Sales, Wife, White, Female, 0, 0, 40, Japan, <=50K.
29, Private, 1, HS-grad, 5, Separated, Sales, Wife, White, Male, 0, 0, 40, Peru, >50K.
31, Private, 2, HS-grad, 5, Separated, Sales, Wife, White, Male, 9, 0, 40, Peru, >50K.
"""


@pytest.fixture
def root(tmp_path) -> Path:
    return adult_root(tmp_path, TRAIN, TEST)


def test_a_category_is_its_rank_and_a_missing_value_one_of_them(root):
    train, _ = read_parts("adult_coded", root)
    assert coded(train)[:3].tolist() == [
        # age, workclass (0 is missing), years, married, occupation, relationship, race, sex, hours, country
        [39, 2, 13, 1, 0, 1, 1, 1, 40, 1],
        [50, 1, 9, 0, 1, 0, 0, 1, 20, 2],
        [20, 0, 1, 0, 1, 2, 0, 0, 99, 0],
    ]


def test_a_fifth_is_the_test_pool_and_the_training_pool_alone_standardises(root):
    train, test, classes = AdultCoded(sizes={"owner": 4, "test": None}).pools(root)
    assert (len(train), len(test), classes) == (4, 2, 2), "seven rows, of which one is a repetition"
    assert train.x.shape[1] == 10 and train.x.dtype == torch.float32
    varying = train.x.std(dim=0) > 0
    assert train.x.mean(dim=0)[varying].abs().max() < 1e-6
    torch.testing.assert_close(train.x.std(dim=0, correction=0)[varying], torch.ones(int(varying.sum())))
    assert sorted([*train.y.tolist(), *test.y.tolist()]) == [0, 0, 1, 1, 1, 1]
    assert sorted([*train.sensitive.tolist(), *test.sensitive.tolist()]) == [0, 0, 1, 1, 1, 1]


def test_missing_files_are_told(tmp_path):
    with pytest.raises(DataMissing, match=r"expected at .*adult\.data"):
        AdultCoded(sizes={"owner": 4, "test": None}).load(tmp_path, 0)


@pytest.mark.skipif(
    not (Path(os.environ.get("GAUNTLET_DATA", "/nowhere")) / "adult").exists(), reason="UCI Adult is not here"
)
def test_the_real_table_has_the_size_of_the_authors():
    train, test, _ = AdultCoded(sizes={"owner": 39032, "test": None}).pools(Path(os.environ["GAUNTLET_DATA"]))
    assert (len(train), len(test)) == (39032, 9758), "48,842 rows less 52 repetitions, cut 80 to 20"
    assert train.x.isfinite().all()
    assert train.y.double().mean().item() == pytest.approx(0.24, abs=0.01)
