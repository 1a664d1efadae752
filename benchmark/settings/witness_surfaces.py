"""What a participant of a collaboration sees who asks which samples the others train on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.threats.base import MembershipScores, Surface, Threat
from benchmark.training.functional import Net


@dataclass(frozen=True)
class WitnessSurface(Surface):
    """The global models of one collaboration, and the samples in question.

    Attributes:
        net: the architecture; models: (rounds, d) the global model of each round as it was downloaded, the last one
            being the finished model.
        candidates: as many samples of the other parties as samples that nobody trained on, in random order.
        auxiliary: the participant's further samples of the same domain that nobody trained on (grant ``auxiliary``).
        members: bool, which candidates others trained on (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {"auxiliary": "auxiliary", "members": "truth"}

    net: Net
    models: Tensor
    candidates: Split
    auxiliary: Split
    members: Tensor


class WitnessThreat(Threat):
    """A participant that watches the global models, and may steer them by its own uploads.

    Attributes:
        steers: whether it changes its own update at all; one that does not leaves the collaboration as it is.
    """

    family = "membership_inference"
    setting = "collaboration"
    surface = "trajectory"
    headline = "attack_auc"
    steers: bool = False

    def steer(self, net: Net, params: Tensor, update: Tensor, candidates: Split) -> Tensor:
        """What it uploads, (d,) in gradient units, in place of its honest ``update`` from the model ``params``."""
        return update

    @abstractmethod
    def attack(self, surface: WitnessSurface, rng: torch.Generator) -> MembershipScores:
        """A score for each candidate; higher is more like a member."""
