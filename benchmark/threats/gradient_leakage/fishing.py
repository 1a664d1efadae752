"""Class fishing: a last layer that lets only samples of one class change the rest of the model.

Wen, Geiping, Fowl, Goldblum, Goldstein, *Fishing for User Data in Large-Batch Federated Learning via Gradient
Magnification*, ICML 2022 (arXiv 2202.00580), class fishing. The architecture stays as agreed. Deviations: the other
classes' weights are zero rather than small, the isolated sample is read from the first layer in closed form, and
samples of one class in a batch are not separated by a feature (feature fishing): their mixture is returned.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from benchmark.errors import Refused
from benchmark.parameters import Count, Positive
from benchmark.settings.collaboration.games.broadcast import BroadcastSurface, DownlinkSurface, Query
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.threat import Floor
from benchmark.threats.gradient_leakage.analytic import least_squares
from benchmark.threats.gradient_leakage.voiding import MaliciousServer, padded
from benchmark.training.functional import Layout

VERSION = 1
FISHED_BIAS = -1000.0  # bias of the fished class: every sample gets probability 0 for it, its own samples too
WEAKEST = 1e-3  # a gradient weaker than this share of the strongest comes from no sample of its class


class Fishing(MaliciousServer):
    """Malicious server that sends one modified last layer for each class.

    With all other rows zero and probability 0 for the class c, a sample of class c returns the gradient -W_c and any
    other sample returns none, so the gradient of the body is that of the samples of class c.

    Args:
        gain: factor of the fished class's weights, and thus of the gradient.
        voiding, observations, adaptive: see :class:`~.voiding.MaliciousServer`.
    """

    needs = {"model.first_layer": "linear"}
    floor = Floor("recovered_share", 0.1)

    def __init__(
        self,
        *,
        gain: Positive = 10.0,
        voiding: Literal["none", "sybil", "inconsistency"] = "none",
        observations: Count = 20,
        adaptive: bool = False,
    ) -> None:
        super().__init__(voiding=voiding, observations=observations, adaptive=adaptive)
        self.gain = gain

    def queries(self, downlink: DownlinkSurface, rng: torch.Generator) -> list[Query]:
        net = downlink.net
        weight, bias = _head(net.layout)
        dead = downlink.params.clone()
        dead[weight] = 0.0
        queries = []
        for label in range(downlink.num_classes):
            live = dead.clone()
            rows = live[weight].view(downlink.num_classes, -1)
            rows[label] = self.gain * downlink.params[weight].view_as(rows)[label]
            biases = torch.zeros(downlink.num_classes, device=live.device)
            biases[label] = FISHED_BIAS
            live[bias] = biases
            queries += self.malicious_queries(net, live, dead, downlink.parties)
        return queries

    def attack(self, surface: BroadcastSurface, rng: torch.Generator) -> Reconstruction:
        layout = surface.queries[0].net.layout
        parties = surface.answers[0].uploads.shape[1]
        x = torch.zeros((parties, surface.batch_size, *surface.shape), device=surface.answers[0].uploads.device)
        groups = torch.arange(parties)
        for members, totals in self.sums(surface):
            groups[members] = members[0]
            count = len(members) * surface.batch_size
            found = padded(_inputs(torch.stack(totals), layout), count)
            x[members] = found.view(len(members), surface.batch_size, *surface.shape)
        return Reconstruction(x.nan_to_num(0.0).clamp(0, 1), groups=groups)


def _head(layout: Layout) -> tuple[slice, slice]:
    """Return where weight (classes, features) and bias (classes,) of the last layer lie.

    Raises:
        Refused: the last layer is not linear with a bias.
    """
    if len(layout.shapes[-1]) != 1 or len(layout.shapes[-2]) != 2:
        raise Refused("Fishing needs a last linear layer with a bias.")
    weight, bias = list(layout.slices().values())[-2:]
    return weight, bias


def _inputs(totals: Tensor, layout: Layout) -> Tensor:
    """Return the inputs (m, pixels) behind the gradients (classes, d) that samples caused, strongest first."""
    weight, bias = list(layout.split(totals).values())[:2]
    strength = bias.norm(dim=1)
    order = strength.argsort(descending=True)
    order = order[strength[order] > WEAKEST * strength.max()]
    found = least_squares(weight, bias, torch.ones_like(weight).bool(), torch.ones_like(bias).bool())
    return found[order, 0]
