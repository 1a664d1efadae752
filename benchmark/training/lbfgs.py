"""L-BFGS on many independent problems at once: one problem per row, one function call for all.

``torch.optim.LBFGS`` treats its input as one problem, so a batch of inversions would share one step length and
one curvature history. Here each row has its own; a row's path does not depend on the other rows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Function of points (k, d) and their problems' indices, int64 (k,), that returns values (k,) and gradients (k, d)."""

SUFFICIENT_DECREASE, CURVATURE = 1e-4, 0.9
STALLED = 1e-7  # decrease relative to the value, reached or expected, that is lost in single precision
ESCAPED = 100.0  # a full step that raises the value to this many times the smallest one is taken back
PROGRESS = 0.99  # the smallest value has to fall below this share of itself to count as progress


def minimize(
    objective: Objective,
    start: Float[Tensor, "n d"],
    *,
    iterations: int,
    history: int = 50,
    line_search: int = 12,
    tolerance: float = 0.0,
    patience: int = 100,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """Minimise every row of ``start`` (n, d).

    Steps satisfy the weak Wolfe conditions, found by bisection and doubling (Lewis & Overton, *Nonsmooth optimization
    via quasi-Newton methods*, 2013, Algorithm 2.6). Where the objective has jumps, as the distance of the gradients of
    a network with ReLUs, a search can fail far from any minimum. A row whose search fails or stalls although its model
    expects a decrease therefore forgets its history, starts again from where it is, and takes steps of full length from
    then on, whatever they do to the value: they pass over jumps. It goes back to its best point, without a history,
    when such a step leads nowhere (``ESCAPED``).

    A row stops when not even its model expects a decrease, when ``patience`` full steps brought no progress, or when
    its value is not finite at the start or at most ``tolerance``. Only rows that still search are evaluated.

    Returns:
        (n, d) the best points and (n,) the values measured there.
    """
    x = start.clone()
    value, gradient = objective(x, torch.arange(len(x), device=x.device))
    best, best_value, best_gradient = x, value, gradient
    active = torch.isfinite(value) & torch.isfinite(gradient).all(dim=1) & (value > tolerance)
    full, fresh = torch.zeros_like(active), torch.ones_like(active)  # takes full steps; has no history
    lost = torch.zeros_like(active)  # forgets its history
    waited, marked = torch.zeros_like(value), value  # full steps since the value `marked` was reached
    steps: list[Tensor] = []
    changes: list[Tensor] = []
    for _ in range(iterations):
        careful, bold, anew = torch.stack([active & ~full, active & full, lost]).cpu()  # the one wait for a GPU
        if not (careful | bold).any():
            break
        rows, stepping = (part.nonzero().squeeze(1).to(x.device, non_blocking=True) for part in (careful, bold))
        if anew.any():
            steps, changes = ([torch.where(lost[:, None], 0.0, part) for part in parts] for parts in (steps, changes))
        direction = -_precondition(gradient, steps, changes)
        slope = (direction * gradient).sum(dim=1)
        uphill = slope >= 0
        direction = torch.where(uphill[:, None], -gradient, direction)
        slope = torch.where(uphill, -gradient.square().sum(dim=1), slope)
        short = (1 / gradient.abs().sum(dim=1).clamp_min(1e-12)).clamp_max(1.0)
        length = torch.where(fresh | uphill & full, short, 1.0)

        x_new, value_new, gradient_new, moved = _wolfe(objective, x, value, direction, slope, length, rows, line_search)
        idle = active & ~full & ~(moved & (value - value_new > STALLED * value.abs()))
        converged = idle & (-slope <= STALLED * value.abs())
        lost = idle & ~converged
        if len(stepping):
            trial = x + length[:, None] * direction
            value_new[stepping], gradient_new[stepping] = objective(trial[stepping], stepping)
            fine = torch.isfinite(value_new) & torch.isfinite(gradient_new).all(dim=1)
            kept = active & full & fine & (value_new <= ESCAPED * best_value)
            x_new, moved = torch.where(kept[:, None], trial, x_new), moved | kept
            lost = lost | (active & full & ~kept)

        steps.append(torch.where(moved[:, None], x_new - x, 0.0))
        changes.append(torch.where(moved[:, None], gradient_new - gradient, 0.0))
        del steps[:-history], changes[:-history]
        x = torch.where(moved[:, None], x_new, x)
        gradient = torch.where(moved[:, None], gradient_new, gradient)
        value = torch.where(moved, value_new, value)
        fresh = (fresh & ~moved) | lost
        back = lost & full
        x = torch.where(back[:, None], best, x)
        gradient = torch.where(back[:, None], best_gradient, gradient)
        value = torch.where(back, best_value, value)

        better = value < best_value
        best = torch.where(better[:, None], x, best)
        best_gradient = torch.where(better[:, None], gradient, best_gradient)
        best_value = torch.where(better, value, best_value)
        progress = ~full | (best_value < PROGRESS * marked)
        marked = torch.where(progress, best_value, marked)
        waited = torch.where(progress, 0.0, waited + 1)
        full = full | lost
        active = active & ~converged & (waited < patience) & (best_value > tolerance)
    return best, best_value


def _precondition(gradient: Tensor, steps: list[Tensor], changes: list[Tensor]) -> Tensor:
    """Return the two-loop recursion (Nocedal & Wright, Algorithm 7.4) by row, without pairs of no curvature."""
    q = gradient.clone()
    kept = []
    for s, y in zip(reversed(steps), reversed(changes), strict=True):
        sy = (s * y).sum(dim=1)
        rho = torch.where(sy > 1e-12, 1 / sy.clamp_min(1e-12), 0.0)
        alpha = rho * (s * q).sum(dim=1)
        q = q - alpha[:, None] * y
        kept.append((s, y, rho, alpha))
    if steps:
        s, y = steps[-1], changes[-1]
        sy, yy = (s * y).sum(dim=1), y.square().sum(dim=1)
        q = q * torch.where(sy > 1e-12, sy / yy.clamp_min(1e-20), 1.0)[:, None]
    for s, y, rho, alpha in reversed(kept):
        beta = rho * (y * q).sum(dim=1)
        q = q + (alpha - beta)[:, None] * s
    return q


def _wolfe(
    objective: Objective,
    x: Tensor,
    value: Tensor,
    direction: Tensor,
    slope: Tensor,
    first: Tensor,
    rows: Tensor,
    evaluations: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Search one step length for each of ``rows``; return points, values, gradients and which rows moved downhill."""
    low, high = torch.zeros_like(value), torch.full_like(value, float("inf"))
    length = first.clone()
    best, best_value, best_gradient = x.clone(), value.clone(), torch.zeros_like(x)
    moved, searching = torch.zeros(2, len(x), dtype=torch.bool, device=x.device)
    searching = searching.index_fill(0, rows, True)
    trial_value, trial_gradient = value.clone(), torch.zeros_like(x)
    for _ in range(evaluations if len(rows) else 0):
        trial = x + length[:, None] * direction
        trial_value[rows], trial_gradient[rows] = objective(trial[rows], rows)
        decreased = trial_value <= value + SUFFICIENT_DECREASE * length * slope
        curvature_met = (trial_gradient * direction).sum(dim=1) >= CURVATURE * slope
        # Keep every point with sufficient decrease: if none also meets the curvature condition, the row still moves.
        accept = searching & decreased
        best = torch.where(accept[:, None], trial, best)
        best_gradient = torch.where(accept[:, None], trial_gradient, best_gradient)
        best_value = torch.where(accept, trial_value, best_value)
        moved = moved | accept
        searching = searching & ~(decreased & curvature_met)
        rows = searching.nonzero().squeeze(1)
        if not len(rows):
            break
        high = torch.where(decreased, high, length)
        low = torch.where(decreased, length, low)
        length = torch.where(torch.isinf(high), 2 * low, (low + high) / 2)
    return best, best_value, best_gradient, moved
