"""The game of many uploads, from mirrored digits to bits by layer."""

from functools import partial

import pytest
import torch

from benchmark.cell import Cell, play
from benchmark.data.digits import Digits
from benchmark.data.lipton import Lipton
from benchmark.data.mirrored import Mirrored
from benchmark.defenses.collaboration.clients.gradient_noise import GradientNoise
from benchmark.defenses.collaboration.clients.layer_withholding import LayerWithholding
from benchmark.defenses.none import NoDefense
from benchmark.errors import ConfigError, Refused
from benchmark.models.mlp import MLP
from benchmark.models.strided_convnet import StridedConvNet
from benchmark.outcome import Outcome
from benchmark.settings.collaboration.games import many_uploads
from benchmark.settings.collaboration.games.many_uploads import draw_batches
from benchmark.settings.collaboration.published import Published
from benchmark.settings.threat import AccessError
from benchmark.threats.attribute_inference.property import PropertyInference
from benchmark.threats.gradient_leakage.v_information import (
    LatentVInformation,
    OriginalVInformation,
    ShuffledSecret,
    ToldSecret,
)
from tests.benchmark.helpers import collaboration

SIZES = {"owner": 600, "attacker": 500, "public": 50, "calibration": 50, "test": 100}
ARCHITECTURE = partial(StridedConvNet, channels=[8, 16], hidden=32, activation="relu", init="default", kernel=3)


def mirrored() -> Mirrored:
    return Mirrored(of=Digits(sizes={}), sizes=SIZES)


def latent(kind=LatentVInformation, **overrides):
    arguments = dict(families=["linear"], victims=80, auxiliary=160, scope="group", trees=5, adaptive=False)
    return kind(**(arguments | overrides))


def played(threat, defense=None, batch: int = 8, model=ARCHITECTURE) -> Outcome:
    setting = collaboration(victims=20, victim_batch_size=batch, rounds=2)
    return play(Cell(mirrored(), model, setting, threat, [defense or NoDefense()], seed=0))[0]


def test_the_mirrored_set_flips_half_and_records_which():
    data, plain = mirrored().load(None, 0), Digits(sizes=SIZES).load(None, 0)
    flipped = data.owner.sensitive == 1
    assert 0.4 < flipped.float().mean() < 0.6
    assert torch.equal(data.owner.x[~flipped], plain.owner.x[~flipped])
    assert torch.equal(data.owner.x[flipped], plain.owner.x[flipped].flip(-1))


def test_batches_share_the_attribute_or_ask_about_their_first_member():
    data = mirrored().load(None, 0).owner
    index = {tuple(x.flatten().tolist()): s for x, s in zip(data.x, data.sensitive.tolist(), strict=True)}
    for scope, shared in (("group", 6), ("member", 1)):
        batches = draw_batches(data, 10, 6, scope, torch.Generator().manual_seed(0))
        assert batches.secret.sum() == 5
        for x, secret in zip(batches.x, batches.secret.tolist(), strict=True):
            assert all(index[tuple(image.flatten().tolist())] == secret for image in x[:shared])
    with pytest.raises(ConfigError, match="lower the batch size"):
        draw_batches(data, 2, 500, "group", torch.Generator())
    with pytest.raises(ConfigError, match=r"there are \[\d+, 0\]"):
        draw_batches(data[data.sensitive == 0], 2, 1, "group", torch.Generator())


@pytest.mark.ci
def test_a_group_attribute_is_found_and_its_controls_bound_it():
    outcome = played(latent())
    assert outcome.risk["latent_bits"] > 0.3 and outcome.risk["attribute_accuracy"] > 0.75
    layers = outcome.captions["latent_bits by layer"]
    assert layers == ["conv1", "conv2", "fc1", "fc2"]
    for curve in ("latent_bits", "sensitivity_over_gradient_norm", "subspace_distance_5", "attribute_contrast"):
        assert len(outcome.curves[f"{curve} by layer"]) == len(layers)
    assert (
        outcome.diagnostics["sensitivity_over_gradient_norm_conv1"]
        > (outcome.diagnostics["sensitivity_over_gradient_norm_fc2"])
    )
    shuffled = played(latent(ShuffledSecret))
    assert shuffled.risk["latent_bits"] < 0.1
    told = played(ToldSecret(victims=80, auxiliary=4))
    assert told.risk["latent_bits"] == pytest.approx(1, abs=1e-4)


