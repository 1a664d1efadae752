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
