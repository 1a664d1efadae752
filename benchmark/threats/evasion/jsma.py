"""JSMA: repeated changes of the pair of features that moves the outputs most towards the target class.

Papernot et al., *The Limitations of Deep Learning in Adversarial Settings*, Euro S&P 2016 (arXiv 1511.07528),
algorithm 3. The adaptive form divides logits by the temperature that the defense publishes: Carlini, Wagner,
*Defensive Distillation is Not Robust to Adversarial Examples*, 2016 (arXiv 1607.04311).
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from benchmark.errors import ConfigError
from benchmark.parameters import AtLeastTwo, Positive, Share
from benchmark.settings.deployment.games.inputs import AdversarialExamples, InputSurface, InputThreat
from benchmark.settings.threat import Floor

VERSION = 3
DTYPES = {"float32": torch.float32, "float64": torch.float64}
PAIRS_AT_ONCE = 2**24  # bounds the memory of one chunk's pair scores


class JSMA(InputThreat):
    """Targeted saliency map attack on pairs of features, all inputs in one batch.

    With outputs O, target t and pairs (p, q) of features that are not yet at their bound, let ``alpha = dO_t/dx_p +
    dO_t/dx_q`` and ``beta`` the same for the sum of all other outputs. Among the pairs with ``alpha > 0 > beta`` the
    one with the largest ``-alpha * beta`` is changed by ``theta`` (for a negative theta both signs swap).

    Args:
        saliency_on: ``probs`` (softmax outputs) or ``logits``.
        temperature: divisor of the logits; the adaptive form takes the defense's ``temperature`` where it is published.
        dtype: ``float32`` or ``float64``, the precision of the gradients.
        theta: added to each chosen feature, then clipped to [0, 1].
        gamma: share of the features that may be changed, in (0, 1].
        candidates: number of best single features, by alpha, by beta and by their product, among which pairs are
            searched, as the authors propose for larger inputs; on probabilities this finds the same pairs. None: all
            features.
        adaptive: the adversary knows the defense.
    """

    family = "evasion"
    headline = "attack_success"
    floor = Floor("attack_success", 0.5)

    def __init__(
        self,
        *,
        saliency_on: Literal["probs", "logits"] = "probs",
        temperature: Positive = 1.0,
        dtype: Literal["float32", "float64"] = "float32",
        theta: float = 1.0,
        gamma: Share = 0.143,
        candidates: AtLeastTwo | None = None,
        adaptive: bool = False,
    ) -> None:
        super().__init__(adaptive=adaptive)
        if theta == 0 or not 0 < gamma <= 1:
            raise ConfigError(f"threat.theta must not be 0 and threat.gamma be in (0, 1], got {theta} and {gamma}.")
        self.saliency_on, self.temperature, self.dtype = saliency_on, temperature, DTYPES[dtype]
        self.theta, self.gamma, self.candidates = theta, gamma, candidates

    def attack(self, surface: InputSurface, rng: torch.Generator) -> AdversarialExamples:
        published = surface.published if self.adaptive else {}
        temperature = float(published.get("temperature", self.temperature))
        outputs = Outputs(
            copy.deepcopy(surface.model).to(self.dtype), self.saliency_on, temperature, surface.x.shape[1:]
        )
        x, stalled = self._search(outputs, surface.x.to(self.dtype).flatten(1).clone(), surface.targets)
        altered = x.to(surface.x.dtype).view_as(surface.x)
        return AdversarialExamples(altered, stalled, diagnostics={"jsma_temperature": temperature})

    def _search(self, outputs: Outputs, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Change ``x`` (n, features) in place; return it and which inputs stalled, bool (n,)."""
        stalled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        active = torch.arange(len(x), device=x.device)
        chunk = max(1, PAIRS_AT_ONCE // x.shape[1] ** 2)
        for _ in range(int(x.shape[1] * self.gamma / 2)):
            going = []
            for index in active.split(chunk):
                alpha, beta, predicted = outputs.gradients(x[index], targets[index])
                free = x[index] < 1 if self.theta > 0 else x[index] > 0
                pair, found = self._pair(alpha, beta, free)
                aiming = predicted != targets[index]
                stalled[index] = aiming & ~found & (free.sum(dim=1) > 1)
                moving = aiming & found
                rows = index[moving].unsqueeze(1)
                x[rows, pair[moving]] = (x[rows, pair[moving]] + self.theta).clamp(0, 1)
                going.append(index[moving])
            active = torch.cat(going)
            if len(active) == 0:
                break
        return x, stalled

    def _pair(self, alpha: Tensor, beta: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        """Return the result of :func:`best_pair` among all features or among the candidates."""
        rising = self.theta > 0
        if self.candidates is None or 3 * self.candidates >= alpha.shape[1]:
            return best_pair(alpha, beta, free, rising=rising)
        few, once = shortlist(alpha, beta, free, self.candidates, rising=rising)
        usable = free.gather(1, few) & once
        pair, found = best_pair(alpha.gather(1, few), beta.gather(1, few), usable, rising=rising)
        return few.gather(1, pair), found


class Outputs:
    """The outputs whose gradients the attack follows.

    Args:
        model: (n, ...) -> logits (n, classes).
        saliency_on, temperature: as in :class:`JSMA`.
        shape: of one input.
    """

    def __init__(self, model: nn.Module, saliency_on: str, temperature: float, shape: tuple[int, ...]) -> None:
        self.model, self.saliency_on, self.temperature, self.shape = model, saliency_on, temperature, shape

    def gradients(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return gradients (n, features) of the target's output and of the sum of the others, and predictions (n,).

        Two backward passes replace the whole Jacobian, since pairs only need this sum.
        """
        x = x.detach().requires_grad_()
        logits = self.model(x.unflatten(1, self.shape))
        scaled = logits / self.temperature
        outputs = scaled.softmax(dim=1) if self.saliency_on == "probs" else scaled
        wanted = torch.zeros_like(outputs).scatter_(1, targets.unsqueeze(1), 1.0)
        (alpha,) = torch.autograd.grad(outputs, x, wanted, retain_graph=True)
        (beta,) = torch.autograd.grad(outputs, x, 1 - wanted)
        return alpha, beta, logits.argmax(dim=1)


def best_pair(
    alpha: Float[Tensor, "n features"],
    beta: Float[Tensor, "n features"],
    free: Bool[Tensor, "n features"],
    *,
    rising: bool,
) -> tuple[Int[Tensor, "n 2"], Bool[Tensor, " n"]]:
    """Return the admissible pair with the largest ``-alpha * beta``, and whether one exists.

    Args:
        alpha, beta: as in :class:`JSMA`, of single features.
        free: whether a feature may be changed.
        rising: features grow; otherwise the signs required of alpha and beta swap.
    """
    features = alpha.shape[1]
    if not rising:
        alpha, beta = -alpha, -beta
    both_alpha = alpha.unsqueeze(2) + alpha.unsqueeze(1)
    both_beta = beta.unsqueeze(2) + beta.unsqueeze(1)
    admissible = (free.unsqueeze(2) & free.unsqueeze(1)).triu(diagonal=1) & (both_alpha > 0) & (both_beta < 0)
    # A pair whose product underflows to 0 stays admissible; the first of equal pairs is taken.
    scores = (-both_alpha * both_beta).masked_fill(~admissible, -torch.inf)
    best, index = scores.flatten(1).max(dim=1)
    return torch.stack([index // features, index % features], dim=1), best > -torch.inf


def shortlist(
    alpha: Float[Tensor, "n features"],
    beta: Float[Tensor, "n features"],
    free: Bool[Tensor, "n features"],
    count: int,
    *,
    rising: bool,
) -> tuple[Int[Tensor, "n listed"], Bool[Tensor, "n listed"]]:
    """Return the ``count`` best free features by each of three orders (3 * count in all), ascending.

    The second result is False where a feature is listed again. The arguments are those of :func:`best_pair`.
    """
    if not rising:
        alpha, beta = -alpha, -beta
    orders = (alpha, -beta, -alpha * beta)
    best = [order.masked_fill(~free, -torch.inf).topk(count, dim=1).indices for order in orders]
    few = torch.cat(best, dim=1).sort(dim=1).values
    return few, few != few.roll(1, dims=1)
