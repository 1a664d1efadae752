"""Gradient inversion by breaching, played as it is.

Geiping and others, *Breaching - A Framework for Attacks against Privacy in Federated Learning*, 2022
(https://github.com/JonasGeiping/breaching). An attack is one of the library's config files; only the length of its
optimisation and the number of its starts may be changed. Deviations: pixels lie in [0, 1] and are not normalised, and
the library's priors, which are written for three channels, act on one where images are grey. An upload of several
local steps is handed over as their mean gradient.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import torch
import yaml
from jaxtyping import Float
from torch import Tensor, nn

from benchmark.libraries import BREACHING, named
from benchmark.parameters import Count
from benchmark.settings.collaboration.games.uploads import UploadSurface, UploadThreat
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.threat import Floor

VERSION = 1
TYPES = ("optimization", "joint-optimization", "multiscale")
"""Attacks of an honest-but-curious server on images; the library's others are on text or need a malicious server."""
NUMBER = re.compile(r"-?\d+(\.\d*)?[eE]-?\d+")  # which YAML 1.1 takes for a text
NONE = {"None": None}  # as some of the files write null


class Breaching(UploadThreat):
    """Inversion of every victim's upload by breaching.

    Args:
        attack: name of a config file in ``breaching/config/attack``, e.g. ``invertinggradients``, ``modern``.
        iterations: steps of its optimiser; None for the file's own number.
        restarts: starts, of which the library's own score selects; None for the file's own number.
    """

    family = "gradient_leakage"
    headline = "ssim"
    floor = Floor("ssim", 0.5)
    needs = {"dataset.kind": "image"}
    library = BREACHING

    def __init__(
        self, *, attack: str = "invertinggradients", iterations: Count | None = None, restarts: Count | None = None
    ) -> None:
        super().__init__()
        options = configurations()
        self.config = Node(**named(attack, options, "threat.attack", BREACHING))
        if iterations is not None:
            self.config.optim["max_iterations"] = iterations
            self.config.optim["warmup"] = min(self.config.optim.warmup, iterations // 10)
        if restarts is not None:
            self.config.restarts["num_trials"] = restarts

    def attack(self, surface: UploadSurface, rng: torch.Generator) -> Reconstruction:
        found = [invert(surface, upload, self.config) for upload in surface.uploads[0]]
        x, labels = (torch.stack(part) for part in zip(*found, strict=True))
        return Reconstruction(x, labels)


class Node(dict[str, Any]):
    """A mapping whose entries are attributes too, at every depth, as breaching reads its configs and metadata."""

    def __init__(self, **entries: Any) -> None:
        super().__init__({key: Node(**value) if type(value) is dict else value for key, value in entries.items()})

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


def configurations() -> dict[str, dict[str, Any]]:
    """Return the library's configs of attacks that an honest-but-curious server can run on images, by name."""
    BREACHING.load()
    folder = files("breaching") / "config" / "attack"
    texts = {
        file.name.removesuffix(".yaml"): file.read_text("utf-8") for file in folder.iterdir() if ".yaml" in file.name
    }
    merged = {name: _merged(name, texts) for name in sorted(texts) if not name.startswith("_")}
    return {name: config for name, config in merged.items() if config["attack_type"] in TYPES}


def _merged(name: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return a config on top of those that it begins with, as Hydra would compose it."""
    own = yaml.safe_load(texts[name])
    found: dict[str, Any] = {}
    for base in own.pop("defaults", ()):
        if base != "_self_":
            found = _onto(found, _merged(base, texts))
    return _onto(found, own)


def _onto(base: Any, value: Any) -> Any:
    if isinstance(value, dict):
        under = base if isinstance(base, dict) else {}
        return {**under, **{key: _onto(under.get(key), item) for key, item in value.items()}}
    if isinstance(value, str):
        return float(value) if NUMBER.fullmatch(value) else NONE.get(value, value)
    return value


def invert(
    surface: UploadSurface, upload: Float[Tensor, " d"], config: Any
) -> tuple[Float[Tensor, " batch *sample"], Tensor]:
    """Return the samples (batch, ...) in [0, 1] that breaching finds in one upload, and their labels (batch,).

    It draws from torch's global generator.

    Args:
        config: of the attack, with attributes as in the library's files.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it scripts functions in a way that torch has deprecated
        attacks = BREACHING.load("attacks")
    model = copy.deepcopy(surface.net.module)
    with torch.no_grad():
        for own, sent in zip(model.parameters(), surface.net.layout.split(surface.params).values(), strict=True):
            own.copy_(sent)
    place = {"device": surface.params.device, "dtype": torch.float}
    attacker = attacks.prepare_attack(model, nn.CrossEntropyLoss(), config, place)
    channels = surface.shape[0]
    if channels == 1:
        _allow_grey_images(attacker)
    metadata = Node(
        shape=surface.shape,
        modality="vision",
        task="classification",
        classes=surface.num_classes,
        mean=[0.0] * channels,
        std=[1.0] * channels,
    )
    server = [{"parameters": list(model.parameters()), "buffers": [], "metadata": metadata}]
    told = {"num_data_points": surface.batch_size, "labels": None, "local_hyperparams": None}
    parts = surface.net.layout.split(upload[None] / surface.local_steps)
    shared = [{"gradients": [part[0].clone() for part in parts.values()], "buffers": None, "metadata": told}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, _ = attacker.reconstruct(server, shared, {})
    labels = found["labels"]
    return found["data"].detach().clamp(0, 1), labels if labels.ndim == 1 else labels.argmax(dim=1)


def _allow_grey_images(attacker: Any) -> None:
    """Let the prior act on one channel and a patterned start have one."""
    for prior in attacker.regularizers:
        if type(prior).__name__ == "TotalVariation":
            prior.double_opponents, prior.groups, prior.weight = False, 1, prior.weight[:2]
    if "patterned" not in attacker.cfg.init:
        return
    coloured = attacker._initialize_data

    def grey(shape: Any) -> Tensor:
        start = coloured([shape[0], 3, *shape[2:]]).detach()[:, :1].clone().requires_grad_()
        start.grad = torch.zeros_like(start)
        return start

    attacker._initialize_data = grey
