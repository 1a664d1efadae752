"""Scenarios of a mapped release: all combinations of original and mapped records, and the damage done by the map.

Protocol of the fair-mapping line of work (Gambs, Ngueveu, 2022; Aivodji et al., GANSan, 2021).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.metrics.classification import accuracy
from benchmark.outcome import Outcome
from benchmark.parameters import Count
from benchmark.settings.base import CellContext
from benchmark.settings.release.classifiers import trained_on_private, trained_on_release
from benchmark.settings.release.measures.base import Measure, gaps
from benchmark.settings.release.mechanism import Fitted
from benchmark.training.loop import predict, train
from benchmark.training.record_space import one_hot_blocks

VERSION = 1

QUANTILES = (0.5, 0.8)
"""Of the damage to numbers."""
LEVELS = torch.linspace(0.02, 0.98, 49)
"""Of the groups' quantile functions in a picture."""


class Scenarios(Measure):
    """Models trained on original or mapped people, tested on original or mapped ones, under both kinds of labels.

    ==================  ==============  ==============================  =============================================
    scenario            trained on      tested on                       who does that
    ==================  ==============  ==============================  =============================================
    baseline            original        original                        nobody maps
    data_publishing     mapped x, y     mapped                          the owner publishes, everybody maps
    fair_classifier     mapped x, y     original                        the owner alone maps
    soa                 mapped x, own y mapped                          labels are kept, as in the state of the art
    local_sanitisation  original        mapped                          people map themselves, nothing is retrained
    ==================  ==============  ==============================  =============================================

    ``utility.NAME_accuracy`` is against the labels as they were, ``diagnostics.NAME_accuracy_on_mapped_labels`` against
    those that the map gave the same people: a map that rewrites decisions does well on these alone. Fairness gaps of
    the predictions are ``diagnostics.NAME_demographic_parity_gap`` and so on.

    Args:
        epochs: of each model.
    """

    def __init__(self, *, epochs: Count) -> None:
        self.epochs = epochs

    def __call__(self, context: CellContext, fitted: Fitted, outcome: Outcome) -> None:
        original, mapped = context.data.test, fitted.encoded["test"]
        if fitted.release.x.shape[1:] != context.data.shape or mapped.x.shape != original.x.shape:
            return
        private, released = trained_on_private(context, self.epochs), trained_on_release(context, fitted, self.epochs)
        played = {
            "baseline": (private, original),
            "data_publishing": (released, mapped),
            "fair_classifier": (released, original),
            "local_sanitisation": (private, mapped),
        }
        if fitted.release.source is not None:
            played["soa"] = (self._with_own_labels(context, fitted), mapped)
        for name, (model, people) in played.items():
            predicted = predict(model, people.x).argmax(dim=1)
            outcome.utility[f"{name}_accuracy"] = accuracy(predicted, original.y)
            outcome.diagnostics[f"{name}_accuracy_on_mapped_labels"] = accuracy(predicted, mapped.y)
            for kind, gap in gaps(predicted, original).items():
                outcome.diagnostics[f"{name}_{kind}"] = gap

    def _with_own_labels(self, context: CellContext, fitted: Fitted) -> nn.Module:
        release = fitted.release
        assert release.source is not None
        y = context.data.owner.y[release.source.to(release.x.device)]

        def build(model: nn.Module) -> nn.Module:
            return train(model, release.x, y, epochs=self.epochs, rng=context.rng("release.batches"))

        key = (f"release.own_labels.{self.epochs}", "dataset", "model", "defense", "scale")
        return context.trained(key, build)


