"""Data with sensitive attributes and groups: what is always there, and what lies in the data root."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark.data.apnea_ecg import ApneaEcg, windows
from benchmark.data.base import Split
from benchmark.data.compas import Compas
from benchmark.data.crossed_groups import AdultCrossed, CompasCrossed, GermanCreditCrossed, cross
from benchmark.data.digits_writers import DigitsWriters
from benchmark.data.german_credit import GermanCredit
from benchmark.data.grouped import GroupedSource
from benchmark.data.lipton import Lipton
from benchmark.data.uci_har import UciHar
from benchmark.errors import ConfigError, DataMissing

SIZES = {"owner": 60, "attacker": 40, "public": 20, "calibration": 40, "test": 30}
ROOT = os.environ.get("GAUNTLET_DATA")


class Diary(GroupedSource):
    """Eight persons of 40 samples each; a sample's value is its time."""

    GAP = 1

    def everything(self, root):
        time = torch.arange(40.0).repeat(8)
        group = torch.arange(8).repeat_interleave(40)
        return Split(torch.stack([time, group.float()], dim=1), (time % 2).long(), group=group), 2


def diary(**sizes):
    return Diary(sizes={"owner": 999, "attacker": 999, "public": 999, "calibration": 999} | sizes, insiders=4).load(
        None, 0
    )


def test_insiders_time_is_cut_and_outsiders_are_others():
    data = diary()
    inside = set(data.owner.group.tolist())
    assert len(inside) == 4
    assert set(data.attacker.group.tolist()) == set(data.calibration.group.tolist()) == inside
    assert not (set(data.public.group.tolist()) | set(data.test.group.tolist())) & inside
    assert not set(data.public.group.tolist()) & set(data.test.group.tolist())
    spans = [(split.x[:, 0].min().item(), split.x[:, 0].max().item()) for split in (data.owner, data.attacker)]
    assert spans == [(0, 19), (21, 29)]  # one sample dropped at the cut
    assert data.calibration.x[:, 0].min() == 31


def test_sizes_cut_a_balanced_draw():
    owner = diary(owner=20).owner
    assert len(owner) == 20 and owner.y.sum() == 10


def test_too_many_insiders_are_refused():
    with pytest.raises(ConfigError, match="insiders=7"):
        Diary(sizes={}, insiders=7).load(None, 0)


def test_hair_tells_the_sex_and_not_who_is_hired():
    data = Lipton(sizes={"owner": 3000}).load(None, 0).owner
    hair, work = data.x.T
    women = data.sensitive == 0
    assert 0.4 < women.float().mean() < 0.6
    assert hair[women].mean() > 1.5 * hair[~women].mean()
    assert data.y[~women].float().mean() > data.y[women].float().mean() + 0.2
    near = (work - work[data.y == 1].min()).abs() < 0.05  # of those who work about as long, hair does not decide
    assert abs(np.corrcoef(hair[near], data.y[near])[0, 1]) < 0.2


def test_writers_have_a_hand_and_their_own_look():
    data = DigitsWriters(sizes=SIZES, insiders=10).load(None, 0)
    assert data.shape == (1, 16, 16) and data.owner.x.min() >= 0 and data.owner.x.max() <= 1
    for writer in data.owner.group.unique():
        assert len(data.owner.sensitive[data.owner.group == writer].unique()) == 1


def test_heart_rate_windows_leave_artefacts_and_silence_out():
    time = np.arange(0, 180, 1.0)
    interval = np.ones(180)
    interval[10] = 9.0
    x, minutes = windows(time[:130], interval[:130], 3)
    assert minutes.tolist() == [0, 1] and x.shape == (2, 240)
    assert np.allclose(x, 0.5)


