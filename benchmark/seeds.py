"""Randomness by purpose: every use of chance has a name, so that changing one never shifts another.

Cells that differ only in the defense therefore share data split, initial weights and client sampling: the names of
those purposes do not mention the defense, and comparisons between the cells are paired.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def derive(seed: int, purpose: str) -> int:
    """Return a 63-bit seed for ``purpose``; distinct purposes give independent streams.

    >>> derive(0, "model.init") != derive(0, "data.split")
    True
    """
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return a CPU generator for ``purpose``; draws are moved to the device, so every device sees the same numbers."""
    return torch.Generator().manual_seed(derive(seed, purpose))


def normal_like(reference: Tensor, rng: torch.Generator) -> Tensor:
    """Return standard normal noise of the shape, type and device of ``reference``, drawn from ``rng``."""
    return torch.randn(reference.shape, generator=rng, dtype=reference.dtype).to(reference.device, non_blocking=True)


def child(rng: torch.Generator) -> int:
    """Return a fresh integer seed drawn from ``rng``, for libraries that take seeds rather than generators."""
    return int(torch.randint(0, 2**31 - 1, (), generator=rng))


def random_bytes(count: int, rng: torch.Generator) -> bytes:
    """Return ``count`` bytes drawn from ``rng``: keys of simulated parties, which must repeat from run to run."""
    return bytes(torch.randint(0, 256, (count,), generator=rng, dtype=torch.uint8).tolist())


@contextmanager
def kept() -> Iterator[None]:
    """Put the global generators of torch, numpy and Python back at the end of the block, as they were before it."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@contextmanager
def isolated(seed: int, purpose: str) -> Iterator[None]:
    """Seed the global generators of torch, numpy and Python inside the block, and put them back afterwards.

    For code that can only draw from global state (layer initialisation, dropout, scikit-learn).
    """
    value = derive(seed, purpose)
    with kept():
        _seed_torch(value)
        random.seed(value)
        np.random.seed(value % 2**32)
        yield


def _seed_torch(value: int) -> None:
    """Call ``torch.manual_seed`` where there is a GPU to seed, since it takes milliseconds; else seed the CPU alone."""
    if torch.cuda.is_available():
        torch.manual_seed(value)
    else:
        torch.default_generator.manual_seed(value)
