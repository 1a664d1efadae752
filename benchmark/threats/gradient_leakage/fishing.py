"""Fishing for a class: a last layer that lets only samples of one class change the rest of the model.

Wen, Geiping, Fowl, Goldblum, Goldstein, *Fishing for User Data in Large-Batch Federated Learning via Gradient
Magnification*, ICML 2022 (arXiv 2202.00580), class fishing. The architecture stays as agreed on. Deviations: the other
classes' weights are zero rather than small, the caught sample is read off the first layer in closed form, and samples
that share their class in a batch are not told apart by a feature (feature fishing): they come back mixed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.errors import Refused, positive
from benchmark.settings.collaboration.games.broadcast import BroadcastSurface, DownlinkSurface, Query
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.threat import Floor
from benchmark.threats.gradient_leakage.analytic import least_squares
from benchmark.threats.gradient_leakage.voiding import MaliciousServer, padded
from benchmark.training.functional import Layout

VERSION = 1
SURPRISE = -1000.0  # the fished class's bias: its samples come as a full surprise, and no other sample believes in it
FAINT = 1e-3  # a bait whose gradient is so much weaker than the strongest has caught nothing


class Fishing(MaliciousServer):
    """One bait a class.

    With all other rows zero and the class c given no probability, a sample of class c sends -W_c back and any other
    sends nothing, so the gradient of the body is that of the samples of class c.

    Args:
        gain: factor of the fished class's weights, so of the gradient.
        voiding, observations, adaptive: see :class:`~.voiding.MaliciousServer`.
    """

    needs = {"model.first_layer": "linear"}
    floor = Floor("recovered_share", 0.1)

    def __init__(self, *, gain: float, voiding: str, observations: int, adaptive: bool) -> None:
        super().__init__(voiding=voiding, observations=observations, adaptive=adaptive)
        positive("threat.gain", gain)
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
            biases[label] = SURPRISE
            live[bias] = biases
            queries += self.bait(net, live, dead, downlink.parties)
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
    """Where weight (classes, features) and bias (classes,) of the last layer lie.

    Raises:
        Refused: the last layer is not linear with a bias.
    """
    if len(layout.shapes[-1]) != 1 or len(layout.shapes[-2]) != 2:
        raise Refused("Fishing needs a last linear layer with a bias.")
    weight, bias = list(layout.slices().values())[-2:]
    return weight, bias


def _inputs(totals: Tensor, layout: Layout) -> Tensor:
    """(m, pixels) the inputs behind those of the gradients (classes, d) that a sample caused, strongest first."""
    weight, bias = list(layout.split(totals).values())[:2]
    pull = bias.norm(dim=1)
    order = pull.argsort(descending=True)
    order = order[pull[order] > FAINT * pull.max()]
    found = least_squares(weight, bias, torch.ones_like(weight).bool(), torch.ones_like(bias).bool())
    return found[order, 0]
