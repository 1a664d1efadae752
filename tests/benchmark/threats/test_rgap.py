"""R-GAP and the regularised inversions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmark.defenses.collaboration.regimes.fragmented_fl import FragmentedFL
from benchmark.errors import ConfigError, Refused
from benchmark.models.convnet import ConvNet
from benchmark.models.strided_convnet import StridedConvNet
from benchmark.threats.gradient_leakage.controls import ClassMean
from benchmark.threats.gradient_leakage.dlg import DLG
from benchmark.threats.gradient_leakage.inverting_gradients import InvertingGradients
from benchmark.threats.gradient_leakage.mixed_uploads import Collusion, Unmixing, assign
from benchmark.threats.gradient_leakage.regularised_inversion import RegularisedInversion, patterned, smooth_variation
from benchmark.threats.gradient_leakage.rgap import RGAP, chain, conjugate_gradients, invert
from tests.benchmark.helpers import TinyMLP, TinyNet, collaboration, context, observe
from tests.benchmark.threats.test_gradient_leakage import likeness, quality


def inversion(**overrides) -> RegularisedInversion:
    arguments = dict(
        iterations=150, warmup=10, step=0.1, soft_sign=True, distance="cosine", match=1.0, total_variation=1e-4, l2=0.0,
        features=0.1, langevin=0.0, restarts=1, observations=1, adaptive=False,
    )  # fmt: skip
    return RegularisedInversion(**(arguments | overrides))


def sigmoid(**_: object) -> StridedConvNet:
    return StridedConvNet(
        shape=(1, 8, 8), num_classes=10, channels=[12, 12], hidden=16, activation="sigmoid", init="default", kernel=3
    )


@pytest.mark.parametrize(
    ("architecture", "victims", "iterations"),
    [(TinyMLP, 2, 1), (TinyNet, 2, 200), (sigmoid, 1, 450)],
    ids=["mlp", "conv", "sigmoid"],
)
def test_rgap_recovers_single_images(architecture, victims, iterations):
    surface = observe(architecture=lambda **_: architecture(), victims=victims)
    guess = RGAP(iterations=iterations, observations=1, adaptive=False)(surface, seed=0)
    assert likeness(guess, surface) > 25
    assert torch.equal(guess.labels, surface.labels)


def test_rgap_treats_a_batch_as_one_sample():
    surface = observe(victims=2, batch=3)
    guess = RGAP(iterations=20, observations=1, adaptive=False)(surface, seed=0)
    assert guess.x.shape == surface.truth.shape


def test_rgap_refuses_other_architectures():
    pooled = ConvNet(shape=(1, 8, 8), num_classes=10, channels=[4], hidden=8, activation="relu")
    with pytest.raises(Refused, match="MaxPool2d"):
        chain(pooled)
    with pytest.raises(Refused, match="last layer"):
        chain(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))


def test_conjugate_gradients_solve_many_least_squares_problems_at_once():
    a, b = torch.randn(2, 3, 9, 5, dtype=torch.float64)
    truth = torch.randn(3, 5, dtype=torch.float64)

    def forward(x):
        return torch.einsum("nij,nj->ni", a, x), torch.einsum("nij,nj->ni", b, x)

    torch.testing.assert_close(conjugate_gradients(forward, forward(truth), (5,), 6), truth, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("layer", [nn.Sigmoid(), nn.Tanh(), nn.LeakyReLU(0.2)])
def test_activations_are_inverted(layer):
    z = torch.linspace(-3, 3, 25, dtype=torch.float64)
    found, slope, _ = invert(layer, layer(z))
    torch.testing.assert_close(found, z)
    torch.testing.assert_close(slope, torch.func.vmap(torch.func.grad(lambda v: layer(v)))(z))


@pytest.mark.parametrize(
    "overrides",
    [{}, {"distance": "euclidean", "soft_sign": False, "features": 0.0, "l2": 1e-6, "langevin": 0.01}],
    ids=["modern", "gradinversion"],
)
def test_regularised_inversions_recover_single_images(overrides):
    assert quality(inversion(**overrides), observe(victims=2)) > 20


@pytest.mark.parametrize(
    "threat",
    [
        inversion(iterations=5),
        InvertingGradients(iterations=5),
        DLG(labels="joint", iterations=3, restarts=1),
        RGAP(iterations=5, observations=1, adaptive=False),
    ],
    ids=["modern", "inverting_gradients", "dlg", "rgap"],
)
def test_an_attack_reads_the_weights_that_were_sent_and_not_those_of_the_module(threat):
    surface = observe(architecture=sigmoid, victims=1)
    found = threat(surface, seed=0).x
    with torch.no_grad():
        for weight in surface.net.module.parameters():
            weight.normal_()
    assert torch.equal(threat(surface, seed=0).x, found)


def test_starts_repeat_a_tile_and_variation_counts_edges():
    start = patterned(2, (1, 1, 3, 8, 8), torch.Generator().manual_seed(0))
    assert torch.equal(start[..., :4, :4], start[..., 4:, 4:])
    flat, edge = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    edge[..., 4:] = 1
    of_edge, of_flat = smooth_variation(torch.cat([edge, flat]))
    assert of_edge > 10 * of_flat
    assert torch.equal(of_edge[None], smooth_variation(edge)), "of each inversion alone"


def test_an_unknown_distance_is_refused():
    with pytest.raises(ConfigError, match="distance must be cosine or euclidean"):
        inversion(distance="hamming")


def test_the_class_mean_control_knows_labels_and_averages():
    surface = observe(victims=3)
    guess = ClassMean()(surface, seed=0)
    assert torch.equal(guess.labels, surface.labels)
    label = surface.labels[0, 0]
    torch.testing.assert_close(guess.x[0, 0], surface.public.x[surface.public.y == label].mean(dim=0))


# -- Attacks on uploads in which two parties exchanged coordinates
ATTACK = dict(iterations=150, step=0.1, total_variation=1e-4, restarts=1)


def mixed() -> FragmentedFL:
    return FragmentedFL(p_mix=0.5, warm_up=2, reputation=False, wire="counted", dropout=0.0)


def test_values_are_assigned_to_the_nearer_gradient():
    ours = torch.tensor([[1.0, 5.0, 0.0], [4.0, 2.0, 0.0]])
    uploads = torch.tensor([[1.1, 2.1, 7.0], [4.1, 5.1, 8.0]])
    fitting = torch.tensor([[1.1, 5.1, 7.0], [4.1, 2.1, 8.0]])
    assert torch.equal(assign(ours, uploads), fitting)
    pairs = torch.stack([ours, ours.flip(0)]), torch.stack([uploads, uploads])
    assert torch.equal(assign(*pairs)[:, :, :2], torch.stack([fitting, fitting.flip(0)])[:, :, :2])


@pytest.mark.ci
def test_unmixing_and_collusion_recover_images_from_mixed_uploads():
    setting = collaboration(victims=2, rounds=2)
    psnr = {
        name: setting.play(context(threat, mixed())).risk["psnr_db"]
        for name, threat in {
            "naive": InvertingGradients(**ATTACK, observations=1, adaptive=False),
            "unmixing": Unmixing(**ATTACK),
            "collusion": Collusion(**ATTACK),
        }.items()
    }
    assert psnr["unmixing"] > psnr["naive"] + 5
    assert psnr["collusion"] > psnr["naive"] + 10


def test_collusion_sees_exactly_the_plain_updates():
    setting = collaboration(victims=2, rounds=2)
    bare = setting.play(context(InvertingGradients(**ATTACK | {"iterations": 20}, observations=1, adaptive=False)))
    told = setting.play(context(Collusion(**ATTACK | {"iterations": 20}), mixed()))
    assert abs(bare.risk["psnr_db"] - told.risk["psnr_db"]) < 3
