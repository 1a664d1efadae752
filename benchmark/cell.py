"""One cell: play a setting with a dataset, a model, a defense and a threat."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmark.compatibility import UNREAD, refusal
from benchmark.data.base import Dataset, Source
from benchmark.data.brought import told
from benchmark.errors import ConfigError, Refused
from benchmark.models.whole_networks import newly_initialised
from benchmark.outcome import Outcome
from benchmark.precision import FULL, computing_in
from benchmark.settings.base import Artifact, ArtifactCache, CacheOfData, CellContext, Setting, nameless, no_cache
from benchmark.settings.defense import Defense
from benchmark.settings.release.defense import MechanismContext
from benchmark.settings.stack import Stack
from benchmark.settings.threat import Threat

NO_DERIVATIVE = re.compile(r"derivative for aten::(\w+?)(?:_backward)? is not implemented")


@dataclass(frozen=True)
class Cell:
    """One (dataset, model, setting, threat, defense, seed); ``precision`` is as of :mod:`benchmark.precision`.

    >>> # cell = Cell(Digits(...), partial(LeNet), Collaboration(...), DLG(...), [GradientNoise(std=0.01)], seed=0)
    >>> # play(cell).risk["ssim"]
    """

    dataset: Source
    architecture: Callable[..., nn.Module]
    setting: Setting
    threat: Threat
    defenses: Sequence[Defense]
    seed: int
    precision: str = FULL


def traits(dataset: type[Source], model: object) -> dict[str, str]:
    """Return facts that a threat may need, e.g. ``{"dataset.kind": "image", "model.first_layer": "linear"}``."""
    return {
        "dataset.kind": dataset.kind,
        "dataset.shift": dataset.shift,
        "dataset.sensitive": _answer(dataset.has_sensitive),
        "dataset.group": _answer(dataset.has_group),
        "model.first_layer": str(getattr(model, "first_layer", "unknown")),
        "model.gradients": str(getattr(model, "gradients", "yes")),
    }


def _answer(known: bool | None) -> str:
    return UNREAD if known is None else "yes" if known else "no"


def read_traits(data: Dataset) -> dict[str, str]:
    """Return those facts that only the data tell, where a source did not know them before it read them."""
    return {
        "dataset.kind": data.kind,
        "dataset.sensitive": _answer(data.test.sensitive is not None),
        "dataset.group": _answer(data.test.group is not None),
    }


def play(
    cell: Cell,
    *,
    root: Path | None = None,
    device: str | torch.device = "cpu",
    cache: ArtifactCache | CacheOfData = no_cache,
) -> tuple[Outcome, str]:
    """Load the data and play the setting; return the outcome and the digest of the data.

    A cache that shares artifacts between cells on several data sets is told the digest of this cell's first.

    Raises:
        Refused: threat and defense do not meet.
        DataMissing: the data set is not under ``root``.
        ConfigError: the threat aims at a class that the data set does not have, or cannot work with the model, or the
            device lacks the precision.
        Diverged: training failed numerically.
    """
    with computing_in(cell.precision, device):
        return _play(cell, root, device, cache)


def _play(
    cell: Cell, root: Path | None, device: str | torch.device, cache: ArtifactCache | CacheOfData
) -> tuple[Outcome, str]:
    model = getattr(cell.architecture, "func", cell.architecture)
    known = traits(type(cell.dataset), model)
    _refuse(cell, known)
    data = cell.dataset.load(root, cell.seed)
    if UNREAD in known.values():
        _refuse(cell, known | read_traits(data))
    _check_classes(cell.threat, data.num_classes)

    shared = cache.on_data(data.digest) if isinstance(cache, CacheOfData) else cache

    def placed(key: tuple[str, ...], build: Callable[[], Artifact]) -> Artifact:
        """Return an artifact as plain tensors on the cell's device, whether it was built or found."""
        return {name: tensor.detach().to(device) for name, tensor in shared(key, build).items()}

    architecture = newly_initialised(cell.architecture)
    context = CellContext(
        data=data.to(device),
        architecture=architecture,
        defense=Stack(cell.defenses),
        threat=cell.threat,
        seed=cell.seed,
        device=torch.device(device),
        cache=placed,
        artifact_name=shared.name if isinstance(shared, CacheOfData) else nameless,
        trained_architecture=cell.architecture,
    )
    context.defense.enter(MechanismContext(context.data.public, data.num_classes, architecture))
    try:
        outcome = cell.setting.play(context)
    except RuntimeError as error:
        if not (found := NO_DERIVATIVE.search(str(error))):
            raise
        raise ConfigError(
            f"{type(cell.threat).__name__} needs the gradient of a gradient, which PyTorch lacks for {found[1]}, an "
            "operation of this model; put another one in its place, e.g. nn.ReLU."
        ) from error
    outcome.diagnostics["adaptive"] = "yes" if cell.threat.adaptive else "no"
    outcome.diagnostics["majority_share"] = data.test.y.bincount().max().item() / len(data.test.y)
    if notes := told(data):
        outcome.diagnostics["data_notes"] = notes
    return outcome, data.digest


def _refuse(cell: Cell, known: dict[str, str]) -> None:
    """Raise Refused where the cell's parts do not meet, as far as the traits ``known`` tell."""
    if reason := refusal(type(cell.setting), type(cell.threat), [type(d) for d in cell.defenses], known):
        raise Refused(reason)


def _check_classes(threat: Threat, count: int) -> None:
    """Raise ConfigError where the threat's ``source`` or ``target`` is none of ``count`` classes."""
    for name in ("source", "target"):
        chosen = getattr(threat, name, None)
        if isinstance(chosen, int) and not 0 <= chosen < count:
            raise ConfigError(
                f"threat.{name}={chosen}, but the data set has {count} classes; give threat.{name} a class from 0 to "
                f"{count - 1}."
            )
