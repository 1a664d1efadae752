"""Artifact cache: expensive things that cells share are made once, by the first cell that needs them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from safetensors import SafetensorError

from runners.config.identity import digest
from runners.store.records import StoreError, lock_path, write_atomically

if TYPE_CHECKING:
    from benchmark.settings.base import Artifact


class Cache:
    """Cache of one cell, kept in ``<store>/cache``; a setting calls the instance as ``cache(key, build)``.

    An artifact's name is the SHA-256 of what it is made from: its own name, the parts of the cell's config that the
    key lists (with their component versions), the seed and the kind of device. The data are named by their config.

    Attributes:
        hits, misses: artifacts found and built so far.
    """

    def __init__(self, root: Path, config: dict[str, Any], device: str) -> None:
        self.root = root
        self.config = config
        self.device = device.partition(":")[0]
        self.hits = self.misses = 0

    def __call__(self, key: tuple[str, ...], build: Callable[[], Artifact]) -> Artifact:
        name = self.name(key)
        label = {"artifact": key[0], "parts": json.dumps(key[1:]), "device": self.device}
        path = self.root / "cache" / name[:2] / f"{name}.safetensors"
        with FileLock(lock_path(self.root, name)):
            found = _read(path)
            if found is not None:
                self.hits += 1
                os.utime(path)  # the time of its last use, for pruning
                return found
            self.misses += 1
            artifact = build()
            try:
                _write(path, artifact, label)
            except OSError as error:
                raise StoreError(f"The artifact {path} could not be written: {error.strerror}.") from error
            return artifact

    def name(self, key: tuple[str, ...]) -> str:
        """Return the content key, 64 hex digits."""
        return artifact_name(self.config, key[0], key[1:], self.device)


def artifact_name(config: dict[str, Any], artifact: str, parts: tuple[str, ...], device: str) -> str:
    """Return the content key of an artifact that a cell of this ``config`` makes from ``parts``; see :class:`Cache`."""
    made_from = {part: config[part] for part in parts}
    return digest({"artifact": artifact, "seed": config["seed"], "device": device, "from": made_from})


def _write(path: Path, artifact: Artifact, label: dict[str, str]) -> None:
    from safetensors.torch import save

    # Clones, because safetensors refuses tensors that share memory.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in artifact.items()}
    write_atomically(path, save(tensors, metadata={**label, "sha256": _checksum(tensors)}))


def _read(path: Path) -> Artifact | None:
    """Return the artifact at ``path``; None when there is none or it is damaged (it is then removed)."""
    from safetensors import safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            promised = (file.metadata() or {}).get("sha256")
    except SafetensorError:
        promised, tensors = None, {}
    if promised == _checksum(tensors):
        return tensors
    path.unlink()
    return None


def _checksum(tensors: Artifact) -> str:
    import torch

    state = hashlib.sha256()
    for name in sorted(tensors):
        state.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        state.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()
