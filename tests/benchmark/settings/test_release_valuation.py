"""Data valuation: metrics in closed form, the population of sellers, and the controls of the protocol."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from benchmark.cell import Cell, play
from benchmark.data.base import Split
from benchmark.data.lipton import Lipton
from benchmark.defenses.none import NoDefense
from benchmark.defenses.release.rmt import RMT
from benchmark.errors import ConfigError
from benchmark.metrics.valuation import compare_values, macro_f1
from benchmark.models.mlp import MLP
from benchmark.outcome import Outcome
from benchmark.settings.defense import Defense
from benchmark.settings.release.defense import Release, ReleaseMechanism
from benchmark.settings.release.measures.scenarios import Damage, QuantilePicture, Scenarios, damage, group_quantiles
from benchmark.settings.release.measures.valuation import Valuation
from benchmark.settings.release.mechanism import Fitted, Mechanism
from benchmark.settings.release.setting import ReleaseSetting
from benchmark.threats.attribute_inference.controls import Majority
from benchmark.threats.reconstruction.look import Look
from tests.benchmark.helpers import context

DEFAULTS = {
    "direction": "evaluation_set",
    "value": "accuracy",
    "sellers": 6,
    "epochs": 12,
    "trees": 5,
    "smallest": 10,
    "largest": 40,
    "label_noise": 0.8,
    "fewest_classes": 3,
}


class Shuffled(ReleaseMechanism):
    """Mechanism that releases private samples under the labels of others."""

    def release(self, private, rng):
        return Release(private.x.flip(0), private.y, torch.arange(len(private)).flip(0))


def valued(defense: Defense | None = None, **changes: object) -> Outcome:
    measure, play, outcome = Valuation(**{**DEFAULTS, **changes}), context(Look(), defense), Outcome()  # type: ignore[arg-type]
    measure(play, Fitted(Mechanism(play)), outcome)
    return outcome


def test_values_are_compared_by_error_and_by_rank() -> None:
    raw = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    same, notes = compare_values(raw, raw)
    assert same == {"valuation_fidelity": 1.0, "valuation_tau": pytest.approx(1.0)} and notes["valuation_bias"] == 0
    upside, notes = compare_values(raw, raw.flip(0))
    assert upside["valuation_tau"] == pytest.approx(-1.0)
    assert notes["valuation_mae"] == pytest.approx(1.6 / 3) and notes["valuation_bias"] == pytest.approx(0)
    assert compare_values(raw, torch.full_like(raw, 0.5))[0]["valuation_tau"] == 0


def test_macro_f1_by_hand() -> None:
    y, predicted = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
    assert macro_f1(predicted, y) == pytest.approx((2 / 3 + 4 / 5) / 2)


@pytest.mark.parametrize("value", ["accuracy", "macro_f1", "marginal"])
def test_the_raw_set_values_everybody_exactly(value: str) -> None:
    outcome = valued(value=value)
    assert outcome.utility["valuation_fidelity"] == 1 and outcome.utility["valuation_tau"] == pytest.approx(1)


def test_a_wrongly_labelled_set_does_not() -> None:
    assert valued(Shuffled()).utility["valuation_fidelity"] < 0.9


def test_a_seller_who_trains_on_the_release_is_overvalued() -> None:
    assert valued().diagnostics["gaming_gain"] > 0.1


def test_sellers_whose_own_data_are_released_raw_lose_nothing() -> None:
    outcome = valued(direction="training_set")
    assert outcome.utility["valuation_fidelity"] == 1 and outcome.utility["valuation_tau"] == pytest.approx(1)


def test_a_disguise_that_no_seller_reads_has_no_value() -> None:
    rmt = RMT(block=4, noise=0.0, form="matrix", permute=True)
    assert valued(rmt).utility["valuation_fidelity"] < 0.8


def test_grades_reach_from_good_to_bad() -> None:
    measure, play = Valuation(**DEFAULTS), context(Look())  # type: ignore[arg-type]
    pool, sellers = measure._population(play, play.data.calibration)
    sizes = [len(seller.rows) for seller in sellers]
    assert max(sizes) <= len(pool) and min(sizes) < max(sizes)
    wrong = [(seller.y != pool.y[seller.rows]).double().mean() for seller in sellers]
    assert min(wrong) == 0 and max(wrong) > 0.3
    assert {seller.kind for seller in sellers} == {"cell", "mlp", "forest"}


def test_wrong_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="direction"):
        Valuation(**{**DEFAULTS, "direction": "both"})  # type: ignore[arg-type]


def test_macro_f1_is_that_of_the_library() -> None:
    from sklearn.metrics import f1_score

    rng = torch.Generator().manual_seed(0)
    predicted, y = torch.randint(5, (200,), generator=rng), torch.randint(1, 5, (200,), generator=rng)
    theirs = f1_score(y, predicted, labels=y.unique(), average="macro")  # classes of the truth alone
    assert macro_f1(predicted, y) == pytest.approx(theirs, abs=1e-6)


# -- Combinations of original and mapped people, damage column by column, and the picture of a map
PEOPLE = Lipton(sizes={"owner": 300, "attacker": 50, "public": 0, "calibration": 20, "test": 200})


class Liar(ReleaseMechanism):
    """Mechanism that leaves records alone and inverts every decision."""

    def release(self, private: Split, rng: torch.Generator) -> Release:
        return Release(private.x, 1 - private.y, torch.arange(len(private)), sensitive=private.sensitive)

    def encode_people(self, people: Split) -> Split:
        return Split(people.x, 1 - people.y, people.sensitive)


def measured(defense: Defense) -> Outcome:
    measures = {"scenarios": Scenarios(epochs=100), "damage": Damage(), "quantiles": QuantilePicture(columns=1)}
    setting = ReleaseSetting(epochs=100, examiner_epochs=1, victims=10, candidates=10, measures=measures)
    net = partial(MLP, hidden=[16], activation="relu")
    return play(Cell(PEOPLE, net, setting, Majority(), [defense], seed=0))[0]


@pytest.mark.ci
def test_without_a_map_all_scenarios_are_one() -> None:
    outcome = measured(NoDefense())
    names = ("baseline", "data_publishing", "fair_classifier", "soa", "local_sanitisation")
    reached = {outcome.utility[f"{name}_accuracy"] for name in names}
    assert max(reached) - min(reached) < 0.05 and min(reached) > 0.8
    for name in names:
        assert outcome.diagnostics[f"{name}_accuracy_on_mapped_labels"] == outcome.utility[f"{name}_accuracy"]
        assert f"{name}_demographic_parity_gap" in outcome.diagnostics
    assert outcome.diagnostics["damage_numbers_80"] == 0
    assert outcome.pictures["quantiles"].shape == (1, 2, 3, 190, 260)
    assert outcome.captions["quantiles"] == ["column 0"], "hair is what tells the groups apart"


@pytest.mark.ci
def test_a_map_that_rewrites_decisions_shows_by_the_labels_as_they_were() -> None:
    outcome = measured(Liar())
    for name in ("data_publishing", "fair_classifier"):  # trained on wrong labels
        assert outcome.utility[f"{name}_accuracy"] < 0.2
        assert outcome.diagnostics[f"{name}_accuracy_on_mapped_labels"] > 0.8
    for name in ("baseline", "soa", "local_sanitisation"):  # trained on the true ones
        assert outcome.utility[f"{name}_accuracy"] > 0.8
        assert outcome.diagnostics[f"{name}_accuracy_on_mapped_labels"] < 0.2


def test_damage_is_counted_in_the_worst_column() -> None:
    original = torch.tensor([[0.5, 1.0, 0.0, 1.0, 0.0], [0.5, 1.0, 0.0, 0.0, 1.0]])
    mapped = torch.tensor([[0.5, 1.0, 0.0, 0.0, 1.0], [0.1, 1.0, 0.0, 0.0, 1.0]])
    found = damage(original, mapped, ((1, 3), (3, 5)))
    assert found["damage_categories"] == 0.25 and found["damage_worst_category"] == 0.5
    assert found["damage_numbers_50"] == pytest.approx((0 + 0.4 / 0.3) / 2)


def test_quantiles_are_those_of_the_groups() -> None:
    x = torch.cat([torch.linspace(0, 0.5, 101), torch.linspace(0.5, 1, 101)]).unsqueeze(1)
    curves = group_quantiles(Split(x, torch.zeros(202).long(), torch.arange(202) // 101))
    assert curves.shape == (2, 49, 1)
    assert torch.allclose(curves[0, [0, 24, 48], 0], torch.tensor([0.01, 0.25, 0.49]))
