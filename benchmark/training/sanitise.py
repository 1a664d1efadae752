"""Gaussian mechanism on a block of gradients, and the accountant for Poisson-sampled batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from benchmark.seeds import normal_like
from benchmark.training.accounting import renyi_accountant


def clip_block(block: Tensor, bound: float) -> Tensor:
    """Return ``block`` scaled down to a Frobenius norm of at most ``bound``."""
    return block * (bound / block.norm().clamp_min(torch.finfo(block.dtype).tiny)).clamp_max(1)


def sanitise(block: Tensor, bound: float, noise_multiplier: float, rng: torch.Generator) -> Tensor:
    """Clip the whole block to ``bound`` and add noise of standard deviation ``2 * bound * noise_multiplier``.

    One record can move the clipped block anywhere within the ball, so its sensitivity is ``2 * bound`` and the step is
    a Gaussian mechanism of that noise multiplier (Cao et al. 2021, theorem 1).
    """
    return clip_block(block, bound) + 2 * bound * noise_multiplier * normal_like(block, rng)


@lru_cache(maxsize=256)
def poisson_epsilon(*, noise_multiplier: float, rate: float, steps: int, delta: float) -> float:
    """Return the epsilon of ``steps`` Gaussian steps on Poisson-sampled batches, for adding or removing one record.

    Args:
        noise_multiplier: standard deviation of the noise over the L2 sensitivity.
        rate: probability, in (0, 1], with which each record is in a batch.

    Returns:
        epsilon >= 0 by Renyi accounting with the conversion of dp-accounting; infinite without noise.
    """
    if noise_multiplier == 0:
        return float("inf")
    if steps == 0:
        return 0.0
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

    accountant = renyi_accountant()
    accountant.compose(SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise_multiplier)), steps))
    return float(accountant.get_epsilon(delta))


def most_steps(spent: Callable[[int], float | None], *, epsilon: float | None, limit: int) -> int:
    """Return the most steps, up to ``limit``, after which ``spent(steps)`` is at most ``epsilon``.

    It is ``limit`` if there is no budget (None) or nothing spends it (``spent`` returns None).
    """
    if epsilon is None:
        return limit
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        after = spent(middle)
        low, high = (middle, high) if after is None or after <= epsilon else (low, middle - 1)
    return low
