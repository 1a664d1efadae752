"""Data and weights that a user brings: their content is part of a cell's identity.

A component with a parameter ``content`` is named by the digest of the file or folder that its ``path`` or ``weights``
name (:mod:`benchmark.data.content`). The digest is filled in where the user gives none. The path only says where the
file lies: what was moved keeps its records, and other data under the same path make other cells.

A data set with the parameters ``path``, relative to the data root, and ``sha256`` is named by both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmark.data.content import content_digest, located
from benchmark.errors import DataMissing

PATH = "dataset.path="


PLACES = ("path", "weights")
"""Parameters that say where the file or folder lies whose digest is the parameter ``content``."""


def with_digest(node: Mapping[str, Any], root: Path | None) -> dict[str, Any]:
    """Return the config of a component with the digest of what it brings; unchanged where nothing lies there.

    A path that leads somewhere becomes absolute, so that it means the same in every process that plays the cell. A
    digest that the user gives stays.

    Args:
        root: the data root, if the user named one.

    Raises:
        DataMissing: the data cannot be read, or there is no such file of weights.
    """
    found = dict(node)
    if "content" in node:
        for name in PLACES:
            if isinstance(node.get(name), str) and (place := located(node[name], root)) is not None:
                found[name] = str(place)
                found["content"] = content_digest(place) if node["content"] is None else node["content"]
            elif isinstance(node.get(name), str) and name == "weights":
                raise DataMissing(f"model.weights={node[name]}: there is no such file.")
    elif isinstance(node.get("path"), str) and root is not None and node.get("sha256", "") is None:
        file = root / node["path"]
        if file.is_relative_to(root) and ".." not in file.parts and file.is_file():
            found["sha256"] = content_digest(file)
    return found


def is_named_by_content(node: Mapping[str, Any]) -> bool:
    """Return whether the data of a cell are named by their content, so that their path is not part of its identity.

    Args:
        node: config or identity of the data set.
    """
    return isinstance(node.get("content"), str)


def facts(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return where the data of a cell lie, as its record tells it; nothing for data that are not named by content."""
    return {"data_path": str(node["path"])} if is_named_by_content(node) else {}


def lost(record: Mapping[str, Any], extra: Iterable[str] = ()) -> str | None:
    """Return a sentence where the data of a record no longer lie where they did, and the user names no other place.

    Args:
        extra: overrides beside those of the record.
    """
    if not is_named_by_content(record["config"]["dataset"]) or any(line.startswith(PATH) for line in extra):
        return None
    place = record["facts"].get("data_path")
    if isinstance(place, str) and located(place, None) is not None:
        return None
    return (
        f"The data of this record lay at {place or 'a place that it does not tell'}, where there is nothing now; say "
        f"where they are: gauntlet again {record['key'][:12]} {PATH}PATH."
    )
