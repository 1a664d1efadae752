"""Label restoration from the gradient of the last layer: exact for one sample, by counting for a batch.

All rules work on the gradient of a mean cross-entropy over ``batch`` samples. One sample: Zhao, Mopuri, Bilen, *iDLG*,
2020 (arXiv 2001.02610). Batches: Wainakh et al., *User-Level Label Leakage from Gradients in Federated Learning*, 2021
(arXiv 2105.09369); Yin et al., *See through Gradients*, CVPR 2021.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmark.errors import ConfigError, Refused
from benchmark.parameters import Count
from benchmark.settings.collaboration.games.uploads import UploadSurface, UploadThreat
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.threat import Floor
from benchmark.threats.gradient_leakage.matching import targets_of
from benchmark.training.functional import Layout

VERSION = 1
METHODS = ("bias_corrected", "row_minimum", "row_sum")


def restore_labels(
    gradients: Float[Tensor, "n d"], layout: Layout, batch: int, method: str = "bias_corrected"
) -> Int[Tensor, "n batch"]:
    """Return the labels of the batch behind each gradient, in no particular order.

    Args:
        method: ``bias_corrected`` takes every class with a negative bias gradient once, then repeatedly the most
            negative one, each time adding back one sample's average share of the negative mass. ``row_sum`` does the
            same with the row sums of the last weight matrix, for models without a last bias (Wainakh et al. 2021).
            ``row_minimum`` takes the ``batch`` classes with the smallest row minimum (Yin et al. 2021; assumes that no
            label repeats).

    Raises:
        ConfigError: an unknown method.
    """
    if method not in METHODS:
        raise ConfigError(f"labels are restored by one of {list(METHODS)}, not by {method!r}.")
    parts = layout.split(gradients)
    weight = parts[[name for name, shape in zip(layout.names, layout.shapes, strict=True) if len(shape) == 2][-1]]
    if method == "row_minimum":
        order = weight.amin(dim=-1).argsort(dim=-1)
        return order.repeat(1, -(-batch // order.shape[1]))[:, :batch]
    last = layout.names[-1]
    score = parts[last] if method == "bias_corrected" and len(parts[last].shape) == 2 else weight.sum(dim=-1)
    score = score.clone()
    if batch == 1:
        return score.argmin(dim=-1, keepdim=True)  # iDLG (Zhao et al. 2020): the only negative entry is the label's
    share = score.clamp_max(0).sum(dim=-1) / batch
    certain = score < 0  # only a class that is in the batch can have a negative entry
    found = []
    for _ in range(batch):
        label = score.masked_fill(~certain & certain.any(dim=1, keepdim=True), float("inf")).argmin(dim=-1)
        score.scatter_add_(1, label[:, None], -share[:, None])
        certain.scatter_(1, label[:, None], False)
        found.append(label)
    return torch.stack(found, dim=1)


class LabelRestoration(UploadThreat):
    """Attack that reads the labels of a batch from the last layer (iDLG and its extensions to batches).

    Args:
        method: see :func:`restore_labels`.
        observations: rounds averaged by the adaptive form.
    """

    family = "gradient_leakage"
    headline = "label_accuracy"
    floor = Floor("label_accuracy", 0.9)

    def __init__(self, *, method: str = "bias_corrected", observations: Count = 100, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.method = method
        self.observations = observations if adaptive else 1

    def attack(self, surface: UploadSurface, rng: torch.Generator) -> Reconstruction:
        if len(surface.net.layout.shapes[-1]) != 1:
            raise Refused("Label restoration needs a last linear layer with a bias.")
        targets = targets_of(surface, self.adaptive)
        batch = targets.members * surface.batch_size
        labels = restore_labels(targets.gradients, surface.net.layout, batch, self.method)
        return Reconstruction(None, targets.scatter(labels), targets.groups)
