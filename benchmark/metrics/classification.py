"""Accuracy of predictions, and separation of two groups by scores."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int, Real, Shaped
from torch import Tensor


def accuracy(predicted: Real[Tensor, " n *classes"], y: Int[Tensor, " n"]) -> float:
    """Return the share of right predictions, in [0, 1].

    Args:
        predicted: logits or probabilities (n, classes), or labels (n,).
        y: int64 (n,).
    """
    return share_right(predicted, y).item()


def share_right(predicted: Real[Tensor, " n *classes"], y: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Return the accuracy as float64 (), for curves that are read when all is done."""
    return (_labels(predicted) == y).double().mean()


def attack_success(predicted: Real[Tensor, " n *classes"], targets: Int[Tensor, " n"]) -> float:
    """Return the share of inputs, in [0, 1], that are classified as the class that the attacker wanted.

    Args:
        predicted: as in :func:`accuracy`; targets: int64 (n,).
    """
    return accuracy(predicted, targets)


def label_overlap(guess: Int[Tensor, ...], labels: Int[Tensor, ...]) -> float:
    """Return the share of ``labels``, in [0, 1], that ``guess`` also holds, in any order (intersection of multisets).

    Args:
        guess, labels: int64, any shape; compared as two multisets.
    """
    size = int(max(guess.max(), labels.max())) + 1
    common = torch.minimum(guess.flatten().bincount(minlength=size), labels.flatten().bincount(minlength=size))
    return common.sum().item() / labels.numel()


def auc(scores: Real[Tensor, " n"], positive: Shaped[Tensor, " n"]) -> float:
    """Return the area under the ROC curve, in [0, 1]; 0.5 is guessing. A higher score means "positive".

    Args:
        scores: (n,); positive: bool or 0/1 (n,), both values present.
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(_both(positive), scores.detach().cpu().numpy()))


def tpr_at_fpr(scores: Real[Tensor, " n"], positive: Shaped[Tensor, " n"], fpr: float) -> float:
    """Return the largest true positive rate, in [0, 1], of any threshold with a false positive rate of at most ``fpr``.

    No interpolation between thresholds. Arguments as in :func:`auc`.
    """
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(_both(positive), scores.detach().cpu().numpy(), drop_intermediate=False)
    return float(true[false <= fpr].max())


def ber(predicted: Real[Tensor, " n *classes"], y: Int[Tensor, " n"]) -> float:
    """Return the balanced error rate, in [0, 1]: the mean over the classes in ``y`` of their error rates.

    For two classes 0.5 is guessing (the goal of a defense against attribute inference) and 0 a perfect inference.
    Arguments as in :func:`accuracy`.
    """
    wrong = (_labels(predicted) != y).double()
    return torch.stack([wrong[y == label].mean() for label in y.unique()]).mean().item()


def _labels(predicted: Tensor) -> Tensor:
    return predicted.argmax(dim=-1) if predicted.ndim == 2 else predicted


def _both(positive: Tensor) -> np.ndarray:
    """Return ``positive`` as an int array.

    Raises:
        ValueError: it does not hold both groups, so that ROC measures mean nothing.
    """
    array = positive.detach().cpu().long().numpy()
    if array.min() == array.max():
        raise ValueError("a ROC curve needs positive and negative samples, but all are the same.")
    return array
