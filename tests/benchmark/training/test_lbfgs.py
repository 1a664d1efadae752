import itertools

import torch

from benchmark.training.lbfgs import minimize


def quadratics(matrices, targets):
    def objective(x, rows):
        residual = torch.einsum("nij,nj->ni", matrices[rows], x - targets[rows])
        return (residual * (x - targets[rows])).sum(1) / 2, residual

    return objective


def rosenbrock(x, rows=None):
    x = x.detach().requires_grad_()
    value = 100 * (x[:, 1] - x[:, 0] ** 2) ** 2 + (1 - x[:, 0]) ** 2
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


def test_every_row_reaches_its_own_minimum():
    torch.manual_seed(0)
    root = torch.randn(5, 8, 8, dtype=torch.float64)
    matrices = root @ root.transpose(1, 2) + 0.1 * torch.eye(8, dtype=torch.float64)
    targets = torch.randn(5, 8, dtype=torch.float64)
    found, value = minimize(quadratics(matrices, targets), torch.zeros(5, 8, dtype=torch.float64), iterations=100)
    torch.testing.assert_close(found, targets, atol=1e-5, rtol=0)
    assert value.max() < 1e-9


def test_rosenbrock_from_the_classical_start():
    start = torch.tensor([[-1.2, 1.0], [2.0, -2.0]], dtype=torch.float64)
    found, _ = minimize(rosenbrock, start, iterations=100)
    torch.testing.assert_close(found, torch.ones(2, 2, dtype=torch.float64), atol=1e-6, rtol=0)


def test_a_row_does_not_feel_its_neighbours():
    start = torch.tensor([[-1.2, 1.0], [30.0, -2.0]], dtype=torch.float64)
    together, _ = minimize(rosenbrock, start, iterations=12)
    alone, _ = minimize(rosenbrock, start[:1], iterations=12)
    torch.testing.assert_close(together[:1], alone, atol=1e-12, rtol=0)


def test_a_row_that_is_not_finite_stays_and_spoils_nothing():
    def objective(x, rows):
        value, gradient = x.square().sum(1), 2 * x
        return torch.where(rows == 1, float("nan"), value), gradient

    found, _ = minimize(objective, torch.ones(2, 3), iterations=20)
    assert found[0].abs().max() < 1e-4
    assert torch.equal(found[1], torch.ones(3))


def test_the_value_given_belongs_to_the_point_given_and_never_rises():
    start = torch.tensor([[-1.2, 1.0]], dtype=torch.float64)
    values = []
    for iterations in range(1, 20):
        found, value = minimize(rosenbrock, start, iterations=iterations)
        torch.testing.assert_close(rosenbrock(found)[0], value)
        values.append(value.item())
    assert all(later <= earlier for earlier, later in itertools.pairwise(values))


def test_finished_rows_are_not_evaluated_any_more():
    asked = []

    def objective(x, rows):
        asked.append(rows.tolist())
        return rosenbrock(x)

    minimize(objective, torch.tensor([[1.0, 1.0], [-1.2, 1.0]], dtype=torch.float64), iterations=20)
    assert asked[0] == [0, 1]
    assert asked[-1] == [1]


def test_a_search_that_fails_at_a_jump_is_not_the_end():
    # One jump, at |x| = 1: the value rises from 1 to 1.75 on the way inwards, yet 0.75 + |x|^2 falls to 0.75 at 0.
    def cliff(x, rows):
        distance = x.norm(dim=1)
        return torch.where(distance < 1, 0.75, 0.0) + distance.square(), 2 * x

    start = torch.tensor([[0.25], [5.0]], dtype=torch.float64).expand(2, 16).clone()
    found, value = minimize(cliff, start, iterations=100)
    torch.testing.assert_close(value, torch.full((2,), 0.75, dtype=torch.float64))
    torch.testing.assert_close(found, torch.zeros(2, 16, dtype=torch.float64), atol=1e-6, rtol=0)


def test_a_converged_row_is_retired_and_not_sent_on_full_steps():
    evaluations = []

    def flat_bottom(x, rows):
        evaluations.append(len(rows))
        return 1 + x.square().sum(dim=1), 2 * x

    found, value = minimize(flat_bottom, torch.ones(3, 4), iterations=500)
    assert len(evaluations) < 12
    torch.testing.assert_close(value, torch.ones(3))
    assert found.abs().max() < 1e-3


def test_full_steps_without_progress_end():
    evaluations = []

    def misleading(x, rows):  # the gradient says down where the value goes up
        evaluations.append(len(rows))
        return 1 + x.square().sum(dim=1), -2 * x

    _, value = minimize(misleading, torch.ones(1, 2), iterations=10_000, line_search=5, patience=30)
    assert len(evaluations) < 60
    assert value.item() == 3.0
