"""Edge-case backdoor: inputs in the tail of the distribution, without a trigger stamped on them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.parameters import BelowOne, Index
from benchmark.settings.collaboration.games.contributions import MaliciousClientView
from benchmark.settings.threat import Floor
from benchmark.threats.poisoning.data_poison import DataPoison

VERSION = 1


class EdgeCase(DataPoison):
    """Backdoor trained on rare forms of one class, labelled as another, beside the own samples.

    Wang et al., *Attack of the Tails: Yes, You Really Can Backdoor Federated Learning*, NeurIPS 2020, section 3: the
    poison comes from a region where honest parties have almost no samples, so their updates do not undo it and the rest
    of the model changes little. The paper's tails are digits in other people's handwriting or airliners of one company.
    Deviation: here the tail is the own samples of the source class upside down. Success: the share of the source
    class's test samples, upside down, that are predicted as the target.

    Args:
        source, target: classes.
        share: of such samples in the training data of a malicious party, in [0, 1).
    """

    headline = "attack_success"
    floor = Floor("attack_success", 0.5)
    needs = {"dataset.kind": "image"}

    def __init__(
        self,
        *,
        source: Index = 7,
        target: Index = 0,
        share: BelowOne = 0.5,
        fraction: BelowOne = 0.2,
        follows_exchange: bool = True,
    ) -> None:
        super().__init__(fraction=fraction, follows_exchange=follows_exchange)
        if source == target:
            raise ConfigError(f"threat.source and threat.target must differ, both are {source}.")
        self.source, self.target, self.share = source, target, share

    def goal(self, test: Split, clean: Tensor) -> Split:
        tail = upside_down(test.x[test.y == self.source])
        return Split(tail, torch.full((len(tail),), self.target).to(test.y))

    def poison_data(self, data: Split, party: MaliciousClientView, rng: torch.Generator) -> Split:
        tail = upside_down(data.x[data.y == self.source])
        if not len(tail):  # a party without the class has no tail of it
            return data
        count = round(len(data) * self.share / (1 - self.share))
        tail = tail[torch.arange(count) % len(tail)]
        return Split(torch.cat([data.x, tail]), torch.cat([data.y, torch.full((count,), self.target).to(data.y)]))


def upside_down(x: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n channels height width"]:
    """Return images with their rows in reverse order."""
    return x.flip(-2)
