"""Agreement beyond chance of a model trained on the release, and how varied the release is (``docs/systems/04-*``)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.metrics.distances import exact_cdist
from benchmark.outcome import Outcome
from benchmark.parameters import Count
from benchmark.settings.base import CellContext
from benchmark.settings.release.classifiers import trained_on_release
from benchmark.settings.release.measures.base import Measure
from benchmark.settings.release.mechanism import Fitted
from benchmark.training.loop import predict

SAMPLE = 500


class Agreement(Measure):
    """Cohen's kappa of the model of ``test_accuracy``; for two classes sensitivity and specificity; collapse.

    ``release_spread`` is the mean distance between released rows over that between private records, and
    ``label_entropy`` that of the released labels' mean over its maximum: both near 0 tell of a collapse.

    Args:
        epochs: as the setting's, so that the model is the same one.
    """

    def __init__(self, *, epochs: Count) -> None:
        self.epochs = epochs

    def __call__(self, context: CellContext, fitted: Fitted, outcome: Outcome) -> None:
        test, release = fitted.encoded["test"], fitted.release
        predicted = predict(trained_on_release(context, fitted, self.epochs), test.x).argmax(dim=1)
        truth, classes = context.data.test.y, context.data.num_classes
        outcome.utility["kappa"] = kappa(predicted, truth, classes)
        if classes == 2:
            outcome.utility["sensitivity"] = (predicted[truth == 1] == 1).double().mean().item()
            outcome.utility["specificity"] = (predicted[truth == 0] == 0).double().mean().item()
        spread = [mean_distance(x[:SAMPLE]) for x in (release.x, context.data.owner.x)]
        outcome.diagnostics["release_spread"] = spread[0] / max(spread[1], 1e-12)
        share = release.y.double() if release.y.ndim == 2 else torch.nn.functional.one_hot(release.y, classes).double()
        entropy = torch.special.entr(share.mean(dim=0)).sum() / torch.tensor(float(classes)).log()
        outcome.diagnostics["label_entropy"] = entropy.item()


def kappa(predicted: Tensor, y: Tensor, classes: int) -> float:
    """Return ``(p_o - p_e) / (1 - p_e)`` of labels (n,), in [-1, 1]; 0: by chance, also where chance is certain."""
    observed = (predicted == y).double().mean()
    shares = [labels.bincount(minlength=classes).double() / len(labels) for labels in (predicted, y)]
    chance = (shares[0] * shares[1]).sum()
    return ((observed - chance) / (1 - chance)).item() if chance < 1 else 0.0


def mean_distance(x: Tensor) -> float:
    """Return the mean Euclidean distance between different rows of (n, ...)."""
    distances = exact_cdist(x.flatten(1), x.flatten(1))
    return float(distances.sum() / max(len(x) * (len(x) - 1), 1))
