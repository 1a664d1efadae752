"""Fitting, refitting and sharing a release mechanism."""

from dataclasses import replace

import pytest
import torch

from benchmark.compatibility import refusal
from benchmark.data.base import Split
from benchmark.defenses.release.memoriser import Memoriser
from benchmark.defenses.release.rmt import RMT
from benchmark.errors import Refused
from benchmark.seeds import isolated
from benchmark.settings.release import mechanism
from benchmark.settings.release.defense import Release, ReleaseMechanism
from benchmark.settings.release.games.base import people
from benchmark.settings.release.mechanism import Fitted, Mechanism
from benchmark.settings.release.setting import ReleaseSetting
from benchmark.threats.membership_inference.controls import KnowsMembers
from benchmark.threats.membership_inference.distance import DistanceMembership
from benchmark.threats.reconstruction.controls import Copy
from tests.benchmark.helpers import context, digits_like


class Keyed(ReleaseMechanism):
    """Mechanism that adds a secret offset, draws from global state too, encodes with fresh noise, and has a budget."""

    fits = 0

    def release(self, private, rng):
        Keyed.fits += 1
        self.offset = torch.rand((), generator=rng) + torch.rand(())
        x = private.x + self.offset
        return Release(x, private.y, torch.arange(len(private)), epsilon=1.5, delta=1e-5)

    def encode(self, x):
        return x + self.offset + 1e-3 * torch.rand(x.shape)


class Kept:
    def __init__(self):
        self.kept = {}

    def __call__(self, key, build):
        if key not in self.kept:
            self.kept[key] = build()
        return self.kept[key]


def test_a_fit_is_shared_and_the_same_however_it_was_got():
    kept = Kept()
    Keyed.fits = 0
    first = Fitted(Mechanism(context(KnowsMembers(), Keyed(), cache=kept)))
    again = Fitted(Mechanism(context(KnowsMembers(), Keyed(), cache=kept)))
    alone = Fitted(Mechanism(context(KnowsMembers(), Keyed())))
    assert Keyed.fits == 2
    for other in (again, alone):
        assert torch.equal(first.release.x, other.release.x)
        assert torch.equal(first.encoded["test"].x, other.encoded["test"].x)
        assert torch.equal(first.live.members[0].offset, other.live.members[0].offset)
    assert again.release.epsilon == 1.5 and again.release.delta == pytest.approx(1e-5)
    assert again.seconds == first.seconds


def test_the_next_cell_of_a_process_gets_the_fitted_defense_as_it_was(monkeypatch):
    monkeypatch.setattr(mechanism, "_last", {})
    kept = Kept()
    Keyed.fits = 0

    def encoded(name="one"):
        cell = replace(context(KnowsMembers(), Keyed(), cache=kept), artifact_name=lambda key: name)
        fitted = Fitted(Mechanism(cell))
        with isolated(0, "encode"):
            return fitted.live, fitted.live.encode(digits_like(20, 5).x)

    (one, first), (two, second) = encoded(), encoded()
    assert Keyed.fits == 1 and torch.equal(first, second)
    one.members[0].offset += 1
    assert torch.equal(encoded()[1], first) and Keyed.fits == 1
    assert one.members[0].context is not two.members[0].context
    mechanism._last.clear()
    assert torch.equal(encoded()[1], first) and Keyed.fits == 2  # fitted anew, it is the same
    encoded("another")
    assert Keyed.fits == 3 and list(mechanism._last) == ["another"]
    encoded("")
    assert Keyed.fits == 4 and list(mechanism._last) == ["another"]  # nothing tells whose it is


def test_refits_have_keys_of_their_own_by_purpose_and_are_shared_by_content():
    kept = Kept()
    Keyed.fits = 0
    mechanism = Mechanism(context(KnowsMembers(), Keyed(), cache=kept))
    data, other = digits_like(20, 5), digits_like(20, 6)
    one, same, two = mechanism.refit(data, "a"), mechanism.refit(data, "a"), mechanism.refit(data, "b")
    assert torch.equal(one.x, same.x) and not torch.equal(one.x, two.x) and Keyed.fits == 2
    assert not torch.equal(mechanism.refit(other, "a").x - other.x, two.x - data.x)
    assert all("threat" not in key and "defense" in key for key in kept.kept)


def test_fits_leave_the_defense_itself_alone():
    defense = Keyed()
    Fitted(Mechanism(context(KnowsMembers(), defense)))
    assert not hasattr(defense, "offset") and defense.context is not None


def test_a_budget_is_a_cost_and_held_against_membership():
    setting = ReleaseSetting(epochs=1, examiner_epochs=1, victims=5, candidates=40, measures={})
    outcome = setting.play(context(KnowsMembers(), Keyed()))
    assert outcome.cost["epsilon"] == 1.5 and outcome.cost["delta"] == pytest.approx(1e-5)
    assert outcome.diagnostics["dp_ceiling_breached"] in ("yes", "no")


def test_synthetic_releases_and_kinds_of_data_are_refused_by_class():
    traits = {"dataset.kind": "tabular", "model.first_layer": "linear"}
    assert "synthetic" in refusal(ReleaseSetting, Copy, [Memoriser], traits)
    assert refusal(ReleaseSetting, DistanceMembership, [Memoriser], traits) is None
    assert "dataset.kind=image" in refusal(ReleaseSetting, DistanceMembership, [RMT], traits)


@pytest.mark.parametrize(
    ("few", "count", "named"),
    [
        ("owner", 30, r"dataset\.sizes\.owner, which leaves 1"),
        ("calibration", 30, r"dataset\.sizes\.calibration, which leaves 1"),
        ("", 1, r"setting\.candidates, which leaves 1"),
    ],
)
def test_too_few_people_are_told_by_the_number_to_raise(few: str, count: int, named: str) -> None:
    plain = context(None)
    data = replace(plain.data, **{few: getattr(plain.data, few)[torch.arange(1)]}) if few else plain.data
    with pytest.raises(Refused, match=named):
        people(replace(plain, data=data), count)


def test_members_never_sit_among_the_non_members():

    plain = context(KnowsMembers())
    double = replace(plain.data, calibration=plain.data.owner[:30].joined(plain.data.calibration))
    asked, members = people(replace(plain, data=double), 30)
    assert isinstance(asked, Split) and members.sum() == 30
    distances = torch.cdist(asked.x[~members].flatten(1), plain.data.owner.x.flatten(1))
    assert distances.min() > 1e-3
