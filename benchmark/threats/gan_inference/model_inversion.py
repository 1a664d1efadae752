"""Model inversion: gradient descent on the input of the finished model.

Fredrikson, Jha, Ristenpart, *Model Inversion Attacks that Exploit Confidence Information*, CCS 2015, algorithm 1
(MI-Face): minimise 1 - p(target | x) over x in [0, 1]. Deviations: many random starts instead of one black image, so
that the result is a rate; Adam instead of plain descent; no denoising between steps.
"""

from __future__ import annotations

import torch

from benchmark.parameters import Count, Index, Positive
from benchmark.settings.collaboration.games.global_models import GlobalModelSurface, InsiderMove, InsiderThreat

VERSION = 1


class ModelInversion(InsiderThreat):
    """Baseline without a generator, which uses only the last global model.

    Args:
        target: the victim's class.
        restarts: random starts, each of which gives one image.
        iterations, lr: Adam steps on the pixels.
    """

    def __init__(
        self,
        *,
        target: Index = 3,
        restarts: Count = 100,
        iterations: Count = 100,
        lr: Positive = 0.02,
        adaptive: bool = False,
    ) -> None:
        super().__init__(target=target, adaptive=adaptive)
        self.restarts, self.iterations, self.lr = restarts, iterations, lr

    def attack(self, surface: GlobalModelSurface, rng: torch.Generator) -> InsiderMove:
        if not surface.last:
            return InsiderMove(None)
        x = torch.rand((self.restarts, *surface.shape), generator=rng).to(surface.params.device).requires_grad_()
        optimizer = torch.optim.Adam([x], lr=self.lr)
        for _ in range(self.iterations):
            probability = surface.net.logits(surface.params, x).softmax(dim=1)[:, self.target]
            (x.grad,) = torch.autograd.grad((1 - probability).sum(), x)
            optimizer.step()
            with torch.no_grad():
                x.clamp_(0, 1)
        return InsiderMove(x.detach())
