"""Similarity of reconstructions to the private samples."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmark.metrics.classification import label_overlap
from benchmark.metrics.images import match, mse, psnr_db, recovered_share, ssim

CLOSE = 0.05


def score_reconstruction(
    guess_x: Float[Tensor, ...] | None,
    guess_labels: Int[Tensor, ...] | None,
    x: Float[Tensor, " victims batch *sample"],
    labels: Int[Tensor, "victims batch"],
    groups: Int[Tensor, " victims"] | None = None,
) -> tuple[dict[str, float], Float[Tensor, " victims batch *sample"] | None]:
    """Match guesses with the truth within each victim, and return scores of the pairs.

    Args:
        guess_x: (victims, batch, ...) in [0, 1], or None when no samples were guessed. A sample with a NaN or an
            infinity counts as all zeros.
        guess_labels: int64 (victims, batch), or None when none were guessed.
        x, labels: the truth, (victims, batch, ...) and int64 (victims, batch).
        groups: int64 (victims,); victims of one number are matched together. None: each for itself.

    Returns:
        Means over all samples, each only where it was guessed: ``psnr_db``, ``mse``, ``recovered_share`` (PSNR above
        20 dB), ``ssim`` of images, ``values_recovered`` of tables and signals, ``label_accuracy`` (labels of a group
        compared as multisets), and ``nan_samples``, a count. Second, the guesses in the order of the truth,
        (victims, batch, ...), or None.

    Raises:
        ValueError: guess and truth have different shapes.
    """
    groups = torch.arange(len(x)) if groups is None else groups.cpu()
    members = [(groups == number).nonzero().squeeze(1) for number in groups.unique()]
    scores: dict[str, float] = {}
    matched = None
    if guess_x is not None:
        _same_shape("samples", guess_x, x)
        finite = torch.isfinite(guess_x).flatten(start_dim=2).all(dim=2)
        cleaned = guess_x.detach().to(x).clone()
        cleaned[~finite] = 0.0
        matched = _ordered(cleaned, x, members)
        scores |= _score_samples(matched.flatten(0, 1), x.flatten(0, 1))
        scores["nan_samples"] = float((~finite).sum())
    if guess_labels is not None:
        _same_shape("labels", guess_labels, labels)
        right = [label_overlap(guess_labels[rows], labels[rows]) * len(rows) for rows in members]
        scores["label_accuracy"] = sum(right) / len(labels)
    return scores, matched


def _ordered(guess: Tensor, truth: Tensor, members: list[Tensor]) -> Tensor:
    """Return ``guess`` (victims, batch, ...) with the samples of every group of victims in the order of ``truth``."""
    ordered = torch.empty_like(guess)
    for rows in members:
        ours, theirs = guess[rows], truth[rows]
        flat = ours.flatten(0, 1)
        ordered[rows] = flat[match(flat, theirs.flatten(0, 1))].view_as(ours)
    return ordered


def _score_samples(guess: Tensor, truth: Tensor) -> dict[str, float]:
    psnr = psnr_db(guess, truth)
    scores = {
        "psnr_db": psnr.mean().item(),
        "mse": mse(guess, truth).mean().item(),
        "recovered_share": recovered_share(psnr),
    }
    if truth.ndim == 4:
        scores["ssim"] = ssim(guess, truth).mean().item()
    else:
        scores["values_recovered"] = values_recovered(guess, truth)
    return scores


def values_recovered(guess: Float[Tensor, " n *sample"], truth: Float[Tensor, " n *sample"]) -> float:
    """Return the share of values that are off by a twentieth of their range at most; inputs are in [0, 1].

    It reads for tables and signals, whose samples are no pictures. How much of it the mean of the data reaches depends
    on the data, which a control tells.
    """
    return ((guess - truth).abs() <= CLOSE).double().mean().item()


def _same_shape(what: str, guess: Tensor, truth: Tensor) -> None:
    if guess.shape != truth.shape:
        raise ValueError(f"the guessed {what} have shape {tuple(guess.shape)}, the true ones {tuple(truth.shape)}.")
