"""Artifact cache: expensive things that cells share are made once, by the first cell that needs them."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from runners.config.identity import digest, labelled
from runners.config.syntax import source_digest
from runners.store.records import StoreError, lock_path, write_atomically

if TYPE_CHECKING:
    from benchmark.settings.base import Artifact


class Cache:
    """Cache of one cell, kept in ``<store>/cache``; a setting calls the instance as ``cache(key, build)``.

    An artifact's name is the SHA-256 of what it is made from: its own name, the parts of the cell's config that the
    key lists, the code of these parts and of the setting, the data, the seed, the precision and the kind of device.
    What is read is held against what was promised when it was written; an artifact that is not as promised is built
    again.

    Args:
        config: the cell's identity.
        targets: label -> dotted name of each of the cell's components, whose code counts.
        waiting: entered while another process builds what is asked for.

    Attributes:
        hits, misses: artifacts found and built so far.
        seconds: that building them took, those that others are built from counted once.
    """

    def __init__(
        self,
        root: Path,
        config: dict[str, Any],
        device: str,
        targets: Mapping[str, str] | None = None,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.root, self.config, self.waiting = root, config, waiting
        self.targets = targets or {}
        self.device = device.partition(":")[0]
        self.data: str | None = None
        self.hits = self.misses = 0
        self.seconds = 0.0

    def on_data(self, digest: str) -> Cache:
        """Return this cache for a cell on the data of this digest."""
        self.data = digest
        return self

    def __call__(self, key: tuple[str, ...], build: Callable[[], Artifact]) -> Artifact:
        from benchmark.clock import now

        name = self.name(key)
        label = {"artifact": key[0], "parts": json.dumps(key[1:]), "device": self.device}
        path = self.root / "cache" / name[:2] / f"{name}.safetensors"
        with self._held(name):
            try:
                found = _read(path, label, getattr(build, "fits", None))
            except _Unusable as fault:
                path.unlink(missing_ok=True)
                print(f"The artifact {key[0]!r} in {path} {fault}; it is built again.", file=sys.stderr)
                found = None
            if found is not None:
                self.hits += 1
                os.utime(path)  # the time of its last use, for pruning
                return found
            self.misses += 1
            began, inner = now(), self.seconds
            artifact = build()
            self.seconds = inner + now() - began
            try:
                _write(path, artifact, label)
            except OSError as error:
                raise StoreError(f"The artifact {path} could not be written: {error.strerror}.") from error
            return artifact

    @contextmanager
    def _held(self, name: str) -> Iterator[None]:
        """Hold the lock of an artifact, so that no other process builds it meanwhile."""
        lock = FileLock(lock_path(self.root, name))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            with self.waiting():
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def name(self, key: tuple[str, ...]) -> str:
        """Return the content key, 64 hex digits."""
        code = code_of(self.config, key[1:], lambda label, _: self.targets.get(label))
        return artifact_name(self.config, key[0], key[1:], self.device, self.data, code)


def artifact_name(
    config: Mapping[str, Any],
    artifact: str,
    parts: tuple[str, ...],
    device: str,
    data: str | None,
    code: Mapping[str, str | None],
) -> str:
    """Return the content key of an artifact that a cell of this ``config`` makes from its ``parts``.

    Args:
        data: digest of the cell's data. code: see :func:`code_of`.
    """
    made_from = {part: config[part] for part in parts}
    told = {"artifact": artifact, "seed": config["seed"], "device": device, "data": data, "code": dict(code)}
    if "precision" in config:  # a reduced one, whatever the key lists
        told["precision"] = config["precision"]
    return digest({**told, "from": made_from})


def code_of(
    config: Mapping[str, Any], parts: tuple[str, ...], find: Callable[[str, str], str | None]
) -> dict[str, str | None]:
    """Return the source digest of every component of these ``parts``, and of the setting, which calls them.

    Args:
        find: gives the dotted name of a component by its label and provider, None where there is none.
    """
    counted = {part: config[part] for part in (*parts, "setting") if part in config}
    found = {}
    for label, node in labelled(counted):
        target = find(label, str(node.get("provider")))
        found[label] = source_digest(target) if target else None
    return dict(sorted(found.items()))


class _Unusable(Exception):
    """An artifact that is not as promised; the message says in what."""


def _write(path: Path, artifact: Artifact, label: dict[str, str]) -> None:
    from safetensors.torch import save

    # Clones, because safetensors refuses tensors that share memory.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in artifact.items()}
    write_atomically(path, save(tensors, metadata={**label, **_promises(tensors)}))


def _read(path: Path, label: dict[str, str], fits: Callable[[Artifact], bool] | None) -> Artifact | None:
    """Return the artifact at ``path``, or None when there is none.

    Raises:
        _Unusable: it is damaged, or another one than ``label`` and ``fits`` ask for.
    """
    from safetensors import safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            told = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _Unusable("cannot be read") from error
    for name, promised in {**label, **_promises(tensors)}.items():
        if told.get(name) != promised:
            raise _Unusable(FAULTS.get(name, f"is of another {name} than it is asked for"))
    if fits is not None and not fits(tensors):
        raise _Unusable("does not have the tensors that are asked for")
    return tensors


FAULTS = {
    "tensors": "has other names, shapes or types than were written",
    "finite": "has values that are not finite, where none were written",
    "sha256": "has other values than were written",
}


def _promises(tensors: Artifact) -> dict[str, str]:
    """Return what is written beside ``tensors`` and holds when they are read."""
    shapes = {name: [str(tensor.dtype), *tensor.shape] for name, tensor in sorted(tensors.items())}
    finite = all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    return {"tensors": json.dumps(shapes), "finite": str(finite), "sha256": _checksum(tensors)}


def _checksum(tensors: Artifact) -> str:
    import torch

    state = hashlib.sha256()
    for name in sorted(tensors):
        state.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        state.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()
