"""How right predictions are, and how well scores separate two groups."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def accuracy(predicted: Tensor, y: Tensor) -> float:
    """Share of right predictions, in [0, 1].

    Args:
        predicted: logits or probabilities (n, classes), or labels (n,).
        y: int64 (n,).
    """
    return (_labels(predicted) == y).double().mean().item()


def attack_success(predicted: Tensor, targets: Tensor) -> float:
    """Share of inputs, in [0, 1], that are classified as the class that the attacker wanted; higher is worse.

    Args:
        predicted: as in :func:`accuracy`; targets: int64 (n,).
    """
    return accuracy(predicted, targets)


def label_overlap(guess: Tensor, labels: Tensor) -> float:
    """Share of ``labels`` that ``guess`` holds too, order aside, in [0, 1]: the size of the multisets' intersection.

    Args:
        guess, labels: int64, any shape; compared as two multisets.
    """
    size = int(max(guess.max(), labels.max())) + 1
    common = torch.minimum(guess.flatten().bincount(minlength=size), labels.flatten().bincount(minlength=size))
    return common.sum().item() / labels.numel()


def auc(scores: Tensor, positive: Tensor) -> float:
    """Area under the ROC curve, in [0, 1]; 0.5 is guessing. A higher score means "positive".

    Args:
        scores: (n,); positive: bool or 0/1 (n,), both values present.
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(_both(positive), scores.detach().cpu().numpy()))


def tpr_at_fpr(scores: Tensor, positive: Tensor, fpr: float) -> float:
    """The largest true positive rate, in [0, 1], of any threshold with a false positive rate of at most ``fpr``.

    No interpolation between thresholds. Arguments as in :func:`auc`.
    """
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(_both(positive), scores.detach().cpu().numpy(), drop_intermediate=False)
    return float(true[false <= fpr].max())


def ber(predicted: Tensor, y: Tensor) -> float:
    """Balanced error rate, in [0, 1]: the mean over the classes in ``y`` of the share of their samples told wrongly.

    For two classes 0.5 is guessing (the goal of a defense against attribute inference) and 0 a perfect inference.
    Arguments as in :func:`accuracy`.
    """
    wrong = (_labels(predicted) != y).double()
    return torch.stack([wrong[y == label].mean() for label in y.unique()]).mean().item()


def _labels(predicted: Tensor) -> Tensor:
    return predicted.argmax(dim=-1) if predicted.ndim == 2 else predicted


def _both(positive: Tensor) -> np.ndarray:
    """``positive`` as an int array that holds both groups; ROC measures mean nothing otherwise."""
    array = positive.detach().cpu().long().numpy()
    if array.min() == array.max():
        raise ValueError("a ROC curve needs positive and negative samples, but all are the same.")
    return array
