"""Random multidimensional projection: image blocks, each projected by a secret matrix, then shuffled.

Sharma, Gu, Chen, *A Comparative Study of Image Disguising Methods for Confidential Outsourced Learning*, 2022
(arXiv 2301.00252); Chen, Gu, Sharma, *DisguisedNets*, ACM TOIT 2023. Deviations: one key for the whole dataset (a fresh
key per image would be no key), one permutation for all channels, and noise in grey levels of 255.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.data.base import Split
from benchmark.data.blocks import from_blocks, to_blocks
from benchmark.errors import ConfigError
from benchmark.parameters import Count, NonNegative
from benchmark.seeds import child
from benchmark.settings.release.defense import Release, ReleaseMechanism

VERSION = 1
GREY_LEVELS = 255.0


class RMT(ReleaseMechanism):
    """Mechanism that releases ``E_pi(i) = (X_i + D) R_i`` at every block position i, D fresh noise and R_i orthogonal.

    Args:
        block: edge b of a block in pixels; sides that b does not divide are padded by edge values.
        noise: upper end of the uniform noise D, in grey levels of 255.
        form: ``matrix`` multiplies the rows of a block by a b x b matrix; ``vec`` the whole block, flattened, by a
            b^2 x b^2 matrix (more unknowns for an attacker).
        permute: shuffle the blocks by one secret permutation.
    """

    needs = {"dataset.kind": "image"}

    def __init__(
        self,
        *,
        block: Count = 4,
        noise: NonNegative = 0.0,
        form: Literal["matrix", "vec"] = "matrix",
        permute: bool = True,
    ) -> None:
        self.block, self.noise, self.form, self.permute = block, noise, form, permute

    def facts(self) -> dict[str, Any]:
        return {"block": self.block, "form": self.form, "noise_mean": self.noise / 2 / GREY_LEVELS}

    def release(self, private: Split, rng: torch.Generator) -> Release:
        if private.x.ndim != 4:
            raise ConfigError("rmt disguises images, which have blocks; choose an image dataset.")
        height, width = (-(-side // self.block) for side in private.x.shape[-2:])
        count = height * width
        size = self.block if self.form == "matrix" else self.block**2
        self.key = haar_orthogonal(count, size, rng).to(private.x.device)
        order = torch.randperm(count, generator=rng) if self.permute else torch.arange(count)
        self.order = order.to(private.x.device)
        self.fresh = torch.Generator().manual_seed(child(rng))
        return Release(self.encode(private.x), private.y, torch.arange(len(private)))

    def encode(self, x: Tensor) -> Tensor:
        """Return x (n, channels, height, width) projected and shuffled, with fresh noise."""
        blocks = to_blocks(x, self.block)
        noise = torch.rand(blocks.shape, generator=self.fresh).to(blocks) * (self.noise / GREY_LEVELS)
        projected = as_rows(blocks + noise, self.form) @ self.key
        height, width = (-(-side // self.block) * self.block for side in x.shape[-2:])
        return from_blocks(projected.reshape(blocks.shape)[:, :, self.order], (height, width))

    def decode(self, encoded: Tensor) -> Tensor:
        """Invert :meth:`encode` for the owner of the key, exact without noise: (n, ...) -> (n, ...), padded."""
        blocks = to_blocks(encoded, self.block)[:, :, self.order.argsort()]
        plain = as_rows(blocks, self.form) @ self.key.transpose(1, 2)
        return from_blocks(plain.reshape(blocks.shape), (encoded.shape[-2], encoded.shape[-1]))


def haar_orthogonal(count: int, size: int, rng: torch.Generator) -> Float[Tensor, "count size size"]:
    """Return ``count`` matrices (count, size, size), uniform over the orthogonal group (Mezzadri 2007)."""
    q, r = torch.linalg.qr(torch.randn((count, size, size), generator=rng, dtype=torch.float64))
    return (q * r.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)).float()


def as_rows(blocks: Tensor, form: str) -> Tensor:
    """Return the row vectors that one matrix multiplies: blocks as they are, or as (..., positions, 1, b * b)."""
    return blocks if form == "matrix" else blocks.flatten(-2).unsqueeze(-2)
