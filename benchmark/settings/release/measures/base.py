"""Utility of a release: protocols by which it is measured.

:class:`TrainOnRelease` always runs, since its accuracy is what leaderboards show. A paper's own protocol is one more
class here or in a module of its own, named in ``conf/setting/release.yaml`` under ``measures``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.metrics.classification import accuracy
from benchmark.metrics.fairness import fairness_gaps
from benchmark.outcome import Outcome
from benchmark.parameters import Checked, Count, CountOrZero
from benchmark.settings.base import CellContext
from benchmark.settings.release.classifiers import trained_on_private, trained_on_release
from benchmark.settings.release.mechanism import Fitted
from benchmark.training.loop import predict


class Measure(Checked, ABC):
    """Base of protocols. Each adds to the outcome's ``utility`` (higher is better) or to its ``diagnostics``."""

    place = "setting.measures.{module}"

    @abstractmethod
    def __call__(self, context: CellContext, fitted: Fitted, outcome: Outcome) -> None: ...


class TrainOnRelease(Measure):
    """A model that saw the release only, tested on held-out people as its users would encode them (real ones, where
    the mechanism encodes nothing); and fed plain inputs, as by somebody without the key.

    Args:
        epochs: of that model.
    """

    def __init__(self, *, epochs: Count) -> None:
        self.epochs = epochs

    def __call__(self, context: CellContext, fitted: Fitted, outcome: Outcome) -> None:
        release, test = fitted.release, fitted.encoded["test"]
        model = trained_on_release(context, fitted, self.epochs)
        predicted = predict(model, test.x).argmax(dim=1)
        outcome.utility["test_accuracy"] = accuracy(predicted, context.data.test.y)
        if release.x.shape[1:] == context.data.shape:
            outcome.diagnostics["accuracy_without_key"] = accuracy(
                predict(model, context.data.test.x), context.data.test.y
            )
        outcome.diagnostics.update(gaps(predicted, context.data.test))
        outcome.diagnostics.update(map_fidelity(context.data.test, test))


class Pretrained(Measure):
    """A model trained on the private data, untouched, meets encoded people ("no retraining").

    Args:
        epochs: of that model; 0 switches the measure off.
    """

    def __init__(self, *, epochs: CountOrZero) -> None:
        self.epochs = epochs

    def __call__(self, context: CellContext, fitted: Fitted, outcome: Outcome) -> None:
        test = fitted.encoded["test"]
        if not self.epochs or test.x.shape[1:] != context.data.shape:
            return
        predicted = predict(trained_on_private(context, self.epochs), test.x).argmax(dim=1)
        outcome.utility["pretrained_accuracy"] = accuracy(predicted, context.data.test.y)
        if not torch.equal(test.y, context.data.test.y):
            outcome.diagnostics["pretrained_accuracy_on_mapped_labels"] = accuracy(predicted, test.y)
        for name, gap in gaps(predicted, context.data.test).items():
            outcome.diagnostics[f"pretrained_{name}"] = gap


class AveragedEncodings(Measure):
    """The model trained on the release, its probabilities averaged over fresh encodings of each test input.

    For mechanisms whose encodings are drawn by lot (InstaHide's inference on mixtures, noise).

    Args:
        encodings: of each input; 0 switches the measure off.
        epochs: as the setting's, so that the model is the one of ``test_accuracy``.
    """

    def __init__(self, *, encodings: CountOrZero, epochs: Count) -> None:
        self.encodings, self.epochs = encodings, epochs

    def __call__(self, context: CellContext, fitted: Fitted, outcome: Outcome) -> None:
        if not self.encodings:
            return
        model, test = trained_on_release(context, fitted, self.epochs), context.data.test
        shares = [predict(model, fitted.live.encode(test.x)).softmax(dim=1) for _ in range(self.encodings)]
        outcome.utility["averaged_accuracy"] = accuracy(torch.stack(shares).mean(dim=0), test.y)


def map_fidelity(people: Split, mapped: Split) -> dict[str, float]:
    """Return what a map of tables preserves of people of each group.

    ``fidelity_group_G`` is 1 - mean absolute change of their features and of the label, which counts as one column;
    ``diversity`` the mean distance between mapped people over that between the original ones (1: all of it);
    ``decisions_changed`` the share of labels that the map rewrote.
    """
    if people.sensitive is None or people.x.ndim != 2 or mapped.x.shape != people.x.shape:
        return {}
    moved, rewritten = (mapped.x - people.x).abs().double(), (mapped.y != people.y).double()
    change = torch.cat([moved, rewritten.unsqueeze(1)], dim=1).mean(dim=1)
    found = {f"fidelity_group_{g}": 1 - change[people.sensitive == g].mean().item() for g in people.sensitive.unique()}
    half = len(people) // 2
    spread = [(split.x[:half] - split.x[half : 2 * half]).norm(dim=1).double().mean() for split in (mapped, people)]
    found["diversity"] = (spread[0] / spread[1]).item()
    found["decisions_changed"] = (mapped.y != people.y).double().mean().item()
    return found


def gaps(predicted: Tensor, people: Split) -> dict[str, float]:
    """Return fairness gaps, where the task has two classes and the people a sensitive attribute."""
    if people.sensitive is None or int(people.y.max()) > 1:
        return {}
    return fairness_gaps(predicted.cpu(), people.y.cpu(), people.sensitive.cpu())
