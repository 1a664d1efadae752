import pytest
import torch

from benchmark.errors import AccessError, ConfigError, Refused
from benchmark.settings.deployment.games.inputs import AdversarialExamples
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.defense import Release, ReleaseMechanism
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.release import stretch
from benchmark.settings.release.setting import ReleaseSetting
from benchmark.threats.reconstruction.controls import Copy, MeanImage
from tests.benchmark.helpers import context


def setting(**changes) -> ReleaseSetting:
    sizes = {"epochs": 30, "examiner_epochs": 60, "victims": 20, "candidates": 30, "measures": {}}
    return ReleaseSetting(**(sizes | changes))


class Looker(ReleaseThreat):
    """Threat that keeps what it saw and answers with it."""

    family = "reconstruction"
    headline = "examiner_accuracy"

    def __init__(self, *knowledge: str, pairs: int = 0) -> None:
        super().__init__()
        self.knowledge, self.pairs = frozenset(knowledge), pairs

    def attack(self, surface, rng):
        self.seen = surface
        return Reconstruction(surface.targets.clamp(0, 1).unsqueeze(1))


class Inverted(ReleaseMechanism):
    """Mechanism that releases negatives in a shuffled order, of half of the samples."""

    def facts(self):
        return {"negative": True}

    def release(self, private, rng):
        rows = torch.randperm(len(private), generator=rng)[: len(private) // 2]
        return Release(self.encode(private.x[rows]), private.y[rows], rows)

    def encode(self, x):
        return 1 - x


class Synthetic(ReleaseMechanism):
    def release(self, private, rng):
        return Release(torch.rand(private.x.shape, generator=rng), private.y)


def test_without_a_defense_the_release_is_the_private_data():
    outcome = setting().play(context(Looker()))
    assert outcome.risk["ssim"] == pytest.approx(1)
    assert outcome.risk["examiner_accuracy"] == outcome.risk["examiner_on_release"]
    assert outcome.risk["examiner_on_release"] == outcome.diagnostics["examiner_on_private"] > 0.5
    assert outcome.utility["test_accuracy"] > 0.5
    assert outcome.cost["bytes_sent"] == 4 * 200 * 65
    assert outcome.pictures["reconstruction"].shape == (3, 8, 1, 8, 8)


def test_the_model_trains_on_the_release_and_is_tested_on_encoded_inputs():
    assert setting().play(context(Looker(), Inverted())).utility["test_accuracy"] > 0.5


def test_known_pairs_are_other_rows_than_the_targets_and_belong_together():
    threat = Looker("known_pairs", pairs=7)
    setting().play(context(threat, Inverted()))
    pairs, targets = threat.seen.pairs, threat.seen.targets
    assert pairs.plain.shape == (7, 1, 8, 8)
    assert torch.equal(pairs.encoded, 1 - pairs.plain)
    assert torch.cdist(pairs.encoded.flatten(1), targets.flatten(1)).min() > 0


def test_the_targets_do_not_depend_on_the_number_of_known_pairs():
    few, many = Looker("known_pairs", pairs=1), Looker("known_pairs", pairs=9)
    for threat in (few, many):
        setting().play(context(threat))
    assert torch.equal(few.seen.targets, many.seen.targets)
    assert torch.equal(few.seen.pairs.plain[-1], many.seen.pairs.plain[-1])


@pytest.mark.parametrize(
    ("field", "grant"),
    [
        ("pairs", "known_pairs"),
        ("published", "mechanism"),
        ("public", "public"),
        ("attacker", "attacker_data"),
        ("truth", "truth"),
    ],
)
def test_what_is_not_granted_is_hidden(field, grant):
    blind, knowing = Looker(), Looker(grant)
    setting().play(context(blind, Inverted()))
    setting().play(context(knowing, Inverted()))
    with pytest.raises(AccessError, match=grant):
        getattr(blind.seen, field)
    assert getattr(knowing.seen, field) is not None


@pytest.mark.ci
def test_controls_bound_the_scale():
    mean = setting().play(context(MeanImage())).risk
    copy = setting().play(context(Copy())).risk
    assert copy["ssim"] == pytest.approx(1) and copy["recovered_share"] == 1
    assert mean["examiner_accuracy"] < 0.3 < copy["examiner_accuracy"]


def test_the_same_seed_measures_the_same():
    first, second = (setting().play(context(Looker(), Inverted())) for _ in range(2))
    assert first.risk == second.risk and first.utility == second.utility


def test_the_model_and_the_examiner_are_shared_by_content():
    keys = []

    def cache(key, build):
        keys.append(key)
        return build()

    setting().play(context(Looker(), cache=cache))
    assert [key[0] for key in keys] == ["release.fit", "release", "examiner"]
    assert all("threat" not in key for key in keys)
    assert "defense" in keys[0] and "defense" in keys[1] and "defense" not in keys[2]


def test_a_synthetic_release_has_no_rows_to_reconstruct():
    with pytest.raises(Refused, match="synthetic"):
        setting().play(context(Looker(), Synthetic()))


def test_too_few_rows_are_refused():
    with pytest.raises(ConfigError, match=r"lower setting\.victims or threat\.pairs"):
        setting(victims=195).play(context(Looker("known_pairs", pairs=10)))


def test_a_guess_of_another_kind_is_a_fault():
    class Stranger(Looker):
        def attack(self, surface, rng):
            return AdversarialExamples(surface.targets, torch.zeros(20, dtype=torch.bool))

    with pytest.raises(TypeError, match="surface 'release' cannot score a AdversarialExamples"):
        setting().play(context(Stranger()))


def test_stretching_is_for_what_leaves_the_range_only():
    x = torch.tensor([[0.2, 0.4], [-1.0, 3.0]]).view(2, 1, 1, 2)
    assert torch.allclose(stretch(x).flatten(1), torch.tensor([[0.2, 0.4], [0.0, 1.0]]))
