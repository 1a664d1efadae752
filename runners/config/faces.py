"""Faces of boards: what a sweep in ``conf/sweep/boards/`` says of itself to readers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from benchmark.errors import ConfigError
from runners.config.remembered import ROOT

FOLDER = ROOT / "conf" / "sweep" / "boards"


@dataclass(frozen=True)
class Face:
    """Words of a board.

    Attributes:
        title: a line that names it.
        question: the question that it answers.
        version: raised when its cells or its metrics change.
        headline: metric of risk by which its rows are ranked.
        utility: metric of utility.
        seeds: how many there are, and where fewer.
        protocol: data, model, training, attacks, and what counts as the same row.
        unranked: threats whose numbers are shown and that no row is ranked by, e.g. those without any bound, which
            always win; the protocol says why.
    """

    title: str
    question: str
    version: int
    headline: str
    utility: str
    seeds: str
    protocol: str
    unranked: tuple[str, ...] = ()


def faces(folder: Path = FOLDER) -> dict[str, Face]:
    """Return the face of every board by the name of its sweep, e.g. ``leakage_cifar``.

    Raises:
        ConfigError: a sweep of the folder has no ``board`` node, or not all of its entries.
    """
    return {path.stem: _face(path) for path in sorted(folder.glob("*.yaml"))}


def _face(path: Path) -> Face:
    node: dict[str, Any] = yaml.safe_load(path.read_text("utf-8")).get("board") or {}
    wanted = {field.name for field in fields(Face)}
    if wrong := sorted(wanted ^ {"unranked", *node}):
        raise ConfigError(f"The board {path.stem} needs exactly the entries {', '.join(sorted(wanted))}; see {wrong}.")
    return Face(**node | {"unranked": tuple(node.get("unranked", ()))})
