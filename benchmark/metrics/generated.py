"""What generated images give away about a private class: images that a judge recognises and that lie near real ones.

Recognition alone misleads: a generator trained against a model gets images that even an independent judge takes for the
class though they lie far from every real image. So recognition and nearness are asked of every single sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEAR = 1.5


def nearest(samples: Tensor, reference: Tensor) -> Tensor:
    """L2 distance of each sample to the closest reference, (m, ...), (n, ...) -> float64 (m,)."""
    return torch.cdist(samples.flatten(1).double(), reference.flatten(1).double()).min(dim=1).values


def score_class(samples: Tensor, logits: Tensor, target: int, private: Tensor, held_out: Tensor) -> dict[str, float]:
    """How well samples show the class ``target`` of which the victim holds ``private``.

    Args:
        samples: (m, ...) in [0, 1]; logits: (m, classes) of a judge that shares no training image with the attacked
            model.
        private: (n, ...) the victim's images of the class; held_out: (k, ...) real images of it that nobody trained on.

    Returns:
        * ``class_recovery``: share of samples, in [0, 1], that the judge puts into the class and that lie within 1.5
          times the distance at which real held-out images lie from the private ones; higher is worse.
        * ``asr``: share that the judge puts into the class, in [0, 1], wherever they lie.
        * ``nnr``: mean distance to the nearest private image over that of held-out images; 1 is as near as real ones.
        * ``prototype_error``: mean squared difference between the mean sample and the mean private image.
        * ``diversity``: mean standard deviation of a pixel over that of private images; 0 is a collapsed generator.
        * ``record_gap``: mean distance to private less mean distance to as many held-out images, over the held-out
          scale: clearly below 0 means that single records were memorised, not just the class.
    """
    scale = nearest(held_out, private).mean()
    near = nearest(samples, private) / scale
    hit = logits.argmax(dim=1) == target
    size = min(len(private), len(held_out))
    gap = nearest(samples, private[:size]) - nearest(samples, held_out[:size])
    return {
        "class_recovery": (hit & (near < NEAR)).double().mean().item(),
        "asr": hit.double().mean().item(),
        "nnr": near.mean().item(),
        "prototype_error": (samples.mean(dim=0) - private.mean(dim=0)).square().mean().item(),
        "diversity": (spread(samples) / spread(private)).item(),
        "record_gap": (gap.mean() / scale).item(),
    }


def spread(x: Tensor) -> Tensor:
    """Mean over pixels of the standard deviation over samples, (n, ...) -> scalar."""
    return x.std(dim=0, correction=0).mean()
