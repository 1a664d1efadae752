"""FLTrust: weigh uploads by their cosine with the server's own update (Cao et al., NDSS 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1
MIN_NORM = 1e-12  # in place of the norm of an all-zero update


class FLTrust(FederatedDefense):
    """Aggregation rule sum_i TS_i (||u_0|| / ||u_i||) u_i / sum_i TS_i with trust scores TS_i = max(0, cos(u_i, u_0)).

    Cao, Fang, Liu, Gong, *FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping*, NDSS 2021,
    equations 2-4. u_0 is the update that the server computes on its own clean samples (the calibration split). If all
    trust scores are 0, the round changes nothing.

    Raises:
        ConfigError: when it aggregates and the server has no samples.
    """

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        if round.server_update is None:
            raise ConfigError(
                "fltrust needs samples of the server's own, but dataset.sizes.calibration is 0; raise it (the paper "
                "uses 100)."
            )
        own = round.server_update()
        norms = uploads.norm(dim=1).clamp_min(MIN_NORM)
        trust = (uploads @ own / (norms * own.norm().clamp_min(MIN_NORM))).clamp_min(0)
        if not trust.sum() > 0:
            return torch.zeros_like(own)
        return (trust * own.norm() / norms) @ uploads / trust.sum()
