"""Privacy budgets, computed by dp-accounting for the steps that a run really took."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from benchmark.errors import ConfigError

if TYPE_CHECKING:
    from dp_accounting.rdp import RdpAccountant


def renyi_accountant(**options: Any) -> RdpAccountant:
    """Return dp-accounting's accountant, without its warning of each order whose series does not converge.

    Such an order is left out, which can only raise epsilon.
    """
    from dp_accounting.rdp import RdpAccountant

    logging.getLogger("absl").setLevel(logging.ERROR)
    return RdpAccountant(**options)


@lru_cache(maxsize=256)
def sampled_gaussian_epsilon(
    *, noise_multiplier: float, samples: int, batch_size: int, steps: int, delta: float
) -> float:
    """Return the epsilon of ``steps`` Gaussian steps on batches drawn without replacement, for replacing a record.

    Replacing a record moves a clipped sum by up to 2 C, so noise of ``noise_multiplier`` x C is ``noise_multiplier``/2
    sensitivities. Renyi accounting of Wang, Balle, Kasiviswanathan 2019 (subsampling without replacement). Their bound
    is loose where a batch is nearly all records; :func:`gaussian_epsilon`, which ignores the sampling, holds as well
    (whatever the batches are, the steps compose), so the lesser of the two is returned.

    Args:
        noise_multiplier: standard deviation of the noise on the sum of clipped gradients, over the clipping bound C.
        samples, batch_size: records of one party, and those that each step draws.

    Returns:
        epsilon >= 0; infinite without noise.

    Raises:
        ConfigError: there are fewer samples than a batch draws.
    """
    if noise_multiplier == 0:
        return float("inf")
    if not 0 < batch_size <= samples:
        raise ConfigError(f"A batch of {batch_size} cannot be drawn without replacement from {samples} records.")
    from dp_accounting import (
        GaussianDpEvent,
        NeighboringRelation,
        SampledWithoutReplacementDpEvent,
        SelfComposedDpEvent,
    )

    step = SampledWithoutReplacementDpEvent(samples, batch_size, GaussianDpEvent(noise_multiplier / 2))
    accountant = renyi_accountant(neighboring_relation=NeighboringRelation.REPLACE_ONE)
    accountant.compose(SelfComposedDpEvent(step, steps))
    unsampled = gaussian_epsilon(noise_multiplier=noise_multiplier / 2, steps=steps, delta=delta)
    return min(float(accountant.get_epsilon(delta)), unsampled)


@lru_cache(maxsize=256)
def gaussian_epsilon(*, noise_multiplier: float, steps: int, delta: float) -> float:
    """Return the epsilon of ``steps`` Gaussian releases without sampling, for adding or removing the protected unit.

    Args:
        noise_multiplier: standard deviation of the noise over the L2 sensitivity.

    Returns:
        epsilon >= 0; infinite without noise.
    """
    if noise_multiplier == 0:
        return float("inf")
    if steps == 0:
        return 0.0
    from dp_accounting import GaussianDpEvent, SelfComposedDpEvent

    accountant = renyi_accountant()
    accountant.compose(SelfComposedDpEvent(GaussianDpEvent(noise_multiplier), steps))
    return float(accountant.get_epsilon(delta))


@lru_cache(maxsize=256)
def gaussian_noise(*, epsilon: float, steps: int, delta: float) -> float:
    """Return the least noise multiplier, to four digits, whose :func:`gaussian_epsilon` is at most ``epsilon``."""
    low, high = 0.0, 1.0
    while gaussian_epsilon(noise_multiplier=high, steps=steps, delta=delta) > epsilon:
        low, high = high, 2 * high
    while high - low > 1e-5 * high:
        middle = (low + high) / 2
        spent = gaussian_epsilon(noise_multiplier=middle, steps=steps, delta=delta)
        low, high = (middle, high) if spent > epsilon else (low, middle)
    return high


@lru_cache(maxsize=256)
def shard_epsilon(*, noise_multiplier: float, shards: int, queries: int, delta: float) -> float:
    """Return the epsilon of ``queries`` Gaussian queries, each of one of ``shards`` disjoint parts drawn afresh.

    It holds for replacing a record, which changes one shard: a shard is drawn without replacement from all of them.

    Args:
        noise_multiplier: standard deviation of the noise over a query's L2 sensitivity.

    Returns:
        epsilon >= 0; infinite without noise.
    """
    if queries == 0:
        return 0.0
    return sampled_gaussian_epsilon(
        noise_multiplier=2 * noise_multiplier, samples=shards, batch_size=1, steps=queries, delta=delta
    )


@lru_cache(maxsize=256)
def laplace_epsilon(*, scale: float, queries: int, delta: float) -> float:
    """Return the epsilon of ``queries`` answers with Laplace noise, without sampling.

    Args:
        scale: of the noise over an answer's L1 sensitivity.

    Returns:
        epsilon >= 0; infinite without noise.
    """
    if scale == 0:
        return float("inf")
    if queries == 0:
        return 0.0
    from dp_accounting import LaplaceDpEvent, SelfComposedDpEvent

    accountant = renyi_accountant()
    accountant.compose(SelfComposedDpEvent(LaplaceDpEvent(scale), queries))
    return float(accountant.get_epsilon(delta))
