"""Closed-form inputs of a fully connected first layer: x = dL/dW_i / dL/db_i.

Phong, Aono, Hayashi, Wang, Moriai, *Privacy-Preserving Deep Learning via Additively Homomorphic Encryption*, IEEE TIFS
2018, eq. 6; Geiping, Bauermeister, Dröge, Moeller, *Inverting Gradients*, NeurIPS 2020, Proposition 3.1. Exact for one
sample; in a batch, a row that only one sample activates still gives that sample.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from benchmark.parameters import Count
from benchmark.settings.collaboration.games.uploads import UploadSurface, UploadThreat
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.threat import Floor
from benchmark.threats.gradient_leakage.labels import restore_labels
from benchmark.threats.gradient_leakage.matching import targets_of

VERSION = 1


def row_ratio(
    weight: Float[Tensor, "n hidden inputs"], bias: Float[Tensor, "n hidden"], batch: int
) -> Float[Tensor, "n batch inputs"]:
    """Return the ``batch`` rows with the largest bias gradient, each divided by it.

    Rows that do not exist or have no bias gradient are 0.

    Args:
        weight: gradient of the first layer's weights.
        bias: gradient of its biases.
        batch: number of rows.
    """
    strongest = bias.abs().topk(min(batch, bias.shape[1]), dim=1).indices
    divisor = bias.gather(1, strongest)
    rows = weight.gather(1, strongest[..., None].expand(-1, -1, weight.shape[2]))
    found = torch.where(divisor[..., None] != 0, rows / divisor[..., None], 0.0)
    return torch.nn.functional.pad(found, (0, 0, 0, batch - found.shape[1]))


def least_squares(
    weight: Float[Tensor, "n hidden inputs"],
    bias: Float[Tensor, "n hidden"],
    weight_mask: Bool[Tensor, "n hidden inputs"],
    bias_mask: Bool[Tensor, "n hidden"],
) -> Float[Tensor, "n 1 inputs"]:
    """Return the x that minimises sum_i (dW_i - db_i x)^2 over all transmitted entries, for a single sample.

    It averages independent noise on the rows and needs only one transmitted row for each pixel.

    Args:
        weight, bias: as in :func:`row_ratio`.
        weight_mask, bias_mask: transmitted entries.
    """
    pair = (weight_mask & bias_mask[..., None]).to(weight)
    top = (pair * weight * bias[..., None]).sum(dim=1)
    bottom = (pair * bias.square()[..., None]).sum(dim=1)
    return torch.where(bottom > 0, top / bottom.clamp_min(1e-20), 0.0).unsqueeze(1)


class AnalyticFC(UploadThreat):
    """Attack that divides rows of the first layer's weight gradient by their bias gradient.

    Args:
        observations: rounds averaged by the adaptive form.
        adaptive: the adversary reads what the defense publishes, see :func:`~.matching.targets_of`; for single samples
            it also combines all transmitted rows.
    """

    family = "gradient_leakage"
    headline = "ssim"
    floor = Floor("ssim", 0.9)
    needs = {"model.first_layer": "linear"}

    def __init__(self, *, observations: Count = 100, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.observations = observations if adaptive else 1

    def attack(self, surface: UploadSurface, rng: torch.Generator) -> Reconstruction:
        targets = targets_of(surface, self.adaptive)
        layout = surface.net.layout
        samples = targets.members * surface.batch_size
        weight, bias = list(layout.split(targets.gradients).values())[:2]
        if self.adaptive and samples == 1:
            mask = targets.mask if targets.mask is not None else torch.ones_like(targets.gradients, dtype=torch.bool)
            found = least_squares(weight, bias, *list(layout.split(mask).values())[:2])
        else:
            found = row_ratio(weight, bias, samples)
        x = found.view(len(found), samples, *surface.shape).clamp(0, 1)
        labels = restore_labels(targets.gradients, layout, samples)
        return Reconstruction(targets.scatter(x), targets.scatter(labels), targets.groups)
