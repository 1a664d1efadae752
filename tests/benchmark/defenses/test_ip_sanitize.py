"""Image sanitisation for data valuation, and its baselines."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from benchmark.data.base import Split
from benchmark.defenses.release.image_coarsening import Blur, PairMix, Pixelate
from benchmark.defenses.release.ip_sanitize import IPSanitize, class_means
from benchmark.defenses.release.pixel_noise import PixelNoise
from benchmark.errors import ConfigError, Diverged, Refused
from benchmark.settings.defense import Defense
from benchmark.settings.release.defense import MechanismContext
from benchmark.settings.release.setting import ReleaseSetting
from benchmark.threats.identity_inference.feature_linkage import NearestFeatures
from benchmark.threats.reconstruction.feature_inversion import FeatureInversion
from benchmark.threats.reconstruction.look import Look
from benchmark.training.proxies import FeatureMatch, learner_loss, top_mask, trained_proxies
from tests.benchmark.helpers import TinyNet, context, digits_like

DEFAULTS = {
    "widths": [4],
    "proxy_epochs": 5,
    "eps": 0.0,
    "ascent_steps": 2,
    "proxies": "known",
    "matched": "logits",
    "top": None,
    "quantum": 0.0,
    "start": "noise",
    "descent_steps": 5,
    "lr": 0.05,
    "batch_size": 50,
    "stop_error": 0.05,
    "pull": 0.0,
    "unlike": 0.0,
    "smooth": 0.0,
    "unlearnable": 0.0,
    "likeness": "pixels",
    "unlike_to": "source",
    "tau": 0.1,
    "learner_steps": 3,
    "learner_lr": 0.5,
    "releases": 1,
}
PUBLIC = digits_like(60, 2)


def sanitiser(**changes: object) -> IPSanitize:
    made = IPSanitize(**{**DEFAULTS, **changes})  # type: ignore[arg-type]
    made.enter(MechanismContext(PUBLIC, 10, TinyNet))
    return made


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def matcher(**options: object) -> FeatureMatch:
    proxies = trained_proxies(PUBLIC, 10, widths=[4], epochs=5, eps=0.0, ascent_steps=2, seed=0)
    return FeatureMatch(proxies, "logits", PUBLIC.x, **{"top": None, "quantum": 0.0, **options})  # type: ignore[arg-type]


class Deaf(FeatureMatch):
    """Features that let nothing through: the targets are those of a black image."""

    def targets(self, x):
        return super().targets(torch.zeros_like(x))


def through(private: Split, **changes: object) -> torch.Tensor:
    """Return the sanitised ``private`` when the features tell nothing of it."""
    deaf = Deaf(matcher().proxies, "logits", PUBLIC.x, top=None, quantum=0.0)
    begin = torch.rand(private.x.shape, generator=rng())
    return sanitiser(stop_error=0.0, **changes).sanitised(private, begin, deaf, PUBLIC, 10)


@pytest.mark.parametrize("changes", [{}, {"pull": 1.0, "smooth": 0.1}, {"unlike": 1.0, "unlike_to": "class_mean"}])
def test_pixels_cross_over_by_the_features_alone(changes: dict[str, object]) -> None:
    private = digits_like(20, 0)
    other = replace(private, x=1 - private.x)
    assert torch.equal(through(private, **changes), through(other, **changes))


def test_unlikeness_to_the_source_is_a_second_channel() -> None:
    private = digits_like(20, 0)
    other = replace(private, x=1 - private.x)
    assert not torch.equal(through(private, unlike=1.0, tau=-1.0), through(other, unlike=1.0, tau=-1.0))


def test_images_with_the_same_features_exist_far_from_the_original() -> None:
    """k = 10 constraints, d = 64 pixels: feature error below 0.05 from noise, without the original's look."""
    private, defense = digits_like(30, 0), sanitiser(descent_steps=150)
    release = defense.release(private, rng())
    match = matcher()
    error, agreed = match.error(release.x, match.targets(private.x))
    assert error.max() < 0.06 and agreed.all()
    assert defense.likeness_to(release.x, private.x).mean() < 0.6
    assert release.x.min() >= 0 and release.x.max() <= 1
    assert torch.equal(release.y, private.y) and release.source is not None