class Damage(Measure):
    """Damage that a map of tables did to single columns, which means over columns hide.

    ``damage_categories`` and ``damage_worst_category`` are the share of people whose category changed, on average over
    the one-hot blocks and in the worst one; ``damage_numbers_QQ`` the quantiles of ``|o - m| / ((|o| + |m|) / 2)`` over
    all numbers of all people.
    """

    def __call__(self, context: CellContext, fitted: Fitted, outcome: Outcome) -> None:
        original, mapped = context.data.test.x, fitted.encoded["test"].x
        if original.ndim == 2 and mapped.shape == original.shape:
            outcome.diagnostics.update(damage(original, mapped, one_hot_blocks(context.data.owner.x)))


def damage(original: Tensor, mapped: Tensor, blocks: tuple[tuple[int, int], ...]) -> dict[str, float]:
    """Return the diagnostics of :class:`Damage` of records (n, d) with one-hot columns ``blocks``, [start, end)."""
    found: dict[str, float] = {}
    changed = [original[:, a:b].argmax(dim=1) != mapped[:, a:b].argmax(dim=1) for a, b in blocks]
    if changed:
        shares = torch.stack(changed).double().mean(dim=1)
        found |= {"damage_categories": shares.mean().item(), "damage_worst_category": shares.max().item()}
    numeric = numbers(original.shape[1], blocks)
    if numeric:
        o, m = original[:, numeric].double(), mapped[:, numeric].double()
        size = ((o.abs() + m.abs()) / 2).clamp_min(1e-12)
        relative = ((o - m).abs() / size).flatten()
        for level in QUANTILES:
            found[f"damage_numbers_{round(100 * level)}"] = relative.quantile(level).item()
    return found


def numbers(width: int, blocks: tuple[tuple[int, int], ...]) -> list[int]:
    """Return the columns of ``width`` that are in no block."""
    return [column for column in range(width) if not any(a <= column < b for a, b in blocks)]


class QuantilePicture(Measure):
    """Picture of the groups of a table: their quantile functions before and after the map, for the columns in which the
    groups lay furthest apart. Curves of a whole group between its 2nd and 98th percentile; no person is shown.

    Args:
        columns: of the table, at most.
    """

    def __init__(self, *, columns: Count) -> None:
        self.columns = columns

    def __call__(self, context: CellContext, fitted: Fitted, outcome: Outcome) -> None:
        original, mapped = context.data.test, fitted.encoded["test"]
        if original.sensitive is None or original.x.ndim != 2 or mapped.x.shape != original.x.shape:
            return
        numeric = numbers(original.x.shape[1], one_hot_blocks(context.data.owner.x))
        if not numeric:
            return
        before, after = (group_quantiles(replace(people, x=people.x[:, numeric])) for people in (original, mapped))
        apart = (before.amax(dim=0) - before.amin(dim=0)).mean(dim=0)  # (numeric columns,)
        rows = apart.argsort(descending=True)[: self.columns].tolist()
        outcome.picture(
            "quantiles",
            {
                f"column {numeric[row]}": torch.stack(
                    [panel(before[:, :, row], "original"), panel(after[:, :, row], "mapped")]
                )
                for row in rows
            },
        )


def group_quantiles(people: Split) -> Tensor:
    """Return the quantile functions of each group's columns, (groups, levels, d), for the groups that are present."""
    assert people.sensitive is not None
    levels = LEVELS.to(people.x)
    return torch.stack([people.x[people.sensitive == g].quantile(levels, dim=0) for g in people.sensitive.unique()])


def panel(curves: Tensor, title: str) -> Tensor:
    """Draw one diagram of (groups, levels) quantile functions as an image (3, height, width) in [0, 1]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6, 1.9), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    for group, curve in enumerate(curves.cpu()):
        axes.plot(LEVELS, curve, label=f"group {group}")
    axes.set(title=title, xlim=(0, 1), ylim=(-0.05, 1.05))
    axes.tick_params(labelsize=6)
    axes.legend(fontsize=6)
    canvas.draw()
    pixels = torch.as_tensor(np.asarray(canvas.buffer_rgba())[:, :, :3].copy())
    return pixels.permute(2, 0, 1).float() / 255
