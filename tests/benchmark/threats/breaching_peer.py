"""Gradient inversion by breaching, the framework of Geiping et al., on a surface of ours."""

from __future__ import annotations

import copy
import warnings
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.settings.collaboration.games.uploads import UploadSurface

EVALUATIONS = 20  # most gradients in one iteration of its L-BFGS


class _Payload(dict[str, Any]):
    """A dictionary whose entries are attributes too, as breaching reads its metadata."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


def reconstruct(surface: UploadSurface, attack: str, *, evaluations: int, trials: int, seed: int) -> Tensor:
    """Return the samples (victims, batch, ...) that ``attack``, a config of breaching, finds in each upload.

    Everything but the budget is breaching's own default. It cannot handle grey images; only that is changed.

    Args:
        evaluations: gradients that one trial may compute.
        trials: starts, of which its own score selects.
    """
    return torch.stack([_one(surface, upload, attack, evaluations, trials, seed) for upload in surface.uploads[0]])


def _one(surface: UploadSurface, upload: Tensor, attack: str, evaluations: int, trials: int, seed: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it scripts functions in a way that torch has deprecated
        from breaching.attacks import prepare_attack
    model = copy.deepcopy(surface.net.module)
    with torch.no_grad():
        for own, sent in zip(model.parameters(), surface.net.layout.split(surface.params).values(), strict=True):
            own.copy_(sent)
    attacker = prepare_attack(model, nn.CrossEntropyLoss(), _config(attack, evaluations, trials))
    if surface.shape[0] == 1:
        _allow_grey_images(attacker)
    channels = surface.shape[0]
    metadata = _Payload(
        shape=surface.shape,
        modality="vision",
        task="classification",
        classes=surface.num_classes,
        mean=[0.0] * channels,
        std=[1.0] * channels,
    )
    server = [{"parameters": list(model.parameters()), "buffers": [], "metadata": metadata}]
    told = {"num_data_points": surface.batch_size, "labels": None, "local_hyperparams": None}
    gradients = [part[0].clone() for part in surface.net.layout.split(upload[None]).values()]
    shared = [{"gradients": gradients, "buffers": None, "metadata": told}]
    torch.manual_seed(seed)
    found, _ = attacker.reconstruct(server, shared, {})
    return found["data"].detach().clamp(0, 1)


def _config(attack: str, evaluations: int, trials: int) -> Any:
    from omegaconf import OmegaConf

    folder = files("breaching") / "config" / "attack"
    names = ("_default_optimization_attack.yaml", f"{attack}.yaml")
    config: Any = OmegaConf.merge(*(OmegaConf.create((folder / name).read_text()) for name in names))
    inner = EVALUATIONS if config.optim.optimizer == "L-BFGS" else 1
    config.optim.max_iterations, config.restarts.num_trials = evaluations // inner, trials
    config.optim.warmup = min(config.optim.warmup, evaluations // 10)
    if config.label_strategy == "None":
        config.label_strategy = None
    return config


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