def test_known_proxies_are_the_same_for_everybody_and_secret_ones_are_not() -> None:
    def weights(kind: str, seed: int) -> torch.Tensor:
        defense = sanitiser(proxies=kind, descent_steps=0, proxy_epochs=1)
        defense.release(digits_like(5, 0), torch.Generator().manual_seed(seed))
        return next(iter(defense.models().values())).head.weight  # type: ignore[union-attr,return-value]

    assert torch.equal(weights("known", 0), weights("known", 1))
    assert not torch.equal(weights("secret", 0), weights("secret", 1))


def test_a_dead_proxy_is_trained_again_and_one_that_stays_dead_is_refused(monkeypatch) -> None:
    trained = []

    def kill(dead: int):
        def fit(network, x, y, **_):
            if len(trained) < dead:
                for parameter in network.parameters():
                    parameter.data.fill_(-1.0)  # no unit is ever on
            trained.append(network)
            return network.eval()

        return fit

    def proxies() -> list:
        trained.clear()
        return trained_proxies(PUBLIC, 10, widths=[4, 4], epochs=1, eps=0.0, ascent_steps=1, seed=0)

    monkeypatch.setattr("benchmark.training.proxies.train", kill(dead=2))
    assert proxies() == trained[2:4]
    assert all((proxy.features(PUBLIC.x).var(dim=0) > 0).any() for proxy in trained[2:4])
    monkeypatch.setattr("benchmark.training.proxies.train", kill(dead=100))
    with pytest.raises(Diverged, match="of width 4 gave all public samples the same features"):
        proxies()


def test_every_copy_starts_anew_and_names_its_source() -> None:
    release = sanitiser(releases=3, descent_steps=1).release(digits_like(7, 0), rng())
    assert torch.equal(release.source, torch.arange(7).repeat(3))
    assert not torch.equal(release.x[:7], release.x[7:14])


def test_a_public_start_at_rest_is_a_public_image() -> None:
    release = sanitiser(start="public", descent_steps=0).release(digits_like(7, 0), rng())
    assert all((PUBLIC.x == row).flatten(1).all(dim=1).any() for row in release.x)


@pytest.mark.parametrize(
    "changes",
    [
        {"unlearnable": 1.0},
        {"likeness": "ssim", "unlike": 1.0},
        {"likeness": "features", "unlike": 1.0},
        {"matched": "features", "eps": 0.1},
    ],
)
def test_every_variant_stays_in_range(changes: dict[str, object]) -> None:
    x = sanitiser(descent_steps=2, proxy_epochs=1, **changes).release(digits_like(12, 0), rng()).x
    assert x.isfinite().all() and x.min() >= 0 and x.max() <= 1


def test_levers_let_less_through() -> None:
    assert torch.equal(top_mask(torch.tensor([[3.0, 1.0, 2.0]]), 2), torch.tensor([[1.0, 0.0, 1.0]]))
    features, _, counted = matcher(top=2, quantum=0.5).targets(PUBLIC.x)
    assert torch.equal(features[0] * 2, (features[0] * 2).round())
    assert (counted[0].sum(dim=1) == 2).all()


def test_the_error_of_an_image_with_itself_is_nothing_and_of_the_mean_feature_one() -> None:
    match = matcher()
    assert match.error(PUBLIC.x, match.targets(PUBLIC.x))[0].abs().max() < 1e-9
    features, classes, counted = match.targets(PUBLIC.x)
    mean = [phi.mean(dim=0).expand_as(phi) for phi in features]
    error, _ = match.error(PUBLIC.x, (mean, classes, counted))
    assert error.mean().item() == pytest.approx((len(PUBLIC) - 1) / len(PUBLIC), rel=1e-4)


def test_a_learner_without_steps_is_at_chance_and_learns_from_real_images() -> None:
    assert learner_loss(PUBLIC.x, PUBLIC.y, PUBLIC, 10, steps=0, lr=0.5).item() == pytest.approx(math.log(10), rel=1e-5)
    assert learner_loss(PUBLIC.x, PUBLIC.y, PUBLIC, 10, steps=10, lr=0.5) < math.log(10) - 0.1


