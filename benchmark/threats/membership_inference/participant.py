"""Membership inference by a participant, who sees which samples the global models were trained on.

Nasr, Shokri, Houmansadr, *Comprehensive Privacy Analysis of Deep Learning: Passive and Active White-box Inference
Attacks against Centralized and Federated Learning*, S&P 2019. The active form is theirs: gradient ascent on the
candidates, which the parties that hold them undo. Deviation: their learned attack model over all layers' gradients is
replaced by the loss, calibrated by that of a model without the candidates (Watson et al., *On the Importance of
Difficulty Calibration in Membership Inference Attacks*, ICLR 2022).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.parameters import CountOrZero, Positive
from benchmark.settings.collaboration.games.trajectory import TrajectorySurface, TrajectoryThreat
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.threat import Floor
from benchmark.training.functional import Net

VERSION = 2


class Participant(TrajectoryThreat):
    """Attack that takes candidates with a lower calibrated loss for members.

    Args:
        active: upload the honest update minus ``strength`` times the gradient of the candidates' mean loss.
        strength: of the active form, in units of one local step.
        reference_steps, reference_lr: gradient steps on its own additional samples, from the first model that it saw,
            that give the calibrating model.
        adaptive: the participant knows that updates are perturbed, and uses the mean loss over the second half of the
            rounds instead of the loss of the last model.
    """

    floor = Floor("attack_auc", 0.52)
    knowledge = frozenset({"auxiliary"})

    def __init__(
        self,
        *,
        active: bool = False,
        strength: Positive = 1.0,
        reference_steps: CountOrZero = 200,
        reference_lr: Positive = 0.2,
        adaptive: bool = False,
    ) -> None:
        super().__init__(adaptive=adaptive)
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


def losses(net: Net, params: Tensor, data: Split) -> Float[Tensor, " n"]:
    """Return the cross-entropy of each sample."""
    return F.cross_entropy(net.logits(params, data.x), data.y, reduction="none")