@pytest.mark.parametrize(
    "source",
    [
        GermanCredit(sizes=SIZES, sensitive="age", hide_sensitive=True),
        Compas(sizes=SIZES, sensitive="race", hide_sensitive=True),
        AdultCrossed(sizes=SIZES),
        GermanCreditCrossed(sizes=SIZES),
        CompasCrossed(sizes=SIZES),
        UciHar(sizes=SIZES, insiders=10),
        ApneaEcg(sizes=SIZES, insiders=10),
    ],
    ids=lambda source: type(source).__name__,
)
class TestFiles:
    def test_a_missing_file_is_named(self, source, tmp_path):
        with pytest.raises(DataMissing, match="expected at"):
            source.load(tmp_path, 0)
        with pytest.raises(DataMissing, match="not set"):
            source.load(None, 0)

    @pytest.mark.skipif(ROOT is None, reason="GAUNTLET_DATA names no folder with the real data")
    def test_the_real_data_have_what_they_promise(self, source):
        data = source.load(Path(ROOT), 0)
        for role in ("owner", "attacker", "calibration", "test"):
            split = getattr(data, role)
            assert len(split) == SIZES[role] and split.x.dtype == torch.float32
            assert split.x.min() >= 0 and split.x.max() <= 1
            assert (split.sensitive is not None) == source.has_sensitive
            assert (split.group is not None) == source.has_group
        assert set(data.test.y.tolist()) <= set(range(data.num_classes))


def test_another_file_is_called_so(tmp_path):
    (tmp_path / "german_credit").mkdir()
    (tmp_path / "german_credit" / "german.data").write_text("a b c\n1 2 3\n")
    with pytest.raises(DataMissing, match="not the original file"):
        GermanCredit(sizes=SIZES, sensitive="sex", hide_sensitive=False).load(tmp_path, 0)


def test_an_unknown_attribute_is_refused():
    with pytest.raises(ConfigError, match="age, sex"):
        GermanCredit(sizes=SIZES, sensitive="height", hide_sensitive=False)


@pytest.mark.skipif(ROOT is None, reason="GAUNTLET_DATA names no folder with the real data")
def test_hidden_attributes_are_no_columns():
    seen, hidden = (
        Compas(sizes=SIZES, sensitive="race", hide_sensitive=hide).load(Path(ROOT), 0).shape[0]
        for hide in (False, True)
    )
    assert seen == hidden + 6


def test_two_attributes_make_four_groups():
    assert cross(pd.Series([False, False, True, True]), pd.Series([False, True, False, True])).tolist() == [
        0,
        1,
        2,
        3,
    ]


@pytest.mark.skipif(ROOT is None, reason="GAUNTLET_DATA names no folder with the real data")
@pytest.mark.parametrize(
    ("plain", "both", "columns"),
    [
        (Compas(sizes=SIZES, sensitive="race", hide_sensitive=True), CompasCrossed(sizes=SIZES), 2),
        (GermanCredit(sizes=SIZES, sensitive="age", hide_sensitive=True), GermanCreditCrossed(sizes=SIZES), 4),
    ],
)
def test_crossed_groups_hide_both_attributes_and_split_the_groups_of_one(plain, both, columns):
    one, two = (source.pools(Path(ROOT))[0] for source in (plain, both))
    assert torch.equal(two.sensitive // 2, one.sensitive) and two.sensitive.unique().tolist() == [0, 1, 2, 3]
    assert one.x.shape[1] - two.x.shape[1] == columns


@pytest.mark.parametrize(
    ("age", "days", "again"), [("25", "soon", "0"), ("25", "0", "?"), ("25", "0", ""), ("inf", "0", "0")]
)
def test_a_column_of_numbers_that_holds_none_is_no_compas(tmp_path, age, days, again):
    names = (
        "age,juv_fel_count,juv_misd_count,juv_other_count,priors_count,sex,race,c_charge_degree,"
        "days_b_screening_arrest,is_recid,score_text,two_year_recid"
    )
    file = tmp_path / "compas/compas-scores-two-years.csv"
    file.parent.mkdir()
    file.write_text(f"{names}\n{age},0,0,0,1,Male,Other,F,{days},0,Low,{again}\n")
    with pytest.raises(DataMissing, match="not the original file of compas"):
        Compas().load(tmp_path, 0)
