"""V-information, sensitivity and subspace distance against closed forms."""

import math

import pytest
import torch
from torch import nn

from benchmark.errors import ConfigError
from benchmark.metrics.gradient_geometry import (
    beyond_random_split,
    jacobian_norms,
    pair_contrast,
    sensitivity,
    subspace_distance,
)
from benchmark.metrics.v_information import interval, latent_gains, original_bits
from benchmark.threats.gradient_leakage.v_families import classify, decode, of_the_alike, principal
from benchmark.training.functional import Net
from benchmark.training.layers import layer_slices


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


PRIOR = torch.full((2,), 0.5).log()


def bits(families, known, secret, seen, truth) -> float:
    """Return I_V of the family that is chosen, clipped at 0."""
    found, best = classify(families, known, secret, seen, 10, rng())
    return max(0.0, latent_gains(found[best], truth, PRIOR).mean().item())


def test_certainty_is_one_bit_and_a_constant_is_none():
    secret = torch.tensor([0, 1, 1, 0])
    sure = nn.functional.one_hot(secret, 2).float().clamp(1e-9, 1).log()
    torch.testing.assert_close(latent_gains(sure, secret, PRIOR), torch.ones(4, dtype=torch.float64))
    assert latent_gains(PRIOR.expand(4, 2), secret, PRIOR).abs().max() == 0


def test_an_independent_secret_has_no_information_and_a_sign_has_one_bit():
    g = torch.randn(1200, 20, generator=rng())
    coin = torch.randint(2, (1200,), generator=torch.Generator().manual_seed(1))
    assert bits(["linear"], g[:800], coin[:800], g[800:], coin[800:]) <= 0.02
    assert bits(["linear", "forest", "mlp"], g[:800], coin[:800], g[800:], coin[800:]) <= 0.02
    # A wide margin, as a sign that is a close call cannot be told with one bit's certainty.
    g[:, 0] = g[:, 0].sign() * (1 + g[:, 0].abs())
    sign = (g[:, 0] > 0).long()
    few = bits(["linear"], g[:800], sign[:800], g[800:], sign[800:])
    assert few > 0.9
    assert bits(["linear", "forest"], g[:800], sign[:800], g[800:], sign[800:]) >= few - 0.02


def test_a_secret_of_three_values_has_log2_3_bits():
    secret = torch.arange(900) % 3
    g = nn.functional.one_hot(secret, 3) * 3.0 + 0.1 * torch.randn(900, 3, generator=rng())
    found, best = classify(["linear", "forest"], g[:600], secret[:600], g[600:], 10, rng())
    gains = latent_gains(found[best], secret[600:], torch.full((3,), 1 / 3).log())
    assert gains.mean().item() == pytest.approx(math.log2(3), abs=0.05)


def test_uploads_that_are_judged_have_no_say_in_the_choice_of_a_family():
    g = torch.randn(400, 8, generator=rng())
    exclusive = ((g[:, 0] > 0) ^ (g[:, 1] > 0)).long()  # no line tells it, a tree does
    for seen in (g, -g, torch.zeros_like(g)):
        assert classify(["linear", "forest"], g, exclusive, seen, 30, rng())[1] == "forest"


def test_the_alike_are_those_of_least_angle():
    known = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat_interleave(5, dim=0)
    answers = torch.tensor([[1.0], [7.0]]).repeat_interleave(5, dim=0)
    torch.testing.assert_close(
        of_the_alike(known, answers, torch.tensor([[9.0, 1.0], [0.1, 0.2]])), torch.tensor([[1.0], [7.0]])
    )


def test_an_unknown_family_is_refused():
    g, secret = torch.randn(8, 3), torch.arange(8) % 2
    with pytest.raises(ConfigError, match="linear, forest, mlp, not magic"):
        classify(["magic"], g, secret, g, 3, rng())
    with pytest.raises(ConfigError, match="ridge, mlp, not nothing"):
        decode([], g, g, g, rng())


