"""Within-class and between-class scatter of logits."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def scatter(logits: Float[Tensor, "n classes"], y: Int[Tensor, " n"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the traces of the within-class and the between-class scatter of centred logits, two scalars."""
    centred = logits - logits.mean(dim=1, keepdim=True)
    overall = centred.mean(dim=0)
    within = between = torch.zeros((), device=logits.device)
    for label in y.unique():
        own = centred[y == label]
        within = within + (own - own.mean(dim=0)).square().sum()
        between = between + len(own) * (own.mean(dim=0) - overall).square().sum()
    return within, between
