"""The Gaussian mechanism on blocks: its noise by audit, its accountant by known tuples and another library."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import norm

from benchmark.training.sanitise import clip_block, most_steps, poisson_epsilon, sanitise

ORDERS = [1.25, 1.5, 1.75, 2, 2.25, 2.5, 3, 3.5, 4, 4.5, *range(5, 64), 128, 256, 512]


def test_the_whole_block_is_clipped() -> None:
    block = torch.full((4, 3), 2.0)
    assert clip_block(block, 1.0).norm().item() == pytest.approx(1.0)
    assert torch.equal(clip_block(block / 100, 1.0), block / 100)
    assert clip_block(torch.zeros(3), 1.0).abs().max() == 0


def test_an_audit_with_opposite_blocks_finds_just_the_noise_that_is_due() -> None:
    """A correct step is 1/sigma-GDP: TPR at FPR 1 % is 1 - Phi(2.326 - 1/sigma) = .078; with half the noise .306."""
    rng, sigma, draws = torch.Generator().manual_seed(0), 1.1, 20_000
    direction = torch.randn((4, 8), generator=rng)
    direction /= direction.norm()
    # Independent noise for all draws at once: only the projection on the direction counts.
    noise = sanitise(torch.zeros(2, draws, 32), 0.5, sigma, rng) @ direction.flatten()
    shift = (clip_block(1000 * direction, 0.5) * direction).sum()
    with_record, without = noise[0] + shift, noise[1] - shift
    threshold = without.quantile(0.99)
    tpr = (with_record > threshold).double().mean().item()
    expected = 1 - norm.cdf(norm.ppf(0.99) - 1 / sigma)
    assert tpr == pytest.approx(expected, abs=0.015)


def test_epsilon_of_no_noise_and_of_no_steps() -> None:
    assert poisson_epsilon(noise_multiplier=0.0, rate=0.1, steps=5, delta=1e-5) == float("inf")
    assert poisson_epsilon(noise_multiplier=1.0, rate=0.1, steps=0, delta=1e-5) == 0.0


def test_an_order_that_does_not_converge_is_left_out_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    assert 10 < poisson_epsilon(noise_multiplier=1.1, rate=0.202532, steps=100, delta=1e-3) < 11
    assert "converge" not in capfd.readouterr().err


def test_most_steps_stop_short_of_the_budget() -> None:
    run = {"noise_multiplier": 1.1, "rate": 0.02, "delta": 1e-4}

    def spent(steps: int) -> float:
        return poisson_epsilon(**run, steps=steps)

    steps = most_steps(spent, epsilon=2.0, limit=100_000)
    assert spent(steps) <= 2.0 < spent(steps + 1)
    assert most_steps(spent, epsilon=2.0, limit=10) == 10


@pytest.mark.crosscheck
@pytest.mark.parametrize(
    ("rate", "sigma", "delta", "steps"),
    [
        (50 / 60000, 1.1, 1e-5, 3_446_203),
        (50 / 60000, 0.9, 1e-5, 1_811_611),
        (200 / 162770, 0.8, 1e-6, 463_773),
        (200 / 162770, 0.8, 1e-5, 533_007),
    ],
)
def test_the_papers_steps_spend_ten(rate: float, sigma: float, delta: float, steps: int) -> None:
    """By the classic conversion, with an independent library's Renyi accounting; ours is tighter, never looser."""
    rdp = pytest.importorskip("opacus.accountants.analysis.rdp", reason="pip install -e .[crosscheck]")
    spent = torch.as_tensor(rdp.compute_rdp(q=rate, noise_multiplier=sigma, steps=steps, orders=ORDERS))
    orders = torch.tensor(ORDERS, dtype=torch.float64)
    classic = (spent - torch.tensor(delta).log() / (orders - 1)).min().item()
    assert classic == pytest.approx(10.0, rel=1e-3)
    assert 8.5 < poisson_epsilon(noise_multiplier=sigma, rate=rate, steps=steps, delta=delta) <= classic


@pytest.mark.crosscheck
def test_agrees_with_opacus() -> None:
    accountants = pytest.importorskip("opacus.accountants", reason="pip install -e .[crosscheck]")
    accountant = accountants.RDPAccountant()
    accountant.history = [(1.1, 0.02, 1000)]
    theirs = accountant.get_epsilon(delta=1e-5)
    assert poisson_epsilon(noise_multiplier=1.1, rate=0.02, steps=1000, delta=1e-5) == pytest.approx(theirs, rel=0.02)
