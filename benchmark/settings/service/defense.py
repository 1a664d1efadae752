"""Service defenses: their hooks."""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.settings.defense import Defense, hook


class ServiceDefense(Defense):
    """A defense of a user who queries a provider's model and reveals its outputs."""

    @hook()
    def screen_model(self, model: nn.Module, data: Split) -> float:
        """Suspicion that the provider's model is dishonest, judged on the user's labelled samples; higher is worse."""
        return 0.0

    @hook(chained=True)
    def reveal(self, logits: Tensor) -> Tensor:
        """What the user lets out of the model's logits, (n, classes) -> (n, outputs)."""
        return logits
