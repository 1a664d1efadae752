"""Row-wise clipping of gradients."""

from __future__ import annotations

from torch import Tensor


def clip_rows(rows: Tensor, max_norm: float) -> Tensor:
    """(n, d) -> (n, d) with every row's L2 norm at most ``max_norm`` (Abadi et al. 2016, Algorithm 1)."""
    return rows * (max_norm / rows.norm(dim=1, keepdim=True).clamp_min(1e-20)).clamp_max(1)
