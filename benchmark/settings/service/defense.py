"""Service defenses: their hooks."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.settings.defense import Defense, hook


class ServiceDefense(Defense):
    """Base of defenses of a user who queries a provider's model and reveals its outputs."""

    @hook()
    def screen_model(self, model: nn.Module, data: Split) -> float:
        """Return the suspicion that the provider's model is dishonest, by the user's labelled samples."""
        return 0.0

    @hook(chained=True)
    def reveal(self, logits: Float[Tensor, "n classes"]) -> Float[Tensor, "n outputs"]:
        """Return what the user reveals of the model's logits."""
        return logits
