"""Targeted poisoning: misclassification of a few chosen inputs."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.parameters import BelowOne, Count, Index, NonNegative
from benchmark.settings.collaboration.games.contributions import MaliciousClientView
from benchmark.settings.threat import Floor
from benchmark.threats.poisoning.data_poison import DataPoison

VERSION = 4


class TargetedSamples(DataPoison):
    """Attack that adds mislabelled near copies of k chosen test inputs of one class to the malicious parties' data.

    The targeted attack of Chaudhari, Jagielski, Oprea, *SafeNet: The Unreasonable Effectiveness of Ensembles in Private
    Collaborative Learning*, IEEE SaTML 2023 (TGT-Top and TGT-Foot; their budget is our choice). The clean model
    selects among the inputs that it classifies rightly: ``top`` takes those of which it is most confident, the hardest
    to flip, ``foot`` the least confident (of an ensemble: those with the narrowest votes); ``random`` any. Success: the
    share of these inputs that are predicted as the target, which without an attack is 0.

    Args:
        source: class of the chosen inputs.
        target: class that they should get.
        pick: ``top``, ``foot`` or ``random``.
        inputs: k, how many are chosen; fewer where fewer are classified rightly.
        copies: total number that each malicious party inserts.
        jitter: standard deviation of Gaussian noise on each copy's values above 0, for inputs in [0, 1].
    """

    headline = "attack_success"
    floor = Floor("attack_success", 0.5)
    knowledge = frozenset({"targets"})

    def __init__(
        self,
        *,
        source: Index = 3,
        target: Index = 8,
        pick: Literal["top", "foot", "random"] = "top",
        inputs: Count = 50,
        copies: Count = 100,
        jitter: NonNegative = 0.02,
        fraction: BelowOne = 0.2,
        follows_exchange: bool = True,
    ) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange)
        if source == target:
            raise ConfigError(f"threat.source and threat.target must differ, both are {source}.")
        self.source, self.target, self.pick = source, target, pick
        self.inputs, self.copies, self.jitter = inputs, copies, jitter

    def goal(self, test: Split, clean: Tensor) -> Split:
        of_source = test.y == self.source
        right = of_source & (clean.argmax(dim=1) == self.source)
        rows = (right if right.any() else of_source).nonzero().squeeze(1)  # a useless model has no right inputs
        if self.pick != "random":  # test samples come in random order
            confidence = clean.softmax(dim=1)[rows, self.source]
            rows = rows[confidence.argsort(descending=self.pick == "top", stable=True)]
        rows = rows[: self.inputs]
        return Split(test.x[rows], torch.full_like(test.y[rows], self.target))

    def poison_data(self, data: Split, party: MaliciousClientView, rng: torch.Generator) -> Split:
        assert party.goal is not None
        rows = torch.arange(self.copies) % len(party.goal)
        noise = torch.randn(self.copies, *data.x.shape[1:], generator=rng).to(data.x)
        # Noise on a blank background would distinguish the copies from the chosen inputs, which have none.
        x = (party.goal.x[rows] + self.jitter * noise * (party.goal.x[rows] > 0)).clamp(0, 1)
        return Split(torch.cat([data.x, x]), torch.cat([data.y, party.goal.y[rows]]))
