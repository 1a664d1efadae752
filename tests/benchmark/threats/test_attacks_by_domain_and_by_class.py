"""Attacks on a release by its domain (domain GAN) and by its classes (inversion of a model trained on it)."""

import pytest
import torch
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.errors import ConfigError, Refused
from benchmark.seeds import generator
from benchmark.settings.release.games.release import ReleaseSurface
from benchmark.threats.reconstruction.domain_gan import DomainGAN
from benchmark.threats.reconstruction.released_model_inversion import ReleasedModelInversion
from tests.benchmark.helpers import partial_surface


def halves(count: int, seed: int) -> Split:
    """Return images (count, 1, 4, 4) whose left (class 0) or right half is bright, each with its own brightness."""
    rng = generator(seed, "halves")
    y = torch.randint(2, (count,), generator=rng)
    bright = 0.5 + 0.5 * torch.rand((count, 1, 1, 1), generator=rng)
    x = torch.zeros(count, 1, 4, 4)
    x[y == 0, :, :, :2] = 1
    x[y == 1, :, :, 2:] = 1
    return Split(x * bright, y)


def surface(encoded: Tensor, private: Split) -> ReleaseSurface:
    return partial_surface(
        ReleaseSurface,
        x=encoded,
        y=private.y,
        targets=encoded[:50],
        shape=(1, 4, 4),
        num_classes=2,
        attacker=halves(200, 1),
        architecture=lambda *, shape, num_classes: nn.Sequential(nn.Flatten(), nn.Linear(16, num_classes)),
    )


def domain_gan(generator: str = "linear", steps: int = 1, **changed) -> DomainGAN:
    options = {"width": 16, "batch_size": 32, "lr": 5e-3, "cycle": 1.0, "guided": 1.0, "epochs": 5} | changed
    return DomainGAN(generator=generator, steps=steps, **options)


def inversion(**changed) -> ReleasedModelInversion:
    return ReleasedModelInversion(
        **{"epochs": 5, "restarts": 2, "iterations": 100, "lr": 0.05, "smoothness": 0.0} | changed
    )


def test_a_domain_gan_inverts_an_affine_map_without_pairs():
    private = halves(300, 0)
    disguised = surface(3 - 2 * private.x.flip(-1), private)
    truth = private.x[:50]

    def error(guess: Tensor) -> float:
        return (guess - truth).square().mean().item()

    untrained, trained = (error(domain_gan("decoder", steps)(disguised, seed=0).x[:, 0]) for steps in (1, 60))
    mean = error(disguised.attacker.x.mean(dim=0))
    assert trained < 0.2 * min(untrained, mean)


def test_the_linear_decoder_starts_as_the_identity():
    private = halves(60, 0)
    guess = domain_gan(lr=1e-6)(surface(private.x, private), seed=0).x[:, 0]
    assert torch.allclose(guess, private.x[:50], atol=1e-3)


@pytest.mark.parametrize("threat", [domain_gan(), inversion(iterations=3)])
def test_equal_seeds_give_equal_results(threat):
    private = halves(60, 0)
    first, again, other = (threat(surface(private.x, private), seed=seed).x for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_inversion_of_two_linear_classes_follows_the_sign_of_the_weights_difference():
    x = halves(50, 0).x
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    images, _ = inversion().invert(model, 2, x, generator(0, "test"))
    weight = model[1].weight.detach()
    towards = weight - weight.mean(dim=0)
    corner = torch.where(towards > 0, x.max(), x.min())
    assert torch.allclose(images.flatten(1), corner, atol=1e-4)


def test_an_inverted_class_is_more_confident_than_any_sample_of_it():
    x, model = torch.rand((100, 1, 4, 4), generator=generator(0, "x")), nn.Sequential(nn.Flatten(), nn.Linear(16, 5))
    _, confidence = inversion().invert(model, 5, x, generator(0, "test"))
    assert (confidence > model(x).softmax(dim=1).max(dim=0).values).all()


def test_inversion_gives_one_recognisable_image_per_class_of_a_plain_release():
    private = halves(300, 0)
    guess = inversion(epochs=20, smoothness=0.1)(surface(private.x, private), seed=0).x[:, 0]
    left, right = guess[..., :2].mean(dim=(1, 2, 3)), guess[..., 2:].mean(dim=(1, 2, 3))
    assert torch.equal((right > left).long(), private.y[:50])
    assert len(guess.unique(dim=0)) == 2


def test_a_release_of_another_shape_has_no_class_images():
    private = halves(60, 0)
    with pytest.raises(Refused, match="no image of the data's kind"):
        inversion()(surface(private.x.repeat(1, 1, 2, 2), private), seed=0)


@pytest.mark.parametrize(
    ("threat", "option", "value"),
    [
        (domain_gan, "generator", "unet"),
        (domain_gan, "steps", 0),
        (domain_gan, "batch_size", 1),
        (domain_gan, "cycle", -1.0),
        (domain_gan, "guided", -1.0),
        (inversion, "restarts", 0),
        (inversion, "smoothness", -1.0),
    ],
)
def test_impossible_options_are_refused(threat, option, value):
    with pytest.raises(ConfigError, match=rf"threat\.{option}"):
        threat(**{option: value})
