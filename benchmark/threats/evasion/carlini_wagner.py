"""The attack of Carlini and Wagner for the L2 distance, and what its forms for L0 and L-infinity share with it.

Carlini, Wagner, *Towards Evaluating the Robustness of Neural Networks*, S&P 2017 (arXiv 1608.04644). It minimises
``distance + c * f`` with ``f = max(max_{i != t} z_i - z_t, -confidence)`` on logits z, over an unbounded w with the
input ``(tanh(w) + 1) / 2``. No softmax is involved, so a saturated one hides nothing; the adaptive form divides logits
by the published temperature, which only brings c into its usual range. Deviation: all inputs are one batch, so the
search for c gives up early by the batch's total loss.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.errors import positive
from benchmark.settings.deployment.games.inputs import AdversarialExamples, InputSurface, InputThreat
from benchmark.settings.threat import Floor
from benchmark.threats.evasion.controls import never
from benchmark.threats.evasion.objectives import Logits, cooled, margin

VERSION = 1
EDGE = 1 - 1e-6  # keeps atanh finite at pixels of 0 and 1
UNBOUNDED = 1e10
CHECKS = 10
IMPROVED = 0.9999

Penalty = Callable[[Tensor, Tensor], Tensor]
"""From altered inputs (n, ...) and their ``f`` (n,) to what is minimised, (n,)."""


def inside(w: Tensor) -> Tensor:
    """Any real numbers -> [0, 1]."""
    return (w.tanh() + 1) / 2


def outside(x: Tensor) -> Tensor:
    """The inverse of :func:`inside`, of features moved a little off the bounds."""
    return ((2 * x - 1) * EDGE).atanh()


class CarliniWagner(InputThreat):
    """Base of the three forms.

    Args:
        iterations: Adam steps of one descent; lr: its rate.
        initial_c: the weight of ``f`` that the search begins with.
        confidence: kappa, by how much the target's logit should win.
        adaptive: divides logits by the temperature that the defense publishes.
    """

    family = "evasion"
    headline = "attack_success"
    floor = Floor("attack_success", 0.5)

    def __init__(self, *, iterations: int, lr: float, initial_c: float, confidence: float, adaptive: bool) -> None:
        super().__init__(adaptive=adaptive)
        positive("threat.iterations", iterations)
        positive("threat.lr", lr)
        positive("threat.initial_c", initial_c)
        self.iterations, self.lr, self.initial_c, self.confidence = iterations, lr, initial_c, confidence

    def attack(self, surface: InputSurface, rng: torch.Generator) -> AdversarialExamples:
        best = self.search(cooled(surface, adaptive=self.adaptive), surface.x, surface.targets)
        return AdversarialExamples(best, never(surface.x))

    @abstractmethod
    def search(self, logits: Logits, clean: Tensor, targets: Tensor) -> Tensor:
        """The nearest altered input that meets its target, (n, ...); the clean one where none was found."""

    def descend(
        self,
        logits: Logits,
        start: Tensor,
        targets: Tensor,
        penalty: Penalty,
        keep: Callable[[Tensor, Tensor], None],
        shape: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> Tensor:
        """Minimise ``penalty`` by Adam from the inputs ``start``; gives the last inputs.

        Args:
            keep: told of every step's inputs and of which meet their target, bool (n,).
            shape: applied to inputs before the classifier sees them, e.g. to hold features fixed.
        """
        w = outside(start).requires_grad_()
        optimizer = torch.optim.Adam([w], lr=self.lr)
        last, every = float("inf"), max(self.iterations // CHECKS, 1)
        for iteration in range(self.iterations):
            x = shape(inside(w))
            gap = margin(logits(x), targets)
            keep(x.detach(), gap.detach() <= -self.confidence)
            loss = penalty(x, gap.clamp_min(-self.confidence)).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if iteration % every == every - 1:
                if loss.item() > IMPROVED * last:
                    break
                last = loss.item()
        return shape(inside(w)).detach()


class CarliniWagnerL2(CarliniWagner):
    """Binary search over c, one for each input; of all steps the nearest that meets the target is kept.

    Args:
        searches: values of c that are tried; the others as in :class:`CarliniWagner`.
    """

    def __init__(self, *, searches: int, **options: float | bool) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        positive("threat.searches", searches)
        self.searches = searches

    def search(self, logits: Logits, clean: Tensor, targets: Tensor) -> Tensor:
        best, least = clean.clone(), torch.full((len(clean),), torch.inf, device=clean.device)
        c = torch.full_like(least, self.initial_c)
        low, high = torch.zeros_like(c), torch.full_like(c, UNBOUNDED)
        for _ in range(self.searches):
            met = torch.zeros(len(clean), dtype=torch.bool, device=clean.device)

            def keep(x: Tensor, meets: Tensor, met: Tensor = met) -> None:
                met |= meets
                distance = (x - clean).flatten(1).square().sum(dim=1)
                better = meets & (distance < least)
                best[better], least[better] = x[better], distance[better]

            def penalty(x: Tensor, f: Tensor, c: Tensor = c) -> Tensor:
                return (x - clean).flatten(1).square().sum(dim=1) + c * f

            self.descend(logits, clean, targets, penalty, keep)
            high, low = high.minimum(c).where(met, high), low.where(met, low.maximum(c))
            c = ((low + high) / 2).where(high < UNBOUNDED, 10 * c)
        return best
