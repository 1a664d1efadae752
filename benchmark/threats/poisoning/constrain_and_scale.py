"""Constrain-and-scale: a backdoored update kept near the honest ones, then scaled as far as a norm bound allows."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.parameters import BelowOne, Count, Fraction, Index
from benchmark.settings.collaboration.games.contributions import Contribution, ContributionSurface
from benchmark.threats.poisoning.badnets import BadNets

VERSION = 1


class ConstrainAndScale(BadNets):
    """Attack that uploads gamma (alpha u_bad + (1 - alpha) mu), in the norm ball of the honest updates, mean mu.

    Bagdasaryan, Veit, Hua, Estrin, Shmatikov, *How To Backdoor Federated Learning*, AISTATS 2020, section 4.3: the loss
    is alpha L_class + (1 - alpha) L_ano with L_ano a distance that an anomaly detector would measure, and the result is
    scaled by gamma = S / ||u||, at most n / m, where S is the norm that the detector accepts. Deviations: the two terms
    are weighed in the update and not in the local loss, whose distance term has no gradient in the first local step;
    the distance is one to mu and S the longest honest update, so the adversary is omniscient, whereas the paper's knows
    only the global model, takes its distance from that and estimates S.
    The bound by itself (alpha = 1) is the projected backdoor of Sun et al. 2019 and Wang et al. 2020.

    Args:
        alpha: weight of the backdoor, in [0, 1].
        target, size, share: as for :class:`BadNets`.
    """

    knowledge = frozenset({"updates"})

    def __init__(
        self,
        *,
        alpha: Fraction = 0.7,
        target: Index = 7,
        size: Count = 4,
        share: Fraction = 0.5,
        fraction: BelowOne = 0.2,
        follows_exchange: bool = True,
    ) -> None:
        super().__init__(target=target, size=size, share=share, fraction=fraction, follows_exchange=follows_exchange)
        self.alpha = alpha

    def attack(self, surface: ContributionSurface, rng: torch.Generator) -> Contribution:
        known = surface.honest if len(surface.honest) else surface.own
        mixed = self.alpha * surface.own + (1 - self.alpha) * known.mean(dim=0)
        return Contribution(stretched(mixed, float(known.norm(dim=1).max()), 1 / self.fraction))


def stretched(updates: Float[Tensor, "m d"], norm: float, most: float) -> Float[Tensor, "m d"]:
    """Return the rows of ``updates`` scaled to length ``norm``, but by a factor of at most ``most``."""
    return updates * (norm / updates.norm(dim=1, keepdim=True).clamp_min(1e-20)).clamp_max(most)