def test_hindering_the_learner_raises_its_loss() -> None:
    private = digits_like(40, 0)
    changes = {"descent_steps": 40, "learner_steps": 10, "stop_error": 0.0}
    plain, hindered = (sanitiser(unlearnable=b4, **changes).release(private, rng()).x for b4 in (0.0, 5.0))
    lost = [learner_loss(x, private.y, PUBLIC, 10, steps=10, lr=0.5).item() for x in (plain, hindered)]
    assert lost[1] > lost[0]


def test_likeness_is_blind_to_brightness_and_contrast() -> None:
    defense, x = sanitiser(), PUBLIC.x[:4]
    torch.testing.assert_close(defense.likeness_to(0.3 * x + 0.2, x), torch.ones(4))
    torch.testing.assert_close(defense.likeness_to(1 - x, x), -torch.ones(4))


def test_class_means() -> None:
    split = Split(torch.tensor([0.0, 1.0, 0.5]).view(3, 1, 1, 1), torch.tensor([0, 0, 1]))
    torch.testing.assert_close(class_means(split, 3).flatten(), torch.tensor([0.5, 0.5, 0.5]))


def test_without_public_samples_or_with_unknown_words_it_says_so() -> None:
    with pytest.raises(Refused, match="public"):
        IPSanitize(**DEFAULTS).release(digits_like(5, 0), rng())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="start"):
        sanitiser(start="raw")


# -- baselines ---------------------------------------------------------------------------------------------------------
def test_coarse_releases_keep_flat_images_and_pixelation_keeps_means() -> None:
    flat = Split(torch.full((2, 1, 8, 8), 0.3), torch.tensor([0, 1]))
    for defense in (Blur(side=5), Pixelate(cells=4), PairMix(share=0.6)):
        torch.testing.assert_close(defense.release(flat, rng()).x, flat.x)
    x = Pixelate(cells=4).release(PUBLIC, rng()).x
    torch.testing.assert_close(x.mean(dim=(1, 2, 3)), PUBLIC.x.mean(dim=(1, 2, 3)))
    torch.testing.assert_close(x[..., ::2, ::2], x[..., 1::2, 1::2])
    assert torch.equal(PairMix(share=1.0).release(PUBLIC, rng()).x, PUBLIC.x)


def test_noise_has_its_deviation_and_may_be_cut_to_the_range_of_images() -> None:
    grey = Split(torch.full((10, 1, 28, 28), 0.5), torch.zeros(10, dtype=torch.long))
    free = PixelNoise(std=1.0).release(grey, rng()).x
    assert abs(float(free.std()) - 1) < 0.05
    assert torch.equal(PixelNoise(std=1.0, clip=True).release(grey, rng()).x, free.clamp(0, 1))


# -- threats -----------------------------------------------------------------------------------------------------------
def play(threat, defense: Defense | None = None):
    sizes = {"epochs": 1, "examiner_epochs": 1, "victims": 20, "candidates": 30, "measures": {}}
    return ReleaseSetting(**sizes).play(context(threat, defense))


def test_a_look_at_an_undefended_release_finds_every_source() -> None:
    assert play(Look()).risk["retrieval_top1"] == 1
    assert play(Look(), sanitiser(descent_steps=0)).risk["retrieval_top1"] < 0.5


def test_linkage_by_features_finds_every_source_without_a_defense() -> None:
    assert play(NearestFeatures(epochs=2, adaptive=False)).risk["reidentified_at_1"] == 1
    adaptive = partial(NearestFeatures, epochs=2, adaptive=True)
    assert play(adaptive(), sanitiser(descent_steps=30)).risk["reidentified_at_1"] > 0.5
    with pytest.raises(Refused):
        play(adaptive())


def test_feature_inversion_meets_the_features() -> None:
    inversion = partial(FeatureInversion, lr=0.05, smooth=0.0, epochs=3)
    untouched = play(inversion(descent_steps=0 + 1, adaptive=False)).diagnostics["feature_error"]
    met = play(inversion(descent_steps=60, adaptive=False)).diagnostics["feature_error"]
    assert met < 0.3 * untouched
    assert "explained_variance" in play(inversion(descent_steps=2, adaptive=True), sanitiser()).risk
