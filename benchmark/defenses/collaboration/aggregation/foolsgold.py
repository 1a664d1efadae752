"""FoolsGold: down-weigh parties whose updates resemble each other too much (Fung et al., RAID 2020)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from benchmark.errors import ConfigError
from benchmark.parameters import NonNegative
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.functional import Layout

VERSION = 2
MAX_WEIGHT = 0.99  # in place of a weight of 1, whose logit is infinite (as in the authors' code)


class FoolsGold(FederatedDefense):
    """Aggregation rule that weighs each upload by how little its party's summed history H_i resembles any other.

    Fung, Yoon, Beschastnikh, *The Limitations of Federated Learning in Sybil Settings*, RAID 2020, algorithm 1. It
    targets parties with a common goal and assumes non-IID honest data: with IID data honest parties resemble each other
    as well. Every party's history counts, also of those that a round leaves out: otherwise a malicious party that the
    server samples alone has no twin. Deviation: the weights of a round's parties are normalised to sum 1, so that the
    step keeps its size; if all are 0, the round changes nothing.

    Args:
        features: ``last_layer`` compares only the last weight and bias (the paper's indicative features), ``all`` every
            parameter.
        confidence: kappa of the logit.
    """

    def __init__(self, *, features: Literal["last_layer", "all"] = "last_layer", confidence: NonNegative = 1.0) -> None:
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
        weights = foolsgold_weights(self.history, self.confidence)[parties].to(uploads)
        return weights @ uploads / weights.sum().clamp_min(1e-20)


def foolsgold_weights(history: Float[Tensor, "n features"], confidence: float) -> Float[Tensor, " n"]:
    """Return weights (n,) in [0, 1] from histories (n, features): 0 for a party with an identical twin.

    An all-zero history, of a party that has not taken part yet, resembles none.

    cs_ij is the cosine of H_i and H_j (0 for i = j), v_i = max_j cs_ij; "pardoning" scales cs_ij by v_i / v_j where
    v_i < v_j; the weight is a = 1 - max_j cs_ij, scaled to a maximum of 1, then kappa (ln(a / (1 - a)) + 1/2), all
    clipped to [0, 1].
    """
    if len(history) == 1:
        return torch.ones(1)
    unit = F.normalize(history, dim=1)
    cosine = (unit @ unit.T).fill_diagonal_(0)
    max_cosine = cosine.max(dim=1).values
    pardoned = max_cosine[:, None] < max_cosine[None, :]
    cosine = torch.where(pardoned, cosine * max_cosine[:, None] / max_cosine[None, :], cosine)
    weights = (1 - cosine.max(dim=1).values).clamp(0, 1)
    weights = (weights / weights.max().clamp_min(1e-20)).clamp_max(MAX_WEIGHT)
    return (confidence * (torch.log(weights / (1 - weights)) + 0.5)).clamp(0, 1)
