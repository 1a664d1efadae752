"""GS-WGAN, DP-GAN, DP-CGAN, PATE-GAN, G-PATE: what leaves the curator, what it costs, what is learnt without noise."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmark.data.base import Split
from benchmark.defenses.release.dp_gan import DPGAN
from benchmark.defenses.release.g_pate import GPATE
from benchmark.defenses.release.generators import GeneratorDefense
from benchmark.defenses.release.gs_wgan import GSWGAN
from benchmark.defenses.release.pate_gan import PATEGAN
from benchmark.errors import ConfigError
from benchmark.training.accounting import gaussian_epsilon, laplace_epsilon, shard_epsilon
from benchmark.training.discriminators import Critic, Teachers, labelled, labelled_private, shards_of
from benchmark.training.functional import Net
from benchmark.training.sanitise import poisson_epsilon
from tests.benchmark.helpers import digits_like

COMMON = {"target_epsilon": None, "delta": 1e-4, "lr": 1e-3, "hidden": [16], "latent": 4, "rows": 40}
GS = {"shards": 4, "warm_up": 1, "noise_multiplier": 3.0, "clip": 1.0, "batch_size": 8, "steps": 5, "critic_steps": 1}
DP = {"noise_multiplier": 1.1, "clip": 1.0, "batch_size": 8, "steps": 5, "judge_steps": 1, "weight_bound": 0.1}
PATE = {"teachers": 4, "teacher_steps": 1, "student_steps": 2, "noise": 5.0, "batch_size": 8, "steps": 5}
GPATE_ = {"teachers": 4, "teacher_steps": 1, "noise": 9.0, "threshold_noise": 9.0, "threshold": 0.5, "directions": 3}
GPATE_ |= {"bins": 3, "bound": 1.5, "batch_size": 8, "steps": 5}


def gs_wgan(**changes: object) -> GSWGAN:
    return GSWGAN(**{**COMMON, **GS, **changes})  # type: ignore[arg-type]


def dp_gan(objective: str = "wasserstein", **changes: object) -> DPGAN:
    return DPGAN(objective=objective, **{**COMMON, **DP, **changes})  # type: ignore[arg-type]


def pate_gan(**changes: object) -> PATEGAN:
    return PATEGAN(**{**COMMON, **PATE, **changes})  # type: ignore[arg-type]


def g_pate(**changes: object) -> GPATE:
    return GPATE(**{**COMMON, **GPATE_, **changes})  # type: ignore[arg-type]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def released(defense: GeneratorDefense, private: Split) -> torch.Tensor:
    torch.manual_seed(0)
    return defense.release(private, rng()).x


SHUT = {
    "gs_wgan": gs_wgan(noise_multiplier=0.0, clip=1e-30),
    # Adam's first steps are as large as the noise is small: with no clipped gradient at all, noise is all there is.
    "dp_gan": dp_gan(clip=1e-30, noise_multiplier=1e20),
    "dp_cgan": dp_gan("cross_entropy", clip=1e-30, noise_multiplier=1e20),
    "pate_gan": pate_gan(noise=1e30),
    "g_pate": g_pate(noise=1e30, threshold_noise=1e30),
}
OPEN = {
    "gs_wgan": gs_wgan(noise_multiplier=0.0),
    "dp_gan": dp_gan(noise_multiplier=0.0),
    "dp_cgan": dp_gan("cross_entropy", noise_multiplier=0.0),
    "pate_gan": pate_gan(noise=0.0, lr=1e-2, steps=20),
    "g_pate": g_pate(noise=0.0, threshold_noise=0.0, threshold=0.0),
}


@pytest.mark.parametrize("name", SHUT)
def test_where_nothing_passes_but_noise_private_data_leave_no_trace(name: str) -> None:
    """Bit for bit, whatever the private values and labels are."""
    first = digits_like(80, 0)
    other = replace(first, x=1 - first.x, y=first.y.flip(0))
    assert torch.equal(released(SHUT[name], first), released(SHUT[name], other))
    assert not torch.equal(released(OPEN[name], first), released(OPEN[name], other))


@pytest.mark.parametrize("name", OPEN)
def test_released_labels_do_not_follow_the_private_histogram(name: str) -> None:
    private = digits_like(80)
    ones = replace(private, y=torch.where(torch.arange(80) < 75, 1, private.y))
    defense = OPEN[name]
    defense.rows = 2000  # type: ignore[attr-defined]
    release = defense.release(ones, rng())
    assert release.y.bincount(minlength=10).min() > 140
    assert release.epsilon is None and release.x.min() >= 0 and release.x.max() <= 1


def test_every_images_gradient_is_clipped_and_noised() -> None:
    defense, private = gs_wgan(), digits_like(8)
    generator = defense.untrained(digits_like(10))
    critic, x, y = Critic(74, [16]), 2 * private.x - 1, private.y
    with torch.no_grad():
        critic.layers[0].weight.mul_(100)  # far above the bound
    silent = gs_wgan(noise_multiplier=0.0)
    silent.generator = generator
    norms = (silent.image_gradient(critic, x, y, rng()) * 8).flatten(1).norm(dim=1)
    assert torch.allclose(norms, torch.ones(8))
    noise = torch.stack([defense.image_gradient(critic, x, y, rng(seed)) for seed in range(200)]).std(dim=0) * 8
    assert noise.mean().item() == pytest.approx(2 * 1.0 * 3.0, rel=0.03)


@pytest.mark.parametrize("objective", ["wasserstein", "cross_entropy"])
def test_one_private_record_moves_the_judges_gradient_by_the_bound_at_most(objective: str) -> None:
    defense, private = dp_gan(objective, noise_multiplier=0.0, clip=0.5), digits_like(9)
    generator = defense.untrained(digits_like(10))
    judge, known = Net(Critic(74, [16])), labelled_private(private, 10)
    generator.eval()  # running statistics: the generated samples of a pair do not depend on other records
    all_, fewer = (
        defense.discriminator_gradient(judge, generator, known[:n], private.y[:n], rng()) * 8 for n in (9, 8)
    )
    if objective == "cross_entropy":
        assert (all_ - fewer).norm() <= 0.5 + 1e-5
    assert all_.norm() <= 0.5 * (9 if objective == "wasserstein" else 17) + 1e-5
    nobody = defense.discriminator_gradient(judge, generator, known[:0], private.y[:0], rng())
    assert torch.isfinite(nobody).all()
    assert (nobody.abs().max() == 0) == (objective == "wasserstein")


def test_noise_on_the_judges_gradient_has_the_size_that_is_accounted_for() -> None:
    defense, private = dp_gan(noise_multiplier=4.0, clip=0.5), digits_like(8)
    generator, judge = defense.untrained(digits_like(10)), Net(Critic(74, [16]))
    none = labelled_private(private, 10)[:0]
    noise = torch.stack(
        [defense.discriminator_gradient(judge, generator, none, private.y[:0], rng(s)) for s in range(20)]
    )
    assert (noise * 8).std().item() == pytest.approx(4.0 * 0.5, rel=0.02)


def test_votes_and_directions_are_those_of_each_teacher_alone() -> None:
    torch.manual_seed(0)
    private = digits_like(40)
    known = labelled_private(private, 10)
    teachers = Teachers(known[shards_of(40, 4, rng())], [8], 1e-2)
    for _ in range(20):
        teachers.learn(torch.rand((10, 74), generator=rng(1)), rng())
    x = torch.rand((5, 74), generator=rng(2))
    logits = torch.stack([teachers.net.logits(params, x) for params in teachers.params])
    assert torch.equal(teachers.votes(x), (logits[:, :, 1] > logits[:, :, 0]).sum(dim=0))
    assert teachers.votes(known).double().mean() > 1.5 * teachers.votes(x).double().mean()
    step = 1e-3 * teachers.directions(x)
    moved = torch.stack([teachers.net.logits(p, x - s) for p, s in zip(teachers.params, step, strict=True)])
    gap, later = logits[:, :, 1] - logits[:, :, 0], moved[:, :, 1] - moved[:, :, 0]
    assert (later > gap).all()


def test_shards_are_disjoint() -> None:
    shards = shards_of(22, 4, rng())
    assert shards.shape == (4, 5) and len(shards.unique()) == 20


def test_unanimous_teachers_are_followed() -> None:
    defense = g_pate(noise=0.0, threshold_noise=0.0, threshold=0.9, directions=200)
    wanted = torch.nn.functional.normalize(torch.randn((1, 6, 30), generator=rng()), dim=2)
    found = defense.consensus(wanted.expand(4, -1, -1), rng())
    assert torch.cosine_similarity(found, wanted[0]).min() > 0.8
    split = torch.cat([wanted, -wanted]).repeat(2, 1, 1)
    assert defense.consensus(split, rng()).norm() < found.norm() / 2  # no clear majority, no answer
    answer = pate_gan(noise=0.0).answer(torch.tensor([0, 1, 3, 4]), 4, rng())
    assert answer.tolist() == [0, 0, 1, 1]


@pytest.mark.ci
def test_epsilon_is_the_accountants() -> None:
    private = digits_like(80)
    spent = {
        gs_wgan(): shard_epsilon(noise_multiplier=3.0 / 8**0.5, shards=4, queries=5, delta=1e-4),
        dp_gan(): poisson_epsilon(noise_multiplier=1.1, rate=0.1, steps=5, delta=1e-4),
        pate_gan(): laplace_epsilon(scale=5.0, queries=80, delta=1e-4),
        g_pate(): gaussian_epsilon(noise_multiplier=9.0 / 3**0.5, steps=120, delta=1e-4),
    }
    for defense, epsilon in spent.items():
        release = defense.release(private, rng())
        assert release.epsilon == pytest.approx(epsilon) and release.delta == 1e-4
    for budgeted in (gs_wgan, dp_gan, pate_gan, g_pate):
        assert (budgeted(target_epsilon=4.0, steps=500).release(private, rng()).epsilon or 99) <= 4.0


def test_the_papers_accounting_of_gs_wgan_gives_ten_and_ours_far_more() -> None:
    """20,000 steps of 32 images at noise 1.07 and 1,000 shards; each image as if it had drawn its own shard."""
    run = {"shards": 1000, "delta": 1e-5}
    assert 9 < shard_epsilon(noise_multiplier=1.07, queries=20_000 * 32, **run) < 10.5
    assert shard_epsilon(noise_multiplier=1.07 / 32**0.5, queries=20_000, **run) > 1000


def test_noise_of_laplace_is_as_large_as_said() -> None:
    assert laplace_epsilon(scale=0.0, queries=1, delta=1e-4) == float("inf")
    assert laplace_epsilon(scale=2.0, queries=0, delta=1e-4) == 0
    assert laplace_epsilon(scale=2.0, queries=1, delta=1e-9) == pytest.approx(0.5, rel=0.05)
    share = pate_gan(noise=2.0).answer(torch.full((20_000,), 3), 10, rng()).mean().item()
    assert share == pytest.approx(0.5 * 2.718281828 ** (-2 / 2.0), abs=0.01)  # P(Laplace(2) > 2)


def prototype_accuracy(x: torch.Tensor, y: torch.Tensor, private: Split) -> float:
    means = torch.stack([private.x[private.y == label].flatten(1).mean(0) for label in range(10)])
    return (torch.cdist(x.flatten(1), means).argmin(1) == y).double().mean().item()


@pytest.mark.slow
def test_without_noise_the_shards_critics_teach_the_classes() -> None:
    private = digits_like(400)
    torch.manual_seed(0)
    run = {"noise_multiplier": 0.0, "shards": 2, "steps": 400, "critic_steps": 2, "warm_up": 20, "batch_size": 32}
    release = gs_wgan(**run, lr=3e-3, hidden=[64], latent=8, rows=300).release(private, rng())
    assert prototype_accuracy(release.x, release.y, private) > 0.3  # chance is 0.1


def test_labelled_samples_hold_sample_and_label() -> None:
    x = labelled(torch.zeros((2, 1, 2, 2)), torch.tensor([2, 0]), 3)
    assert x.tolist() == [[0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 0, 0]]


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="objective must be wasserstein or cross_entropy"):
        dp_gan("hinge")
    with pytest.raises(ConfigError, match="both above 0"):
        g_pate(noise=0.0)
    with pytest.raises(ConfigError, match="shards must be a whole number of at least 1"):
        gs_wgan(shards=0)
    with pytest.raises(ConfigError, match="noise must be at least 0"):
        pate_gan(noise=-1.0)
