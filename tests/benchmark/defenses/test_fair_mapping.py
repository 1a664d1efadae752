"""Maps between groups: losses against closed forms, the space of records, and what each variant does to two blobs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmark.data.base import Split
from benchmark.defenses.release.disparate_impact_remover import DisparateImpactRemover
from benchmark.defenses.release.fair_attgan import FairAttGAN
from benchmark.defenses.release.fair_mapping import FairMapping
from benchmark.errors import ConfigError, Refused
from benchmark.training.adversarial_groups import CriticAndDiscriminator, gradient_penalty, protection_loss, soft_ber
from benchmark.training.record_space import RecordSpace, one_hot_blocks, with_decision

DEFAULTS = {
    "target": 1,
    "transport": 1.0,
    "protection": 2.0,
    "identity": 1.0,
    "fidelity": 0.3,
    "fidelity_on_all": False,
    "shared_trunk": False,
    "sees_originals": False,
    "composition": "all_mapped",
    "decode": True,
    "hidden": [32, 32],
    "noise": 1,
    "steps": 150,
    "critic_steps": 2,
    "checkpoints": 0,
    "batch_size": 64,
    "lr": 2e-3,
}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def people(count: int = 400) -> Split:
    """Return two groups that differ in the first column; the second column decides, equally in both."""
    s = torch.arange(count) % 2
    free = torch.rand((count, 2), generator=rng())
    x = torch.stack([0.15 + 0.2 * free[:, 0] + 0.5 * s, free[:, 1]], dim=1)
    return Split(x, (x[:, 1] > 0.5).long(), sensitive=s)


def mapping(**changes: object) -> FairMapping:
    torch.manual_seed(0)
    return FairMapping(**{**DEFAULTS, **changes})  # type: ignore[arg-type]


def group_gap(split: Split) -> float:
    assert split.sensitive is not None
    means = [split.x[split.sensitive == group, 0].mean() for group in (0, 1)]
    return abs(float(means[1] - means[0]))


# -- losses and spaces -----------------------------------------------------------------------------------
def test_soft_ber_is_chance_for_a_constant_and_zero_for_an_oracle() -> None:
    groups = torch.tensor([0, 0, 0, 1, 2])
    assert soft_ber(torch.zeros(5, 3), groups, 3).item() == pytest.approx(2 / 3)
    oracle = 100 * torch.nn.functional.one_hot(groups, 3).float()
    assert soft_ber(oracle, groups, 3).item() == pytest.approx(0, abs=1e-6)
    assert protection_loss(torch.zeros(5, 3), groups, 3).item() == pytest.approx(0, abs=1e-6)
    assert protection_loss(oracle, groups, 3).item() == pytest.approx(2 / 3)


def test_the_penalty_of_a_linear_critic_is_that_of_its_slope() -> None:
    judges = CriticAndDiscriminator(2, [4], 2, shared=False)
    judges.critic_net = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(judges.critic_net.weight, 3.0)
    x = torch.rand(6, 2)
    assert gradient_penalty(judges, x, x + 1, rng()).item() == pytest.approx(10 * (3 * 2**0.5 - 1) ** 2, rel=1e-5)


def test_one_hot_blocks_are_found_and_decoded() -> None:
    numbers = torch.tensor([[0.0], [0.5], [1.0]])
    records = torch.cat([numbers, torch.eye(3), torch.eye(2)[[0, 1, 1]]], dim=1)
    assert one_hot_blocks(records) == ((1, 4), (4, 6))
    space = RecordSpace.of(records)
    raw = torch.tensor([[0.3, 0.2, 0.9, 0.1, 0.4, 0.3], [7.0, 0.0, 0.0, 2.0, -1.0, 0.0]])
    assert space.decode(raw).tolist() == [[0.5, 0, 1, 0, 1, 0], [1, 0, 0, 1, 0, 1]]
    assert torch.equal(space.decode(records), records)


def test_the_decision_is_part_of_a_record() -> None:
    few = people(4)
    assert torch.equal(with_decision(few, 2)[:, 2:].argmax(dim=1), few.y)


# -- maps ------------------------------------------------------------------------------------------------
def test_fair_mapping_moves_the_protected_group_onto_the_target_and_leaves_that() -> None:
    private = people()
    release = mapping(protection=0.0, identity=5.0).release(private, rng())
    mapped = replace(private, x=release.x)
    assert group_gap(private) > 0.45 and group_gap(mapped) < 0.25
    stayed = (release.x - private.x)[private.sensitive == 1].abs().mean()
    moved = (release.x - private.x)[private.sensitive == 0].abs().mean()
    assert stayed < 0.1 < 0.15 < moved
    assert torch.equal(release.source, torch.arange(400)) and release.sensitive is not None


def test_with_only_fidelity_it_stays_near_the_identity() -> None:
    private = people()
    weights = {"transport": 0.0, "protection": 0.0, "identity": 0.0, "fidelity": 1.0, "fidelity_on_all": True}
    release = mapping(**weights).release(private, rng())
    assert (release.x - private.x).abs().mean() < 0.05


def test_the_target_group_can_be_left_as_it_is() -> None:
    private = people()
    release = mapping(composition="target_original", steps=5).release(private, rng())
    assert torch.equal(release.x[private.sensitive == 1], private.x[private.sensitive == 1])
    assert not torch.equal(release.x[private.sensitive == 0], private.x[private.sensitive == 0])


@pytest.mark.parametrize("shared", [False, True])
def test_the_same_randomness_gives_the_same_map(shared: bool) -> None:
    private = people(80)
    first, second = (mapping(steps=3, shared_trunk=shared).release(private, rng()).x for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.ci
def test_attribute_editing_moves_groups_together_too() -> None:
    private = people()
    torch.manual_seed(0)
    options = DEFAULTS | {"reconstruction": 0.95, "classification": 0.75, "warmup": 200}
    release = FairAttGAN(**options).release(private, rng())  # type: ignore[arg-type]
    assert group_gap(replace(private, x=release.x)) < 0.25


def test_full_repair_makes_the_groups_columns_alike_and_none_changes_nothing() -> None:
    private = people()
    repaired = DisparateImpactRemover(repair=1.0).release(private, rng())
    assert group_gap(replace(private, x=repaired.x)) < 0.01
    assert torch.equal(repaired.y, private.y)
    same = DisparateImpactRemover(repair=0.0).release(private, rng())
    assert torch.allclose(same.x, private.x)


def crossed_people(count: int = 600) -> Split:
    """Return four groups along the first column; the second decides, equally in all."""
    s = torch.arange(count) % 4
    free = torch.rand((count, 2), generator=rng())
    x = torch.stack([0.05 + 0.1 * free[:, 0] + 0.25 * s, free[:, 1]], dim=1)
    return Split(x, (x[:, 1] > 0.5).long(), sensitive=s)


@pytest.mark.ci
def test_all_cells_of_two_attributes_are_mapped_onto_one_of_them() -> None:
    private = crossed_people()
    release = mapping(target=3, identity=5.0, steps=200).release(private, rng())
    assert private.sensitive is not None
    means = torch.stack([release.x[private.sensitive == group, 0].mean() for group in range(4)])
    assert means.max() - means.min() < 0.3 < 0.7, "they lay 0.75 apart"
    assert (release.x - private.x)[private.sensitive == 3].abs().mean() < 0.1


def test_repair_takes_any_number_of_groups_also_where_one_is_missing() -> None:
    private = crossed_people()
    assert private.sensitive is not None
    repaired = DisparateImpactRemover(repair=1.0).release(private, rng()).x
    means = torch.stack([repaired[private.sensitive == group, 0].mean() for group in range(4)])
    assert means.max() - means.min() < 0.01
    without = private[private.sensitive != 1]
    remover = DisparateImpactRemover(repair=1.0)
    remover.release(without, rng())
    known, unknown = without[:60], private[private.sensitive == 1]
    assert torch.equal(remover.encode_people(unknown).x, unknown.x)
    moved = remover.encode_people(known).x
    assert known.sensitive is not None
    means = torch.stack([moved[known.sensitive == group, 0].mean() for group in (0, 2, 3)])
    assert means.max() - means.min() < 0.05


def test_repaired_values_are_values_that_people_have() -> None:
    private = people()
    ages = replace(private, x=(private.x * 20).round() / 20)
    remover = DisparateImpactRemover(repair=1.0)
    repaired = remover.release(ages, rng()).x
    for column in (0, 1):
        assert set(repaired[:, column].tolist()) <= set(ages.x[:, column].tolist())
    assert group_gap(ages) > 0.45 and group_gap(replace(ages, x=repaired)) < 0.05
    partly = DisparateImpactRemover(repair=0.3).release(ages, rng()).x
    assert set(partly[:, 0].tolist()) <= set(ages.x[:, 0].tolist())


@pytest.mark.crosscheck
@pytest.mark.filterwarnings("ignore")
def test_full_repair_is_that_of_the_authors_program() -> None:
    """On distinct values and three groups of one size, where a median over groups is a value that somebody has."""
    repairers = pytest.importorskip("BlackBoxAuditing.repairers.CategoricRepairer")
    x = torch.rand((3 * 41, 2), generator=rng(), dtype=torch.float64)
    groups = torch.arange(len(x)) % 3
    x[:, 0] += groups
    rows = [[*row, f"group {group}"] for row, group in zip(x.tolist(), groups.tolist(), strict=True)]
    expected = repairers.Repairer(rows, 2, 1.0, False, features_to_ignore=[]).repair(rows)
    private = Split(x, torch.zeros(len(x), dtype=torch.long), sensitive=groups)
    repaired = DisparateImpactRemover(repair=1.0).release(private, rng()).x
    torch.testing.assert_close(repaired, torch.tensor([row[:2] for row in expected], dtype=torch.float64))


def test_repair_keeps_the_order_within_a_group() -> None:
    private = people()
    repaired = DisparateImpactRemover(repair=1.0).release(private, rng()).x
    order = private.x[::2, 0].argsort()
    assert (repaired[::2, 0][order].diff() >= -1e-6).all()


def test_mistakes_are_refused() -> None:
    with pytest.raises(ConfigError, match="composition must be all_mapped or target_original"):
        mapping(composition="rm")
    with pytest.raises(Refused, match="this dataset has none"):
        mapping().release(replace(people(), sensitive=None), rng())
    with pytest.raises(Refused, match="Nobody to map"):
        mapping(target=5).release(people(), rng())
    with pytest.raises(ConfigError, match=r"repair must be in \[0, 1\]"):
        DisparateImpactRemover(repair=2.0)
