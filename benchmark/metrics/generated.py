"""Class recovery by generated images: images that a judge recognises and that lie near real ones.

Recognition alone misleads: a generator trained against a model gets images that even an independent judge takes for the
class though they lie far from every real image. So recognition and nearness are asked of every single sample.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.metrics.images import ssim

NEAR = 1.5


def nearest(samples: Float[Tensor, " m *sample"], reference: Float[Tensor, " n *sample"]) -> Float[Tensor, " m"]:
    """Return the L2 distance of each sample to the closest reference, float64."""
    return _closest(samples, reference)[0]


def _closest(samples: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Return distances as :func:`nearest`, and which reference is the closest, int64 (m,)."""
    found = torch.cdist(samples.flatten(1).double(), reference.flatten(1).double()).min(dim=1)
    return found.values, found.indices


def score_class(
    samples: Float[Tensor, " m *sample"],
    logits: Float[Tensor, "m classes"],
    target: int,
    private: Float[Tensor, " n *sample"],
    held_out: Float[Tensor, " k *sample"],
) -> dict[str, float]:
    """Return scores of samples that should show the class ``target``, of which the victim holds ``private``.

    Args:
        samples: (m, ...) in [0, 1]; logits: (m, classes) of a judge that shares no training image with the attacked
            model.
        private: (n, ...) the victim's images of the class; held_out: (k, ...) real images of it that nobody trained on.

    Returns:
        * ``class_recovery``: share of samples, in [0, 1], that the judge puts into the class and that lie within 1.5
          times the distance at which real held-out images lie from the private ones; higher is worse.
        * ``asr``: share that the judge puts into the class, in [0, 1], wherever they lie.
        * ``confidence``: mean probability that the judge gives to the class, in [0, 1].
        * ``nnr``: mean distance to the nearest private image over that of held-out images; 1 is as near as real ones.
        * ``prototype_error``: mean squared difference between the mean sample and the mean private image.
        * ``prototype_ssim``: SSIM of the mean sample with the mean private image, in [-1, 1] (images only).
        * ``class_ssim``: mean SSIM of each sample with the private image nearest to it, in [-1, 1] (images only).
        * ``diversity``: mean standard deviation of a pixel over that of private images; 0 is a collapsed generator.
        * ``record_gap``: mean distance to private less mean distance to as many held-out images, over the held-out
          scale: clearly below 0 means that single records were memorised, not just the class.
    """
    scale = nearest(held_out, private).mean()
    distance, closest = _closest(samples, private)
    near = distance / scale
    hit = logits.argmax(dim=1) == target
    size = min(len(private), len(held_out))
    gap = nearest(samples, private[:size]) - nearest(samples, held_out[:size])
    scores = {
        "class_recovery": (hit & (near < NEAR)).double().mean().item(),
        "asr": hit.double().mean().item(),
        "confidence": logits.softmax(dim=1)[:, target].double().mean().item(),
        "nnr": near.mean().item(),
        "prototype_error": (samples.mean(dim=0) - private.mean(dim=0)).square().mean().item(),
        "diversity": (spread(samples) / spread(private)).item(),
        "record_gap": (gap.mean() / scale).item(),
    }
    if samples.ndim == 4 and min(samples.shape[-2:]) >= 3:
        scores["prototype_ssim"] = ssim(samples.mean(dim=0)[None], private.mean(dim=0)[None]).item()
        scores["class_ssim"] = ssim(samples, private[closest]).mean().item()
    return scores


def compare_features(
    samples: Float[Tensor, "m f"], private: Float[Tensor, "n f"], held_out: Float[Tensor, "k f"]
) -> dict[str, float]:
    """Return distances of distributions in a judge's features.

    Returns:
        ``frechet``: Frechet distance (Heusel et al., NeurIPS 2017) of the samples from the private images;
        ``frechet_held_out``: of held-out real images from them, the value of a perfect generator. With fewer rows than
        features both are biased upwards; compare them with each other only.
    """
    return {"frechet": frechet(samples, private), "frechet_held_out": frechet(held_out, private)}


def frechet(a: Float[Tensor, "n f"], b: Float[Tensor, "m f"]) -> float:
    """Return |mean difference|^2 + tr(A + B - 2 (A B)^(1/2)) of two sets of rows with covariances A, B."""
    a, b = a.double(), b.double()
    cov_a, cov_b = (torch.cov(x.T, correction=0).reshape(x.shape[1], x.shape[1]) for x in (a, b))
    # A B is similar to a symmetric matrix with eigenvalues of at least 0, so their roots add up to the root's trace.
    root = torch.linalg.eigvals(cov_a @ cov_b).real.clamp_min(0).sqrt().sum()
    shift = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    return (shift + cov_a.trace() + cov_b.trace() - 2 * root).clamp_min(0).item()


def spread(x: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """Return the mean over pixels of the standard deviation over samples."""
    return x.std(dim=0, correction=0).mean()
