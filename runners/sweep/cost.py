"""Cost of cells that were never played, from the published records of others.

The logarithm of a cell's seconds, and of its peak memory, is a linear function of :func:`features` with a Gaussian
prior on each coefficient (Bayesian linear regression: Bishop, Pattern Recognition and Machine Learning, 2006, section
3.3). So a component that was never measured counts as an average one of its group, with the uncertainty that this
brings, and a count that was never varied scales by its prior. What a component does is counted from what it usually
does in the records: how long an epoch of a generator takes says nothing about an epoch of an attack.

A cell that finds a trained model in the artifact cache costs less than the one that trained it. Both are among the
records, so the model says nothing about which of the cells it is.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from runners.config.identity import SINGLE, canonical
from runners.config.remembered import ROOT, keep, recall

if TYPE_CHECKING:
    import numpy as np

    from runners.store.records import Store

CPU = "cpu"
PUBLISHED = ROOT / "results"
PARTS = (*SINGLE, "defense", "scale")
NINE_OF_TEN = 1.645
"""Standard deviations to either side of a range that holds nine of ten cells."""

COUNTS = frozenset(
    {"rounds", "epochs", "steps", "iterations", "restarts", "victims", "references", "population", "draws", "sellers"}
    | {"observations", "searches", "parties", "fraction", "local_steps", "starts", "batch_size", "memory", "games"}
)
"""Parameters that say how often something is done; so do those whose names end as one of ``ENDINGS``."""
ENDINGS = ("_epochs", "_steps", "_rounds")
USUAL_SAMPLES = 2000

FORWARD = {
    "any_shape": 1.3,
    "conv1d": 0.49,
    "conv1d_half": 0.13,
    "convnet": 6.1,
    "convnet_bn": 15.0,
    "factory": 0.16,
    "hitaj_cnn": 3.2,
    "jebreel_cnn": 1.1,
    "leaky_convnet": 0.2,
    "lenet": 0.7,
    "lenet_sigmoid": 0.7,
    "mlp": 0.39,
    "papernot_cnn": 25.0,
    "resnet18": 555.0,
    "strided_convnet": 0.16,
    "strided_convnet_smooth": 1.5,
    "torchvision": 5.5,
    "vgg16": 313.0,
    "wide_resnet28": 55.0,
}
"""Millions of multiplications of a forward pass of one image of 3x32x32, or signal of 256 values, at ``scale=cpu``."""
SMALLEST = 0.03  # the same of logistic regression, and of what is no network

# Of a coefficient: its mean and standard deviation before anything was measured.
PRIORS = {
    "always": (0.0, 5.0),
    "forward": (0.6, 0.2),
    "samples": (0.6, 0.2),
    "work": (0.8, 0.07),
    "setting": (0.0, 1.0),
    "threat": (0.0, 0.8),
    "dataset": (0.0, 0.6),
    "model": (0.0, 0.6),
    "defense": (0.0, 0.6),
}
NOISE = {"seconds": 1.5, "peak_memory_mb": 0.25}
"""Standard deviation of the logarithm of a cell about its mean; wide, for cells of one kind depend on each other."""
NARROWER = {"seconds": 1.0, "peak_memory_mb": 0.1}
"""Factor on all priors: what doubles the time of a cell seldom doubles its memory."""


Component = tuple[str, str]
"""Group and name."""


def features(config: Mapping[str, Any], usual: Mapping[Component, float]) -> dict[str, float]:
    """Return what drives the cost of a cell: ``kind:name`` -> value, the kinds being those of ``PRIORS``.

    Args:
        usual: logarithm of the :func:`work` of components; others count as usual.
    """
    found = {"always:": 1.0}
    named = [(group, config[group]) for group in SINGLE] + [("defense", member) for member in config["defense"]]
    found |= {f"{group}:{node['name']}": 1.0 for group, node in named}
    for (group, name), amount in work(config).items():
        owner = name if group == "setting" else group
        found[f"work:{owner}"] = found.get(f"work:{owner}", 0.0) + amount - usual.get((group, name), amount)
    found["forward:"] = math.log(FORWARD.get(config["model"]["name"], SMALLEST))
    sizes = config["dataset"].get("sizes")
    samples = sum(size for size in sizes.values() if size) if isinstance(sizes, Mapping) else 0
    found["samples:"] = math.log((samples or USUAL_SAMPLES) / USUAL_SAMPLES)
    return found


def work(config: Mapping[str, Any]) -> dict[Component, float]:
    """Return the logarithm of how often each component does what it does: the product of its counts."""
    found: dict[Component, float] = defaultdict(float)
    nodes = [("setting", config["setting"]), ("threat", config["threat"])]
    for group, node in [*nodes, *(("defense", member) for member in config["defense"])]:
        # An epoch takes the same time whatever its batches are; a round's local steps do not.
        in_batches = group == "setting" and "rounds" not in node
        found[group, node["name"]] += sum(map(math.log, _counts(node, ("batch_size",) if in_batches else ())))
    return found


def _counts(node: Mapping[str, Any], left_out: tuple[str, ...]) -> Iterator[float]:
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _counts(value, left_out)
        elif name in left_out or not (name in COUNTS or name.endswith(ENDINGS)):
            continue
        elif isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            yield float(value)


@dataclass(frozen=True)
class Measured:
    """Cells of one config, whatever their seeds: geometric means over ``count`` of them."""

    config: Mapping[str, Any]
    device: str
    sweep: str
    count: int
    seconds: float
    peak_memory_mb: float | None


def measured(store: Store) -> list[Measured]:
    """Return the cost of the finished cells of ``store``."""
    parts = [f"config.{part}" for part in PARTS]
    columns = store.columns("status", "sweep", "device", "seconds", "peak_memory_mb", *parts)
    groups: dict[tuple[Any, ...], list[tuple[float, float | None]]] = defaultdict(list)
    for status, sweep, device, seconds, memory, *texts in zip(*columns.values(), strict=True):
        if status == "ok" and seconds > 0:
            loose = (text if isinstance(text, str) else canonical(text) for text in texts)  # packed ones are JSON text
            groups[sweep or "", device, *loose].append((seconds, memory))
    parse = cache(json.loads)
    found = []
    for (sweep, device, *texts), cells in groups.items():
        config = {part: parse(text) for part, text in zip(PARTS, texts, strict=True)}
        peaks = [peak for _, peak in cells if peak]
        seconds = _geometric_mean([taken for taken, _ in cells])
        found.append(Measured(config, device, sweep, len(cells), seconds, _geometric_mean(peaks) if peaks else None))
    return found


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


class CostModel:
    """Seconds or peak memory of a cell on a CPU, fitted to measured ones."""

    def __init__(self, cells: Iterable[Measured], target: str = "seconds") -> None:
        import numpy as np

        known = [cell for cell in cells if cell.device == CPU and getattr(cell, target)]
        self.count = sum(cell.count for cell in known)
        self.noise, self.narrower = NOISE[target], NARROWER[target]
        amounts: dict[Component, list[float]] = defaultdict(list)
        for cell in known:
            for component, amount in work(cell.config).items():
                amounts[component].append(amount)
        self.usual = {component: statistics.fmean(found) for component, found in amounts.items()}
        rows = [features(cell.config, self.usual) for cell in known]
        self.columns = {name: number for number, name in enumerate(sorted({name for row in rows for name in row}))}
        mean, deviation = np.array([self._prior(name) for name in self.columns]).T.reshape(2, -1)
        x, _, _ = self._matrix(rows)
        weight = np.array([cell.count for cell in known]) / self.noise**2
        y = np.log([getattr(cell, target) for cell in known])
        precision = (x.T * weight) @ x + np.diag(deviation**-2.0)
        self.covariance = np.linalg.inv(precision)
        self.coefficients = self.covariance @ ((x.T * weight) @ y + mean * deviation**-2.0)

    def predict(self, configs: Iterable[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        """Return the expected logarithm of each cell's cost, and the standard deviation of the cell about it."""
        import numpy as np

        x, expected, variance = self._matrix([features(config, self.usual) for config in configs])
        spread = variance + ((x @ self.covariance) * x).sum(axis=1) + self.noise**2
        return x @ self.coefficients + expected, np.sqrt(spread)

    def _prior(self, name: str) -> tuple[float, float]:
        mean, deviation = PRIORS[name.partition(":")[0]]
        return (mean, deviation) if name == "always:" else (mean * self.narrower, deviation * self.narrower)

    def _matrix(self, rows: Sequence[Mapping[str, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the values of all measured features, and mean and variance of what the others add by their priors."""
        import numpy as np

        x = np.zeros((len(rows), len(self.columns)))
        expected, variance = np.zeros(len(rows)), np.zeros(len(rows))
        for number, row in enumerate(rows):
            for name, value in row.items():
                if name in self.columns:
                    x[number, self.columns[name]] = value
                else:
                    mean, deviation = self._prior(name)
                    expected[number] += mean * value
                    variance[number] += (deviation * value) ** 2
        return x, expected, variance


@dataclass(frozen=True)
class Forecast:
    """Expected cost of a set of cells.

    Attributes:
        seconds: of each cell, on one core of a CPU.
        factor: nine of ten cells take at most so many times more, and at least so many times less.
        peak_memory_mb: of the largest cell; ``memory_factor`` as ``factor``.
        gpu: card -> the share of the CPU's time that its measured cells took; empty where none was measured.
        basis: number of cells of a CPU that were measured.
    """

    seconds: list[float]
    factor: float
    peak_memory_mb: float
    memory_factor: float
    gpu: dict[str, float]
    basis: int

    @property
    def cpu_hours(self) -> float:
        return sum(self.seconds) / 3600

    def summary(self) -> dict[str, Any]:
        """Return the forecast as plain data."""
        return {
            "seconds": self.seconds,
            "cpu_hours": self.cpu_hours,
            "gpu_hours": {card: share * self.cpu_hours for card, share in self.gpu.items()} or None,
            "factor": self.factor,
            "peak_memory_mb": self.peak_memory_mb,
            "memory_factor": self.memory_factor,
            "measured_cells": self.basis,
        }

    def text(self) -> str:
        """Return the forecast as a sentence or two."""
        cards = [f"about {_hours(share * self.cpu_hours)} GPU-hours on {card}" for card, share in self.gpu.items()]
        return (
            f"By {self.basis} published cells: about {_hours(self.cpu_hours)} CPU-hours (nine of ten cells within a "
            f"factor of {self.factor:.0f}), {', '.join(cards) or 'GPU-hours not measured'}, peak memory about "
            f"{self.peak_memory_mb / 1000:.1f} GB (within a factor of {self.memory_factor:.1f})."
        )


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


class Costs:
    """Costs of any cells, fitted to measured ones.

    Args:
        cells: those that were measured, at least one of them on a CPU.
    """

    def __init__(self, cells: Sequence[Measured]) -> None:
        self.time, self.memory = CostModel(cells), CostModel(cells, "peak_memory_mb")
        self.gpu = self._shares_of_gpus(cells)

    def forecast(self, configs: Sequence[Mapping[str, Any]]) -> Forecast:
        """Return the expected cost of at least one cell."""
        import numpy as np

        logarithms, deviations = self.time.predict(configs)
        peaks, spreads = self.memory.predict(configs)
        seconds, largest = np.exp(logarithms), int(peaks.argmax())
        return Forecast(
            seconds=seconds.tolist(),
            factor=math.exp(NINE_OF_TEN * float(np.average(deviations, weights=seconds))),
            peak_memory_mb=math.exp(peaks[largest]),
            memory_factor=math.exp(NINE_OF_TEN * spreads[largest]),
            gpu=self.gpu,
            basis=self.time.count,
        )

    def _shares_of_gpus(self, cells: Iterable[Measured]) -> dict[str, float]:
        """Return for each card the median, over its cells, of the time taken divided by the time expected on a CPU."""
        import numpy as np

        by_card: dict[str, list[Measured]] = defaultdict(list)
        for cell in cells:
            if cell.device != CPU:
                by_card[cell.device].append(cell)
        shares = {}
        for card, played in by_card.items():
            expected, _ = self.time.predict([cell.config for cell in played])
            shares[card] = float(np.median([cell.seconds for cell in played] / np.exp(expected)))
        return shares


@cache
def published_costs() -> Costs | None:
    """Return the costs by the published records; None where the suite came without them."""
    paths = sorted(PUBLISHED.glob("records/*.parquet"))
    tables = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    kept = recall("costs")
    if kept is None or kept["tables"] != tables:  # reading them takes longer than a plan may
        from runners.store.records import Store

        found = measured(Store(PUBLISHED)) if tables else []
        kept = keep("costs", {"tables": tables, "cells": [asdict(cell) for cell in found]})
    cells = [Measured(**cell) for cell in kept["cells"]]
    return Costs(cells) if any(cell.device == CPU for cell in cells) else None