def test_a_linear_function_of_the_image_is_decoded_and_noise_is_not():
    images = torch.rand(500, 6, generator=rng())
    gradients = images @ torch.randn(6, 40, generator=rng())
    guess = decode(["ridge"], gradients[:400], images[:400], gradients[400:], rng())[0]["ridge"]
    constant = images[:400].mean(0).expand(100, 6)
    assert original_bits(guess, images[400:], constant) > 2
    noise = torch.randn(500, 40, generator=rng())
    blind = decode(["ridge"], noise[:400], images[:400], noise[400:], rng())[0]["ridge"]
    assert abs(original_bits(blind, images[400:], constant)) < 0.02


def test_original_bits_are_the_logarithm_of_the_error_ratio():
    truth = torch.zeros(3, 4)
    assert original_bits(truth + 0.1, truth, truth + 0.4) == pytest.approx(2.0)
    assert original_bits(truth + 0.4, truth, truth + 0.4) == pytest.approx(0.0)


def test_principal_components_keep_distances_of_what_they_were_fitted_on():
    known = torch.randn(40, 200, generator=rng())
    x, _ = principal(known, known[:3], 100)
    held = torch.arange(40) % 4 == 0
    base = known[~held]
    scaled = (base - base.mean(0)) / base.std(0)
    ratio = torch.cdist(x[~held], x[~held]) / torch.cdist(scaled, scaled).clamp_min(1e-6)
    off = ratio[~torch.eye(30, dtype=torch.bool)]
    assert off.std() < 1e-3 * off.mean()


def test_the_bootstrap_interval_holds_the_mean():
    gains = torch.randn(300, generator=rng(), dtype=torch.float64)
    low, high = interval(gains, rng())
    assert low < gains.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(300), rel=0.25)


@pytest.mark.ci
def test_random_products_estimate_the_exact_jacobian():
    torch.manual_seed(0)
    net = Net(nn.Sequential(nn.Flatten(), nn.Linear(36, 10), nn.Tanh(), nn.Linear(10, 4)))
    params, x = net.initial(), torch.rand(2, 1, 6, 6)
    y = nn.functional.one_hot(torch.tensor([1, 2]), 4).float()

    def gradient_of(image, label):
        return net.gradient(params, image.unsqueeze(0), label.unsqueeze(0))

    parts = layer_slices(net.layout)
    found = sensitivity(gradient_of, x, y, parts, 600, rng())
    for layer, part in parts.items():
        exact = torch.autograd.functional.jacobian(lambda image, part=part: gradient_of(image, y[0])[part], x[0])
        assert found[layer][0] ** 2 == pytest.approx(exact.square().sum().item(), rel=0.1)
        norms = jacobian_norms(gradient_of, x[0], y[0], parts)[layer]
        assert norms["frobenius"] == pytest.approx(exact.norm().item(), rel=1e-4)
        assert norms["one"] == pytest.approx(exact.flatten(1).abs().sum(0).max().item(), rel=1e-4)
        assert norms["infinity"] == pytest.approx(exact.flatten(1).abs().sum(1).max().item(), rel=1e-4)


def test_subspace_distance_is_zero_for_equal_and_full_for_orthogonal_sets():
    a = torch.randn(12, 30, generator=rng())
    a[:, 15:] = 0
    b = torch.randn(12, 30, generator=rng())
    b[:, :15] = 0
    assert subspace_distance(a, a, 5)[0] < 1e-6
    sine, angle = subspace_distance(a, b, 5)
    assert sine == pytest.approx(math.sqrt(5)) and angle == pytest.approx(math.pi / 2 * math.sqrt(5))
    mixed = torch.randn(12, 30, generator=rng())
    assert subspace_distance(a, mixed, 5)[0] == pytest.approx(subspace_distance(mixed, a, 5)[0])
    assert subspace_distance(7 * a, mixed, 5)[0] == pytest.approx(subspace_distance(a, mixed, 5)[0])
    assert subspace_distance(torch.zeros(3, 30), a, 5) == (0.0, 0.0)


def test_without_an_effect_of_the_attribute_nothing_is_beyond_the_null():
    a, b = torch.randn(2, 60, 30, generator=rng())
    assert abs(beyond_random_split(a, b, 5, 5, rng())) < 0.3
    assert abs(pair_contrast(a, b)) < 0.1
    shift = torch.zeros(30)
    shift[:3] = 20
    assert pair_contrast(a, b + shift) > 1
