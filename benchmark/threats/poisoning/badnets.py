"""BadNets: a backdoor with a white square in the corner as trigger."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.parameters import BelowOne, Count, Fraction, Index
from benchmark.settings.collaboration.games.contributions import MaliciousClientView
from benchmark.settings.threat import Floor
from benchmark.threats.poisoning.data_poison import DataPoison, random_rows, relabel
from benchmark.threats.poisoning.triggers import corner, stamp, stamped_goal

VERSION = 1


class BadNets(DataPoison):
    """Backdoor that stamps a white square on a share of the own samples and labels these as the target.

    Gu, Dolan-Gavitt, Garg, *BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain*, arXiv
    1708.06733. Success: the share of stamped test samples of other classes that are predicted as the target.

    Args:
        target: class that the trigger should evoke.
        size: side of the square in pixels.
        share: rho, share of the own samples that are stamped, in [0, 1].
    """

    headline = "attack_success"
    floor = Floor("attack_success", 0.5)
    needs = {"dataset.kind": "image"}

    def __init__(
        self,
        *,
        target: Index = 7,
        size: Count = 4,
        share: Fraction = 0.5,
        fraction: BelowOne = 0.2,
        follows_exchange: bool = True,
        adaptive: bool = False,
    ) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange, adaptive=adaptive)
        self.target, self.size, self.share = target, size, share

    def goal(self, test: Split, clean: Tensor) -> Split:
        return stamped_goal(test, self.trigger(test), self.target)

    def poison_data(self, data: Split, party: MaliciousClientView, rng: torch.Generator) -> Split:
        chosen = random_rows(len(data), self.share, rng).to(data.x.device)
        painted = torch.where(chosen[:, None, None, None], stamp(data.x, self.own_trigger(data, party)), data.x)
        return relabel(Split(painted, data.y, data.sensitive, data.group), chosen, self.target)

    def trigger(self, data: Split) -> Tensor:
        """Return the whole trigger, bool (height, width)."""
        return corner(tuple(data.x.shape[1:]), self.size)

    def own_trigger(self, data: Split, party: MaliciousClientView) -> Tensor:
        """Return the part of the trigger that this party stamps in training, bool (height, width)."""
        return self.trigger(data)
