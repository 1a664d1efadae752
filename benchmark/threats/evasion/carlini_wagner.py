"""Carlini and Wagner's L2 attack, and the base that it shares with their L0 and L-infinity attacks.

Carlini, Wagner, *Towards Evaluating the Robustness of Neural Networks*, S&P 2017 (arXiv 1608.04644). The attack
minimises ``distance + c * f`` with ``f = max(max_{i != t} z_i - z_t, -confidence)`` on logits z, over an unbounded w
with the input ``(tanh(w) + 1) / 2``. It uses no softmax, so a saturated softmax hides no gradient; the adaptive form
divides logits by the published temperature, which only brings c into its usual range. Deviation: all inputs are one
batch, and the search for c stops early by the total loss of the batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from benchmark.parameters import Count, NonNegative, Positive
from benchmark.settings.deployment.games.inputs import AdversarialExamples, InputSurface, InputThreat
from benchmark.settings.threat import Floor
from benchmark.threats.evasion.controls import never
from benchmark.threats.evasion.objectives import Logits, logits_at_temperature, margin

VERSION = 3
EDGE = 1 - 1e-6  # keeps atanh finite at pixels of 0 and 1
UNBOUNDED = 1e10
CHECKS = 10
IMPROVED = 0.9999

Penalty = Callable[[Tensor, Tensor], Tensor]
"""Function of altered inputs (n, ...) and their ``f`` (n,) that returns the minimised value, (n,)."""


def to_unit_interval(w: Tensor) -> Tensor:
    """Return ``w``, any real numbers, mapped to [0, 1]."""
    return (w.tanh() + 1) / 2


def from_unit_interval(x: Tensor) -> Tensor:
    """Return the inverse of :func:`to_unit_interval`, with features moved slightly off the bounds."""
    return ((2 * x - 1) * EDGE).atanh()


@contextmanager
def channels_last(model: nn.Module) -> Iterator[None]:
    """Keep the weights in the order in which convolutions of few channels pass a quarter faster."""
    model.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        model.to(memory_format=torch.contiguous_format)


class CarliniWagner(InputThreat):
    """Base of the three attacks.

    Args:
        iterations: Adam steps of one descent.
        lr: learning rate of Adam.
        initial_c: weight of ``f`` at which the search starts.
        confidence: kappa, the margin by which the target's logit must win.
        adaptive: divide logits by the temperature that the defense publishes.
    """

    family = "evasion"
    headline = "attack_success"
    floor = Floor("attack_success", 0.5)

    def __init__(
        self, *, iterations: Count, lr: Positive, initial_c: Positive, confidence: NonNegative, adaptive: bool
    ) -> None:
        super().__init__(adaptive=adaptive)
        self.iterations, self.lr, self.initial_c, self.confidence = iterations, lr, initial_c, confidence

    def attack(self, surface: InputSurface, rng: torch.Generator) -> AdversarialExamples:
        logits = logits_at_temperature(surface, adaptive=self.adaptive)
        with channels_last(surface.model):
            best = self.search(logits, surface.x, surface.targets)
        return AdversarialExamples(best, never(surface.x))

    @abstractmethod
    def search(self, logits: Logits, clean: Tensor, targets: Tensor) -> Tensor:
        """Return the nearest altered inputs that meet their targets, (n, ...); the clean input where none was found."""

    def descend(
        self,
        logits: Logits,
        start: Tensor,
        targets: Tensor,
        penalty: Penalty,
        keep: Callable[[Tensor, Tensor], None],
        shape: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> Tensor:
        """Minimise ``penalty`` by Adam from the inputs ``start`` and return the last inputs.

        Args:
            keep: called at every step with the inputs and with which of them meet their target, bool (n,).
            shape: applied to inputs before the classifier sees them, e.g. to hold features fixed.
        """
        w = from_unit_interval(start).requires_grad_()
        optimizer = torch.optim.Adam([w], lr=self.lr)
        last, every = float("inf"), max(self.iterations // CHECKS, 1)
        for iteration in range(self.iterations):
            x = shape(to_unit_interval(w))
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
        return shape(to_unit_interval(w)).detach()


class CarliniWagnerL2(CarliniWagner):
    """L2 attack with a binary search over c for each input; it keeps the nearest step that meets the target.

    Args:
        searches: values of c that are tried.
        iterations, lr, initial_c, confidence, adaptive: as in :class:`CarliniWagner`.
    """

    def __init__(
        self,
        *,
        iterations: Count = 10000,
        lr: Positive = 0.01,
        initial_c: Positive = 1e-3,
        searches: Count = 9,
        confidence: NonNegative = 0.0,
        adaptive: bool = True,
    ) -> None:
        super().__init__(iterations=iterations, lr=lr, initial_c=initial_c, confidence=confidence, adaptive=adaptive)
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
                best.copy_(torch.where(better.view(-1, *[1] * (x.ndim - 1)), x, best))
                least.copy_(torch.where(better, distance, least))

            def penalty(x: Tensor, f: Tensor, c: Tensor = c) -> Tensor:
                return (x - clean).flatten(1).square().sum(dim=1) + c * f

            self.descend(logits, clean, targets, penalty, keep)
            high, low = high.minimum(c).where(met, high), low.where(met, low.maximum(c))
            c = ((low + high) / 2).where(high < UNBOUNDED, 10 * c)
        return best
