"""A participant that tells from the global models which samples the others train on.

Nasr, Shokri, Houmansadr, *Comprehensive Privacy Analysis of Deep Learning: Passive and Active White-box Inference
Attacks against Centralized and Federated Learning*, S&P 2019. The active form is theirs: gradient ascent on the samples
in question, which the parties that hold them undo. Deviation: their learned attack model over all layers' gradients is
replaced by the loss, calibrated by that of a model without the candidates (Watson et al., ICLR 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.errors import positive
from benchmark.settings.collaboration.games.trajectory import TrajectorySurface, TrajectoryThreat
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.threat import Floor
from benchmark.training.functional import Net

VERSION = 1


class Participant(TrajectoryThreat):
    """Members have a lower loss.

    Args:
        active: steer: upload the honest update less ``strength`` times the gradient of the candidates' mean loss.
        strength: see there; in units of one local step.
        reference_steps, reference_lr: gradient steps on its own further samples, from the first model that it saw,
            that make the model that calibrates.
        adaptive: the participant knows that updates are perturbed, and judges by the mean loss over the second half of
            the rounds instead of by the last model alone.
    """

    floor = Floor("attack_auc", 0.52)
    knowledge = frozenset({"auxiliary"})

    def __init__(
        self, *, active: bool, strength: float, reference_steps: int, reference_lr: float, adaptive: bool = False
    ) -> None:
        super().__init__(adaptive=adaptive)
        positive("threat.strength", strength)
        self.steers, self.strength = active, strength
        self.reference_steps, self.reference_lr = reference_steps, reference_lr

    def steer(self, net: Net, params: Tensor, update: Tensor, candidates: Split) -> Tensor:
        return update - self.strength * net.gradient(params, candidates.x, candidates.y)

    def attack(self, surface: TrajectorySurface, rng: torch.Generator) -> MembershipScores:
        net, asked, own = surface.net, surface.candidates, surface.auxiliary
        reference = surface.models[0]
        for _ in range(self.reference_steps if len(own) else 0):
            reference = reference - self.reference_lr * net.gradient(reference, own.x, own.y)
        models = surface.models[len(surface.models) // 2 :] if self.adaptive else surface.models[-1:]
        with torch.no_grad():
            loss = torch.stack([losses(net, params, asked) for params in models]).mean(dim=0)
            return MembershipScores(losses(net, reference, asked) - loss)


def losses(net: Net, params: Tensor, data: Split) -> Tensor:
    """The cross-entropy of each sample, (n,)."""
    return F.cross_entropy(net.logits(params, data.x), data.y, reduction="none")
