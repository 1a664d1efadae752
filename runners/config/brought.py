"""Data sets that a user brings in a file: the content of the file is part of a cell's identity.

Such a data set has the parameters ``path``, relative to the data root, and ``sha256``. Where the user gives no digest,
that of the file as it lies there is filled in: another file under the same name makes other cells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmark.errors import DataMissing


def with_digest(node: Mapping[str, Any], root: Path | None) -> dict[str, Any]:
    """Return the config of a data set with the digest of its file; unchanged where there is no such file, or a digest.

    Args:
        root: the data root, if the user named one.
    """
    found = dict(node)
    if root is not None and isinstance(node.get("path"), str) and node.get("sha256", "") is None:
        file = root / node["path"]
        if file.is_relative_to(root) and ".." not in file.parts and file.is_file():
            state = file.stat()
            found["sha256"] = _sha256(file, state.st_mtime_ns, state.st_size)
    return found


@lru_cache(maxsize=64)
def _sha256(file: Path, changed: int, size: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# -- weights of a model -----------------------------------------------------------------------------------------------
PATHS = ("weights",)
"""Parameters that name a file whose digest is a parameter as well, so that where it lies is nobody's concern."""


def with_weights(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a model with the absolute path and the digest of its file of weights, if it has any.

    Such a model has the parameters ``weights``, a path, and ``sha256``, which is filled in where the user gives none.

    Raises:
        DataMissing: the file is not there.
    """
    found = dict(node)
    if isinstance(node.get("weights"), str) and "sha256" in node:
        file = Path(node["weights"]).expanduser().absolute()
        if not file.is_file():
            raise DataMissing(f"model.weights={node['weights']}: there is no such file.")
        found["weights"] = str(file)
        if node["sha256"] is None:
            state = file.stat()
            found["sha256"] = _sha256(file, state.st_mtime_ns, state.st_size)
    return found


def without_paths(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a component without the paths of files that it knows by their digest."""
    return {name: value for name, value in node.items() if "sha256" not in node or name not in PATHS}
