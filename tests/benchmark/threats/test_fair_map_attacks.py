"""Adaptive attribute inference on fair maps: the density gap, and the inversion with the map's weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmark.compatibility import refusal
from benchmark.data.base import Split
from benchmark.defenses.none import NoDefense
from benchmark.defenses.release.fair_mapping import FairMapping
from benchmark.errors import ConfigError, Refused
from benchmark.settings.release.games.attributes import AttributeSurface
from benchmark.settings.release.setting import ReleaseSetting
from benchmark.threats.attribute_inference.density_gap import DensityGap, gap
from benchmark.threats.attribute_inference.joint_inversion import Inversion, JointInversion
from benchmark.training.record_space import with_decision
from tests.benchmark.helpers import partial_surface


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def people(count: int, seed: int, groups: int = 2) -> Split:
    """Return groups whose first column lies around 0.2, 0.7, ...; the second, independent column sets the label."""
    free = torch.rand((count, 2), generator=rng(seed))
    s = torch.arange(count) % groups
    return Split(torch.stack([0.15 + 0.1 * free[:, 0] + 0.5 * s, free[:, 1]], dim=1), (free[:, 1] > 0.5).long(), s)


class Shift(nn.Module):
    """Map that adds a tenth to everybody's first column, so that it hides nothing."""

    def forward(self, records: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return records + torch.tensor([0.1, 0.0, 0.0, 0.0])


def seen(mapped: Shift | None, groups: int = 2, own: Split | None = None) -> AttributeSurface:
    """Return the attackers' surface without a setting around it."""
    shift = torch.tensor([0.1, 0.0]) * (mapped is not None)
    labelled, targets = people(300, 1, groups), people(120, 2, groups)
    return partial_surface(
        AttributeSurface,
        labelled=Split(labelled.x + shift, labelled.y, labelled.sensitive),
        targets=targets.x + shift,
        targets_y=targets.y,
        truth=targets.sensitive,
        attacker=people(150, 3, groups) if own is None else own,
        num_classes=2,
        models={"map": mapped},
    )


def inversion(**changes: object) -> JointInversion:
    options = {"attackers": ["tree"], "rows": 200, "starts": 2, "steps": 5, "lr": 0.02}
    return JointInversion(**(options | changes))  # type: ignore[arg-type]


def density(**changes: object) -> DensityGap:
    options = {"attackers": ["tree"], "decision": True, "folds": 2, "trees": 10, "depth": 2}
    return DensityGap(**(options | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("groups", [2, 3])
def test_inverting_a_map_that_hides_nothing_reveals_the_group(groups: int) -> None:
    surface = seen(Shift(), groups)
    found = inversion().attack(surface, rng())
    for labels in found.labels.values():
        assert (labels == surface.truth).double().mean() > 0.95
    assert ("inversion" in found.scores) == (groups == 2)


def test_the_search_raises_the_likelihood_of_a_record() -> None:
    surface, fits = seen(Shift()), []
    records = with_decision(Split(surface.targets, surface.targets_y), 2)
    for steps in (0, 30):
        inverse = Inversion(surface.models, surface.attacker, 2, inversion(steps=steps), rng())
        fits.append(inverse(records)[0])
    assert (fits[1] > fits[0]).double().mean() > 0.9
    own = fits[1].gather(1, surface.truth.unsqueeze(1))
    assert (own.squeeze(1) == fits[1].amax(dim=1)).double().mean() > 0.95


def test_an_inversion_needs_a_map() -> None:
    traits = {"dataset.sensitive": "yes", "dataset.kind": "tabular"}
    assert "defense.map=yes" in str(refusal(ReleaseSetting, JointInversion, [NoDefense], traits))
    assert refusal(ReleaseSetting, JointInversion, [FairMapping], traits) is None


def test_the_density_ratio_finds_missing_people_and_scores_its_training_records_by_folds() -> None:
    everybody, missing = people(400, 5), people(400, 6)
    release = missing.x[missing.sensitive == 1]
    _, outside = gap(release, everybody.x, everybody.x, 3, 20, 2, 0)
    assert outside[everybody.sensitive == 1].mean() > outside[everybody.sensitive == 0].mean() + 2
    noise = torch.rand((300, 2), generator=rng())
    same = gap(noise[:150], noise[150:], noise, 3, 20, 2, 0)[0]
    assert abs(same.mean()) < 0.7, "of like samples nothing is learnt, also not of the records that were learnt from"


def test_the_gap_feature_reveals_the_group_of_unmapped_records() -> None:
    surface = seen(None)
    found = density().attack(surface, rng())
    assert set(found.labels) == {"tree", "gap_alone"}
    assert (found.labels["gap_alone"] == surface.truth).double().mean() > 0.95


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="folds must be a whole number of at least 2"):
        density(folds=1)
    with pytest.raises(ConfigError, match="rows"):
        inversion(rows=0)
    own = people(150, 3)
    surface = seen(Shift(), own=Split(own.x, own.y))
    for threat in (density(), inversion()):
        with pytest.raises(Refused, match="known attribute"):
            threat.attack(surface, rng())
