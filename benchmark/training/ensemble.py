"""Several models of one architecture that vote."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F

from benchmark.training.functional import Net


@dataclass
class VotingEnsemble:
    """One vote an owner; the most votes win, and of equal ones the smallest label.

    As a predictor it gives the votes as logits, (n, ...) -> (n, classes). Who uses it gets the winner only.

    Attributes:
        net, models: architecture and the owners' parameters (owners, d).
        counted: bool (owners,), whose votes count.
        scores: (owners,), accuracy on the common validation samples, which decided that.
        threshold: that a score had to exceed.
        noise_std: of Gaussian noise on each number of votes, for each prediction anew.
        rng: of that noise.
        answered: predictions given so far, each of which spends privacy.
        fixed: owner -> the label that this owner's model says to every input, whatever its parameters.
    """

    net: Net
    models: Tensor
    counted: Tensor
    scores: Tensor
    threshold: float
    noise_std: float
    rng: torch.Generator
    answered: int = 0
    fixed: dict[int, int] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        self.answered += len(x)
        votes = self.votes(x)
        if self.noise_std == 0:
            return votes
        return votes + self.noise_std * torch.randn(votes.shape, generator=self.rng).to(votes)

    @torch.no_grad()
    def ballots(self, x: Tensor, batch_size: int = 1024) -> Tensor:
        """What each owner's model says, int64 (owners, n)."""
        say = vmap(self.net.logits, in_dims=(0, None))
        said = torch.cat([say(self.models, part).argmax(dim=2) for part in x.split(batch_size)], dim=1)
        for owner, label in (self.fixed or {}).items():
            said[owner] = label
        return said

    def votes(self, x: Tensor) -> Tensor:
        """How many owners whose votes count say each class, float (n, classes)."""
        classes = self.net.logits(self.models[0], x[:1]).shape[1]
        return F.one_hot(self.ballots(x)[self.counted], classes).sum(dim=0).float()

    def with_fixed(self, owners: Tensor, label: int) -> VotingEnsemble:
        """The same, but these owners' models pass the filter and then always say ``label``."""
        counted = self.counted.clone()
        counted[owners] = True
        return replace(self, counted=counted, fixed=dict.fromkeys(owners.tolist(), label))
