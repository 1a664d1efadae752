"""The artifact cache: what is expensive and shared between cells is made once, whoever needs it first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from safetensors import SafetensorError

from runners.keys import digest
from runners.records import lock_path, write_atomically

if TYPE_CHECKING:
    from benchmark.settings.base import Artifact


class Cache:
    """The memo of one cell, kept in ``<store>/cache``; an instance is what a setting calls as ``memo(key, build)``.

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
        path = self.root / "cache" / name[:2] / f"{name}.safetensors"
        with FileLock(lock_path(self.root, name)):
            found = _read(path)
            if found is not None:
                self.hits += 1
                return found
            self.misses += 1
            artifact = build()
            _write(path, artifact)
            return artifact

    def name(self, key: tuple[str, ...]) -> str:
        """The content key, 64 hex digits."""
        kind, *parts = key
        made_from = {part: self.config[part] for part in parts}
        return digest({"artifact": kind, "seed": self.config["seed"], "device": self.device, "from": made_from})


def _write(path: Path, artifact: Artifact) -> None:
    from safetensors.torch import save

    # Clones, for safetensors refuses tensors that share memory.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in artifact.items()}
    write_atomically(path, save(tensors, metadata={"sha256": _checksum(tensors)}))


def _read(path: Path) -> Artifact | None:
    """The artifact at ``path``, or None when there is none or it is damaged (it is then removed)."""
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
    state = hashlib.sha256()
    for name in sorted(tensors):
        state.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        state.update(tensors[name].contiguous().numpy().tobytes())
    return state.hexdigest()
