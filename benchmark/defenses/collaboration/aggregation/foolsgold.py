"""FoolsGold: parties whose updates resemble each other too much lose their weight (Fung et al., RAID 2020)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.errors import ConfigError
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.functional import Layout

VERSION = 1
CERTAIN = 0.99  # stands for a weight of 1, whose logit is infinite (the authors' code)


class FoolsGold(FederatedDefense):
    """Weighs uploads by how little a party's summed history H_i resembles any other's.

    Fung, Yoon, Beschastnikh, *The Limitations of Federated Learning in Sybil Settings*, RAID 2020, algorithm 1. It
    targets parties with a common goal and presumes that honest data are non-IID: with IID data honest parties resemble
    each other as well. Deviation: weights are normalised to sum 1, so that the step keeps its size.

    Args:
        features: ``last_layer`` compares the last weight and bias only (the paper's indicative features), ``all`` all.
        confidence: kappa of the logit.
    """

    def __init__(self, *, features: str, confidence: float) -> None:
        if features not in ("last_layer", "all"):
            raise ConfigError(f"defense.foolsgold.features must be last_layer or all, got {features!r}.")
        self.features, self.confidence = features, confidence

    def start(self, parties: int, layout: Layout) -> None:
        first = list(layout.slices().values())[-2:][0].start if self.features == "last_layer" else 0
        self.indicative = slice(first, layout.size)
        self.history = torch.zeros(parties, layout.size - first)

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        parties = round.parties[round.active]
        if len(parties) != len(uploads):
            raise ConfigError(
                "foolsgold remembers parties, and mixed uploads are no single party's; leave bucketing out."
            )
        self.history[parties] += uploads[:, self.indicative].cpu()
        weights = foolsgold_weights(self.history[parties], self.confidence).to(uploads)
        return weights @ uploads / weights.sum().clamp_min(1e-20)


def foolsgold_weights(history: Tensor, confidence: float) -> Tensor:
    """(n, features) -> (n,) in [0, 1]: 0 for a party with a double.

    cs_ij is the cosine of H_i and H_j (0 for i = j), v_i = max_j cs_ij; "pardoning" scales cs_ij by v_i / v_j where
    v_i < v_j; the weight is a = 1 - max_j cs_ij, scaled to a maximum of 1, then kappa (ln(a / (1 - a)) + 1/2), all cut
    to [0, 1].
    """
    if len(history) == 1:
        return torch.ones(1)
    unit = F.normalize(history, dim=1)
    cosine = (unit @ unit.T).fill_diagonal_(0)
    likeness = cosine.max(dim=1).values
    forgiven = likeness[:, None] < likeness[None, :]
    cosine = torch.where(forgiven, cosine * likeness[:, None] / likeness[None, :], cosine)
    weights = (1 - cosine.max(dim=1).values).clamp(0, 1)
    weights = (weights / weights.max().clamp_min(1e-20)).clamp_max(CERTAIN)
    return (confidence * (torch.log(weights / (1 - weights)) + 0.5)).clamp(0, 1)
