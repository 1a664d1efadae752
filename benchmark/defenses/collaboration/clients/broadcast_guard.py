"""Guard on the broadcast: parties inspect the model that the server sends before they train it.

A baseline detector of this suite (after Gilbert 2022, arXiv 2211.06324; a reconstruction). It looks for two signs: a
first linear layer whose rows are nearly all parallel, as in imprint modules, and a tensor that has moved much further
in one round than its own entries spread.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.parameters import Positive, Share
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.functional import Layout, Net

VERSION = 1
EPS = 1e-12


class BroadcastGuard(FederatedDefense):
    """Client defense that refuses a model that looks manipulated; a party that refuses uploads nothing.

    Args:
        cosine: rows of the first layer with an absolute cosine above this count as parallel.
        parallel: share of parallel pairs of rows above which a model is refused.
        deviations: k; a model is refused when the root mean square change of any tensor since the last model exceeds k
            times the standard deviation of all parameters of that model. Only models of one architecture are compared.
    """

    def __init__(self, *, cosine: Share = 0.999, parallel: Share = 0.9, deviations: Positive = 3.0) -> None:
        self.cosine, self.parallel, self.deviations = cosine, parallel, deviations

    def facts(self) -> dict[str, Any]:
        return {"screen_cosine": self.cosine}

    def start(self, parties: int, layout: Layout) -> None:
        self.last: tuple[Layout, Tensor] | None = None

    def screen_broadcast(self, net: Net, params: Tensor, round: Round) -> Tensor:
        """Return the parties that accept their model; the first row is kept as the last model."""
        models = params if params.ndim == 2 else params[None]
        verdicts = torch.tensor([not self._suspicious(net.layout, model) for model in models])
        if bool(verdicts[0]):
            self.last = (net.layout, models[0].detach().clone())
        return verdicts.expand(len(round.parties)).clone()

    def _suspicious(self, layout: Layout, params: Tensor) -> bool:
        if parallel_share(layout, params, self.cosine) > self.parallel:
            return True
        if self.last is None or self.last[0] != layout:
            return False
        moved = (params - self.last[1]).square()
        spread = self.last[1].std()
        return any(moved[part].mean().sqrt() > self.deviations * spread for part in layout.slices().values())


def parallel_share(layout: Layout, params: Tensor, cosine: float) -> float:
    """Return the share of pairs of rows of the first parameter (rows, inputs) with an absolute cosine above ``cosine``.

    It is 0 when the first layer is not linear or has one row.
    """
    if len(layout.shapes[0]) != 2 or layout.shapes[0][0] < 2:
        return 0.0
    rows = F.normalize(next(iter(layout.split(params).values())), dim=1, eps=EPS)
    count = len(rows)
    alike = ((rows @ rows.T).abs() > cosine).sum().item() - count
    return max(0.0, alike / (count * (count - 1)))
