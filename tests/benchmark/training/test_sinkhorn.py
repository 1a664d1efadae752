"""Entropic transport against closed forms, independent libraries and its own definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from benchmark.training.sinkhorn import MixedCost, Sinkhorn, divergence, schedule, semi_debiased


def clouds(n: int = 12, m: int = 9, d: int = 5) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return (torch.randn((count, d), generator=rng, dtype=torch.float64) for count in (n, m))  # type: ignore[return-value]


def exact(l1: float = 1.0, l2: float = 1.0, blur: float = 0.5) -> Sinkhorn:
    return Sinkhorn(MixedCost(l2=l2, l1=l1), blur, settle=500)


def test_the_cost_is_its_definition() -> None:
    x, y = clouds()
    apart = x.unsqueeze(1) - y.unsqueeze(0)
    expected = 0.5 * apart.square().sum(dim=2) + 3 * apart.abs().sum(dim=2)
    assert torch.allclose(MixedCost(l2=0.5, l1=3.0)(x, y), expected)


def test_two_points_in_one_dimension() -> None:
    """x = {0, 1}, y = {0, 1}, cost |u - v|^2: by symmetry P = [[a, b], [b, a]] / 2 with a/b = exp(1/blur)."""
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    blur = 0.4
    stay = torch.tensor(1 / blur, dtype=torch.float64).sigmoid()
    move = 1 - stay
    expected = move + blur * (stay * (2 * stay).log() + move * (2 * move).log())
    assert exact(l1=0.0, blur=blur)(x, x).item() == pytest.approx(expected.item(), abs=1e-6)


def test_with_little_entropy_it_sorts_points_on_a_line() -> None:
    x = torch.tensor([[0.0], [3.0], [5.0]], dtype=torch.float64)
    y = torch.tensor([[6.0], [1.0], [3.5]], dtype=torch.float64)
    cost = Sinkhorn(MixedCost(l2=1.0, l1=0.0), 0.01, scaling=0.95)(x, y).item()
    assert cost == pytest.approx((1 + 0.25 + 1) / 3, abs=0.02)


def test_the_divergence_is_zero_for_equal_clouds_and_positive_else() -> None:
    x, y = clouds()
    assert divergence(exact(), x, x).item() == pytest.approx(0, abs=1e-9)
    assert divergence(exact(), x, y).item() > 0.1


def test_the_gradient_is_that_of_finite_differences() -> None:
    x, y = clouds(4, 3, 2)
    transport = exact(l1=0.0)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(transport(x, y), x)
    step, other = torch.zeros_like(x), x.detach()
    step[1, 0] = 1e-4
    difference = (transport(other + step, y) - transport(other - step, y)) / 2e-4
    assert slope[1, 0].item() == pytest.approx(difference.item(), rel=1e-3)


def test_a_cloud_and_its_copy_give_what_the_cloud_and_itself_give() -> None:
    x, _ = clouds()
    transport = Sinkhorn(MixedCost(l2=1.0, l1=1.0), 0.3)
    held, first, second = (x.clone().requires_grad_() for _ in range(3))
    itself, copied = transport(held, held), transport(first, second)
    torch.testing.assert_close(itself, copied)
    (whole,) = torch.autograd.grad(itself, held)
    torch.testing.assert_close(whole, sum(torch.autograd.grad(copied, (first, second))))


@pytest.mark.parametrize("symmetric", [False, True])
def test_potentials_by_densities_are_those_by_log_sums(symmetric: bool) -> None:
    x, y = clouds(20, 20 if symmetric else 14)
    transport = Sinkhorn(MixedCost(l2=1.0, l1=0.5), 0.05, scaling=0.5)
    cost, start = transport.cost(x, x if symmetric else y), 6.0

    def softmin(reach: Tensor, weight: float) -> Tensor:
        return -weight * ((-reach / weight).logsumexp(dim=1) - math.log(reach.shape[1]))

    f, g = softmin(cost, start), softmin(cost.T, start)
    for weight in schedule(start, 0.05, 0.5):
        f, g = (f + softmin(cost - g, weight)) / 2, (g + softmin(cost.T - f, weight)) / 2
    expected = softmin(cost - g, 0.05), softmin(cost.T - f, 0.05)
    torch.testing.assert_close(transport.potentials(cost, start, symmetric=symmetric), expected)


def test_potentials_whose_densities_would_overflow() -> None:
    """The weight falls at once, so that exponents of the second step are thousands."""
    x, y = (30 * cloud.float() for cloud in clouds())
    transport = Sinkhorn(MixedCost(l2=1.0, l1=0.0), 0.05, scaling=0.001)
    f, g = transport.potentials(transport.cost(x, y), 1000.0)
    wide = Sinkhorn(MixedCost(l2=1.0, l1=0.0), 0.05, scaling=0.001)
    expected = wide.potentials(wide.cost(x.double(), y.double()), 1000.0)
    torch.testing.assert_close((f.double(), g.double()), expected, rtol=1e-4, atol=1e-2)


def test_semi_debiasing_goes_from_biased_to_debiased() -> None:
    x, y = clouds(10, 6)
    transport = exact()
    biased = semi_debiased(transport, x, y, extra=0)
    assert biased.item() == pytest.approx((2 * transport(x, y) - transport(x, x)).item())
    debiased = semi_debiased(transport, x, y, extra=5)
    assert debiased.item() == pytest.approx((2 * transport(x[:5], y) - transport(x[:5], x[5:])).item())


def test_the_schedule_falls_to_the_blur() -> None:
    assert schedule(8.0, 1.0, 0.5) == [8.0, 8.0, 4.0, 2.0, 1.0]
    assert schedule(0.5, 1.0, 0.5) == [1.0]


@pytest.mark.crosscheck
@pytest.mark.parametrize("blur", [0.05, 0.5, 2.0])
def test_agrees_with_geomloss(blur: float) -> None:
    geomloss = pytest.importorskip("geomloss", reason="pip install -e .[crosscheck]")
    x, y = clouds(40, 30, 8)
    cost = MixedCost(l2=1.0, l1=1.0)

    def batched(u: Tensor, v: Tensor) -> Tensor:
        return torch.stack([cost(a, b) for a, b in zip(u, v, strict=True)])

    options = {"p": 1, "blur": blur, "debias": False, "backend": "tensorized", "cost": batched, "scaling": 0.5}
    theirs = geomloss.SamplesLoss("sinkhorn", **options)(x.unsqueeze(0), y.unsqueeze(0)).item()
    assert Sinkhorn(cost, blur, scaling=0.5)(x, y).item() == pytest.approx(theirs, rel=1e-4)


@pytest.mark.crosscheck
def test_agrees_with_pot_when_converged() -> None:
    ot = pytest.importorskip("ot", reason="pip install -e .[crosscheck]")
    x, y = clouds(20, 15)
    transport = exact(blur=0.5)
    weights = torch.full((20,), 1 / 20, dtype=torch.float64), torch.full((15,), 1 / 15, dtype=torch.float64)
    cost = transport.cost(x, y)
    plan = ot.sinkhorn(*weights, cost, 0.5, method="sinkhorn_log", numItermax=20_000, stopThr=1e-12)
    expected = (plan * cost).sum() + 0.5 * (plan * (plan * 20 * 15).log()).sum()
    assert transport(x, y).item() == pytest.approx(expected.item(), rel=1e-4)
