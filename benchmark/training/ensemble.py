"""Voting ensemble of models of one architecture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F

from benchmark.training.functional import Net


@dataclass
class VotingEnsemble:
    """One vote per owner; the most votes win, and on a tie the smallest label.

    As a predictor it returns the votes as logits, (n, ...) -> (n, classes). Users get only the winner.

    Attributes:
        net: architecture.
        models: the owners' parameters (owners, d).
        counted: bool (owners,), whose votes count.
        scores: (owners,), accuracy on the common validation samples, which decides whose votes count.
        threshold: that a score had to exceed.
        noise_std: of Gaussian noise on each number of votes, drawn anew for each prediction.
        rng: of that noise.
        answered: predictions so far, each of which spends privacy.
        fixed: owner -> the label that this owner's model predicts for every input, whatever its parameters.
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
        """Return the predictions of each owner's model, int64 (owners, n)."""
        logits = vmap(self.net.logits, in_dims=(0, None))
        predicted = torch.cat([logits(self.models, part).argmax(dim=2) for part in x.split(batch_size)], dim=1)
        for owner, label in (self.fixed or {}).items():
            predicted[owner] = label
        return predicted

    def votes(self, x: Tensor) -> Tensor:
        """Return the number of counted votes for each class, float (n, classes)."""
        classes = self.net.logits(self.models[0], x[:1]).shape[1]
        return F.one_hot(self.ballots(x)[self.counted], classes).sum(dim=0).float()

    def with_fixed(self, owners: Tensor, label: int) -> VotingEnsemble:
        """Return a copy in which these owners' models pass the filter and always predict ``label``."""
        counted = self.counted.clone()
        counted[owners] = True
        return replace(self, counted=counted, fixed=dict.fromkeys(owners.tolist(), label))
