"""Public facts about a defense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Published:
    """Public facts about a defense, in words that any adaptive threat understands.

    Attributes:
        mask: bool (n, d) or (d,), True where an upload carries information (pruning, withheld layers).
        noise_std: standard deviation of the noise on each coordinate of an upload.
        clip_norm: L2 bound to which uploads (or samples' gradients) were scaled down.
        groups: int64 (n,), uploads with the same number sum to the sum of their members' updates, though a single
            upload need not be anybody's update (mixing, pairwise masks).
        downloaded: bool (n, d), coordinates that each party took from the global model in this round.
        screen_cosine: parties refuse a model whose first layer's rows are more parallel than this.
        filter_threshold: accuracy on common validation data that a party's model must exceed to count.
        memory: what a party's upload leaves out is added to its next one, so that its uploads sum to its updates.
        signs: only the signs of an upload's coordinates carry information.
        mixing: how inputs were mixed before anything was trained on them (InstaHide): k, mode, encodings, signs.
    """

    mask: Bool[Tensor, " *n d"] | None = None
    noise_std: float | None = None
    clip_norm: float | None = None
    groups: Int[Tensor, " n"] | None = None
    downloaded: Bool[Tensor, " *n d"] | None = None
    screen_cosine: float | None = None
    filter_threshold: float | None = None
    memory: bool = False
    signs: bool = False
    mixing: Mapping[str, Any] | None = None
