"""Uploads reduced to their signs, a defense from outside the suite."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class SignUpload(FederatedDefense):
    """Defense in which each party sends the signs of its update and one magnitude a layer.

    After signSGD (Bernstein et al., ICML 2018).

    Args:
        share: of the coordinates, drawn anew in every round, whose sign is sent; the others are 0 and publicly so.
    """

    def __init__(self, *, share: float) -> None:
        if not 0 < share <= 1:
            raise ConfigError(f"sign_upload.share must be in (0, 1], got {share}.")
        self.share = share

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        """Return the protected ``updates``, both (n, d) with a row a party."""
        sent = torch.zeros_like(updates)
        for part in round.layout.slices().values():
            tensor = updates[:, part]
            sent[:, part] = tensor.sign() * tensor.abs().mean(dim=1, keepdim=True)
        keep = torch.rand(updates.shape[1], generator=round.rng).to(updates.device) < self.share
        round.publish(mask=keep)  # an adaptive attack knows which coordinates tell something
        return sent * keep
