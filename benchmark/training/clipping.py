"""Row-wise clipping of gradients."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def clip_rows(rows: Float[Tensor, "n d"], max_norm: float) -> Float[Tensor, "n d"]:
    """Return rows (n, d) with every L2 norm at most ``max_norm`` (Abadi et al. 2016, Algorithm 1)."""
    return rows * (max_norm / rows.norm(dim=1, keepdim=True).clamp_min(1e-20)).clamp_max(1)
