"""DP-Sinkhorn and DP-MERF: private data pass through the sanitiser alone, and both learn without noise."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmark.data.base import Split
from benchmark.defenses.release.dataset_condensation import DatasetCondensation, gradient_distance
from benchmark.defenses.release.dp_merf import DPMERF, fourier
from benchmark.defenses.release.dp_sinkhorn import DPSinkhorn
from benchmark.defenses.release.generators import generator_for
from benchmark.errors import ConfigError
from benchmark.training.accounting import gaussian_epsilon
from benchmark.training.sanitise import poisson_epsilon
from tests.benchmark.helpers import digits_like

DEFAULTS = {
    "noise_multiplier": 1.1,
    "private": True,
    "perturb": "image",
    "clip": 0.5,
    "batch_size": 16,
    "steps": 20,
    "target_epsilon": None,
    "delta": 1e-4,
    "lr": 1e-3,
    "weight_decay": 0.0,
    "debias": 0.2,
    "l1": 1.0,
    "l2": 1.0,
    "blur": 0.05,
    "label_weight": 15.0,
    "latent": 8,
    "rows": 50,
    "threshold": False,
}


def sinkhorn(**changes: object) -> DPSinkhorn:
    return DPSinkhorn(**{**DEFAULTS, **changes})  # type: ignore[arg-type]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def released(defense: DPSinkhorn | DPMERF, private: Split) -> torch.Tensor:
    torch.manual_seed(0)
    return defense.release(private, rng()).x


@pytest.mark.parametrize("perturb", ["image", "param"])
def test_with_a_bound_of_nothing_private_data_leave_no_trace(perturb: str) -> None:
    """Noise 0 and (nearly) clip 0: whatever the private values are, the generator is the same, bit for bit."""
    first = digits_like(100, 0)
    other = replace(first, x=1 - first.x, y=first.y.flip(0))
    shut = {"noise_multiplier": 0.0, "clip": 1e-30, "perturb": perturb}
    assert torch.equal(released(sinkhorn(**shut), first), released(sinkhorn(**shut), other))
    assert not torch.equal(released(sinkhorn(private=False), first), released(sinkhorn(private=False), other))


def test_only_the_block_that_saw_private_data_is_noised() -> None:
    defense = sinkhorn(debias=0.5)
    private = digits_like(16)
    generator = defense.generator = generator_for((1, 8, 8), 10, 8)
    y = torch.arange(24) % 10
    x = generator(generator.noise(24, rng()), y)
    one, two = (defense.image_gradient(x, y, private, rng(seed)) for seed in (1, 2))
    assert not torch.allclose(one[:16], two[:16])
    assert torch.equal(one[16:], two[16:])
    assert one[16:].norm() <= 0.5 + 1e-6


def test_released_labels_do_not_follow_the_private_histogram() -> None:
    private = digits_like(100)
    ones = replace(private, y=torch.where(torch.arange(100) < 95, 1, private.y))
    y = sinkhorn(rows=2000).release(ones, rng()).y
    assert y.bincount(minlength=10).min() > 140


def test_epsilon_is_the_accountants_and_training_stops_before_the_target() -> None:
    private = digits_like(200)
    release = sinkhorn().release(private, rng())
    assert release.epsilon == poisson_epsilon(noise_multiplier=1.1, rate=16 / 200, steps=20, delta=1e-4)
    assert release.delta == 1e-4 and release.source is None
    budgeted = sinkhorn(target_epsilon=release.epsilon * 0.9)
    assert budgeted.plan(200)[0] < 20
    assert (budgeted.release(private, rng()).epsilon or 99) <= release.epsilon * 0.9
    assert sinkhorn(private=False).release(private, rng()).epsilon is None


@pytest.mark.parametrize("shape", [(1, 8, 8), (5,), (1, 28, 28), (3, 32, 32)])
def test_generators_give_samples_of_every_shape(shape: tuple[int, ...]) -> None:
    generator = generator_for(shape, 3, 4)
    x = generator.sample(torch.tensor([0, 1, 2, 0]), rng())
    assert x.shape == (4, *shape) and x.min() >= 0 and x.max() <= 1


def nearest_prototype_accuracy(x: torch.Tensor, y: torch.Tensor, private: Split) -> float:
    means = torch.stack([private.x[private.y == label].flatten(1).mean(0) for label in range(10)])
    return (torch.cdist(x.flatten(1), means).argmin(1) == y).double().mean().item()


@pytest.mark.ci
def test_without_noise_both_learn_the_classes() -> None:
    private = digits_like(400)
    torch.manual_seed(0)
    free = sinkhorn(private=False, steps=250, batch_size=40, lr=3e-3).release(private, rng())
    assert nearest_prototype_accuracy(free.x, free.y, private) > 0.8
    torch.manual_seed(0)
    merf = DPMERF(
        noise_multiplier=0.0,
        delta=1e-5,
        features=400,
        width=20.0,
        steps=150,
        batch_size=100,
        lr=1e-2,
        latent=8,
        rows=50,
    ).release(private, rng())
    assert nearest_prototype_accuracy(merf.x, merf.y, private) > 0.8
    assert merf.epsilon is None


def test_random_features_have_norm_one_and_their_products_are_the_kernel() -> None:
    x = torch.randn((2, 4), generator=rng())
    features = fourier(x, torch.randn((4, 20_000), generator=rng(1)))
    assert torch.allclose(features.norm(dim=1), torch.ones(2))
    kernel = (-(x[0] - x[1]).square().sum() / 2).exp()
    assert (features[0] @ features[1]).item() == pytest.approx(kernel.item(), abs=0.02)


def test_merf_spends_one_gaussian_release() -> None:
    release = DPMERF(
        noise_multiplier=5.0, delta=1e-5, features=10, width=1.0, steps=1, batch_size=4, lr=1e-2, latent=2, rows=None
    ).release(digits_like(30), rng())
    assert release.epsilon == gaussian_epsilon(noise_multiplier=5.0, steps=1, delta=1e-5) < 1
    assert len(release.x) == 30


def test_merf_takes_the_noise_that_the_epsilon_asked_for_allows() -> None:
    small = dict(delta=1e-5, features=10, width=1.0, steps=1, batch_size=4, latent=2)
    for epsilon in (1.0, 10.0):
        release = DPMERF(target_epsilon=epsilon, **small).release(digits_like(30), rng())
        assert 0.999 * epsilon < release.epsilon <= epsilon


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="perturb must be image or param"):
        sinkhorn(perturb="pixels")
    with pytest.raises(ConfigError, match="batch_size must be a whole number of at least 1"):
        sinkhorn(batch_size=0)


# -- Dataset condensation: its distance in closed form, and that a class comes to look like itself
CONDENSATION = {
    "per_class": 2,
    "lr": 0.1,
    "batch_size": 30,
    "network_steps": 5,
    "network_lr": 0.01,
    "width": 4,
}


def test_gradients_are_compared_by_direction_alone() -> None:
    a = (torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([1.0, 1.0]))
    assert gradient_distance(a, tuple(3 * part for part in a)).item() == pytest.approx(0, abs=1e-6)
    assert gradient_distance(a, tuple(-part for part in a)).item() == pytest.approx(6)  # two rows and a bias, 2 each


def test_a_few_images_of_each_class_come_nearer_to_its_mean() -> None:
    private = digits_like(60, 0, num_classes=3)

    def release(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(0)
        made = DatasetCondensation(descent_steps=steps, **CONDENSATION).release(
            private, torch.Generator().manual_seed(0)
        )  # type: ignore[arg-type]
        assert made.source is None and made.x.min() >= 0 and made.x.max() <= 1
        return made.x, made.y

    means = torch.stack([private.x[private.y == label].mean(dim=0) for label in range(3)])
    (start, y), (end, _) = release(0), release(40)
    assert y.tolist() == [0, 0, 1, 1, 2, 2]

    def likeness(x: torch.Tensor) -> float:
        own, other = ((images - images.mean(dim=(1, 2, 3), keepdim=True)).flatten(1) for images in (x, means[y]))
        return torch.cosine_similarity(own, other, dim=1).mean().item()

    assert likeness(end) > likeness(start) + 0.1
