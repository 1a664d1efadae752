"""FLTrust: uploads are trusted as far as they point where the server's own update points (Cao et al., NDSS 2021)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.defenses.base import Defense, Round
from benchmark.errors import ConfigError

VERSION = 1


class FLTrust(Defense):
    """Gives sum_i TS_i (||u_0|| / ||u_i||) u_i / sum_i TS_i with TS_i = max(0, cos(u_i, u_0)).

    Cao, Fang, Liu, Gong, *FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping*, NDSS 2021,
    equations 2-4. u_0 is the update that the server computes on its own clean samples (the calibration split). A round
    in which nobody is trusted changes nothing.
    """

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        if round.server_update is None:
            raise ConfigError(
                "fltrust needs samples of the server's own, but dataset.sizes.calibration is 0; raise it (the paper "
                "uses 100)."
            )
        own = round.server_update()
        trust = F.cosine_similarity(uploads, own[None], dim=1).clamp_min(0)
        if not trust.sum() > 0:
            return torch.zeros_like(own)
        scaled = F.normalize(uploads, dim=1) * own.norm()
        return trust @ scaled / trust.sum()
