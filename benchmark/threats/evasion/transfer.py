"""Transfer attack: inputs altered against the adversary's own models, then shown to the deployed classifier.

It uses no gradients of the deployed classifier, so hiding them does not help (Papernot et al., *Practical Black-Box
Attacks against Machine Learning*, AsiaCCS 2017, arXiv 1602.02697; Carlini, Wagner, *Towards Evaluating the Robustness
of Neural Networks*, S&P 2017, section VIII-D: inputs that fool an undefended model with high confidence fool a
distilled one). Within its box the attack raises the confidence of the surrogates as far as it can; it does not stop at
their first mistake.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmark.errors import ConfigError
from benchmark.parameters import Count, Positive
from benchmark.settings.deployment.games.inputs import AdversarialExamples, InputSurface, InputThreat
from benchmark.settings.threat import Floor
from benchmark.threats.evasion.controls import never
from benchmark.threats.evasion.gradient_steps import project
from benchmark.threats.evasion.objectives import margin
from benchmark.training.loop import train

VERSION = 2


class Transfer(InputThreat):
    """Gradient steps on the margin of the surrogates' mean logits.

    Args:
        surrogates: undefended models of the deployed architecture that the adversary trains on its own samples.
        epochs, lr: of their training.
        eps: largest change of a feature (L-infinity).
        steps: gradient steps.
        step_size: change of a feature in one step.
    """

    family = "evasion"
    headline = "attack_success"
    floor = Floor("attack_success", 0.3)
    knowledge = frozenset({"attacker_data"})

    def __init__(
        self,
        *,
        surrogates: Count = 3,
        epochs: Count = 20,
        lr: Positive = 0.003,
        eps: Positive = 0.4,
        steps: Count = 40,
        step_size: Positive = 0.02,
    ) -> None:
        super().__init__()
        self.surrogates, self.epochs, self.lr = surrogates, epochs, lr
        self.eps, self.steps, self.step_size = eps, steps, step_size

    def attack(self, surface: InputSurface, rng: torch.Generator) -> AdversarialExamples:
        own = surface.attacker
        if len(own) == 0:
            raise ConfigError("A transfer attack trains on the attacker's samples: set dataset.sizes.attacker above 0.")
        models = [untrained(surface.model) for _ in range(self.surrogates)]
        for model in models:
            train(model, own.x, own.y, epochs=self.epochs, lr=self.lr, rng=rng).requires_grad_(False)
        return AdversarialExamples(self.descend(models, surface), never(surface.x))

    def descend(self, models: Sequence[nn.Module], surface: InputSurface) -> Tensor:
        """Return inputs after all steps on the margin of the models' mean logits."""
        x = surface.x.clone()
        for _ in range(self.steps):
            x.requires_grad_()
            logits = torch.stack([model(x) for model in models]).mean(dim=0)
            (slope,) = torch.autograd.grad(margin(logits, surface.targets).sum(), x)
            x = project(x.detach() - self.step_size * slope.sign(), surface.x, self.eps)
        return x


def untrained(model: nn.Module) -> nn.Module:
    """Return the architecture of ``model`` with new random weights."""
    fresh = copy.deepcopy(model).requires_grad_(True)
    for module in fresh.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    return fresh