@pytest.mark.ci
def test_uploads_change_less_with_a_sample_once_it_is_aggregated_or_noise_is_added():
    def sensitivities(batch: int, defense=None) -> list[torch.Tensor]:
        smooth = partial(ARCHITECTURE, activation="tanh")  # a ReLU's gradient jumps
        told = played(ToldSecret(victims=20, auxiliary=4), defense, batch, smooth).diagnostics
        names = ("sensitivity", "upload_sensitivity", "upload_sensitivity_over_norm")
        return [torch.tensor([told[f"{name}_{layer}"] for layer in ("conv1", "conv2", "fc1", "fc2")]) for name in names]

    plain, alone, relative = sensitivities(1)
    torch.testing.assert_close(alone, plain, rtol=0.2, atol=0.0)  # along other directions
    _, shared, beside = sensitivities(8)
    assert (shared < alone / 4).all() and (beside < relative / 2).all()
    _, noisy, drowned = sensitivities(1, GradientNoise(std=1.0, distribution="gaussian"))
    torch.testing.assert_close(noisy, alone, rtol=1e-3, atol=1e-4)
    assert (drowned < relative / 2).all()


def test_the_attribute_of_people_in_a_table_is_found():
    setting = collaboration(victims=20, victim_batch_size=8, rounds=2)
    people = Lipton(sizes={"owner": 300, "attacker": 300, "public": 50, "calibration": 50, "test": 100})
    model = partial(MLP, hidden=[16], activation="relu")
    told = play(Cell(people, model, setting, latent(), [NoDefense()], seed=0))[0]
    assert told.risk["attribute_accuracy"] > 0.75
    leads = [told.diagnostics[f"latent_bits_lead_{layer}"] for layer in ("fc1", "fc2")]
    assert sorted(lead > 0 for lead in leads) == [False, True] and sum(leads) == pytest.approx(0)
    assert -1 <= told.diagnostics["rank_correlation"] <= 1
    with pytest.raises(Refused, match="dataset.kind=image"):
        play(Cell(people, model, setting, OriginalVInformation(victims=8, auxiliary=8), [NoDefense()], seed=0))


@pytest.mark.ci
def test_withheld_layers_have_no_information_and_the_others_have():
    outcome = played(latent(adaptive=True), LayerWithholding(layers=["conv1"]))
    assert outcome.diagnostics["latent_bits_conv1"] == 0
    assert outcome.diagnostics["latent_bits_fc1"] > 0.1


@pytest.mark.ci
def test_single_gradients_have_information_on_images():
    outcome = played(OriginalVInformation(families=["ridge"], victims=60, auxiliary=300, adaptive=False), batch=1)
    assert outcome.risk["original_bits"] > 0.05
    layer = "conv2"
    beyond, whole = (outcome.diagnostics[f"original_bits{name}_{layer}"] for name in ("_beyond_label", ""))
    assert 0 <= beyond <= whole


def test_only_a_threat_that_knows_the_mechanism_rehearses_the_defense():
    seen = {}

    class Spy(LatentVInformation):
        def attack(self, surface, rng):
            seen["surface"] = surface
            return super().attack(surface, rng)

    played(latent(Spy, victims=8, auxiliary=8), GradientNoise(std=0.1, distribution="gaussian"))
    with pytest.raises(AccessError, match="rehearse_defended"):
        _ = seen["surface"].rehearse_defended
    with pytest.raises(AccessError, match="truth"):
        _ = seen["surface"].truth


def test_mixed_uploads_are_read_by_their_group():
    uploads = torch.arange(8.0).view(4, 2)
    mixed = many_uploads._by_group(uploads, Published(groups=torch.tensor([5, 2, 5, 2])))
    torch.testing.assert_close(mixed, torch.tensor([[2.0, 3.0], [4.0, 5.0], [2.0, 3.0], [4.0, 5.0]]))


def test_data_without_a_sensitive_attribute_are_refused():
    setting = collaboration()
    with pytest.raises(Refused, match="dataset.sensitive=yes"):
        play(Cell(Digits(sizes=SIZES), ARCHITECTURE, setting, latent(), [NoDefense()], seed=0))


@pytest.mark.parametrize("overrides", [{"scope": "all"}, {"victims": 1}])
def test_bad_arguments_are_refused(overrides):
    with pytest.raises(ConfigError, match="threat."):
        latent(**overrides)


@pytest.mark.ci
def test_a_property_of_the_batch_is_inferred_unless_noise_is_strong():
    arguments = dict(families=["forest", "linear"], victims=80, auxiliary=160, trees=10, adaptive=True)
    seen = played(PropertyInference(**arguments))
    assert seen.risk["attribute_accuracy"] > 0.75
    assert "latent_bits_update" in seen.diagnostics
    drowned = played(PropertyInference(**arguments), GradientNoise(std=10.0, distribution="gaussian"))
    assert drowned.risk["attribute_accuracy"] < 0.65
