"""Boards: the results of one sweep, in a section for each protocol."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from runners.config.identity import canonical
from runners.report import sections
from runners.report.pictures import slug
from runners.report.sections import NONE, Section
from runners.report.source import Record, lines

Cell = tuple[Any, ...]

ALONE = "single_cells"
"""Name of the board of cells that no sweep played."""


@dataclass(frozen=True)
class Board:
    """Results of a sweep. Numbers of different protocols stand in different sections and are never averaged."""

    name: str
    sections: list[Section]

    @property
    def slug(self) -> str:
        """Return its name in file names."""
        return slug(self.name)

    @property
    def settings(self) -> list[str]:
        return sorted({section.setting for section in self.sections})

    @property
    def datasets(self) -> list[str]:
        return sorted({section.dataset for section in self.sections})

    @property
    def scales(self) -> list[str]:
        return sorted({section.scale for section in self.sections})

    @property
    def threats(self) -> set[str]:
        """Return the names of the attacks, without controls."""
        return {c.name for section in self.sections for c in section.columns if c.control is None}

    @property
    def defenses(self) -> set[str]:
        return {row.name for section in self.sections for row in section.rows if not row.plain}

    @property
    def runs(self) -> Counter[str]:
        """Return the number of records by status."""
        every = (cell for section in self.sections for row in section.rows for cell in row.cells.values())
        return Counter(run.status for cell in every for run in cell.runs)


def build(records: Iterable[Record]) -> list[Board]:
    """Return a board for each sweep, by name, then that of the cells that no sweep played.

    Where a sweep lacks the undefended run of a defended cell, because another sweep had already played it, the run of
    that other sweep is taken in. Where no sweep played the adaptive form of an attack without a defense, the undefended
    run of its plain form stands in: then there is nothing to know, and who may adapt may also play the plain attack.

    Args:
        records: as :func:`runners.report.source.compact` returns them.
    """
    every = list(records)
    sweeps: dict[str, list[Record]] = defaultdict(list)
    for record in every:
        sweeps[(record["sweep"] or ALONE).rpartition("/")[2]].append(record)  # the sweep's file without its folder
    undefended = {_cell(record): record for record in every if _is_undefended(record)}
    boards = []
    for name in sorted(sweeps, key=lambda name: (name == ALONE, name)):
        own = sweeps[name]
        boards.append(Board(name, sections.build(name, lines([*own, *_missing(own, undefended)]))))
    return boards


def _missing(own: Sequence[Record], undefended: dict[Cell, Record]) -> list[Record]:
    """Return the undefended runs that cells of this sweep are compared with and that it did not play itself."""
    have = {_cell(record) for record in own if _is_undefended(record)}
    wanted = {_cell(record): record for record in own if not _is_undefended(record)}
    plain = {_plain_form(record): cell[4] for cell, record in undefended.items() if not record["facts"].get("adaptive")}
    found = []
    for cell, record in wanted.items():
        if cell in have:
            continue
        if cell in undefended:
            found.append(undefended[cell])
        elif record["facts"].get("adaptive"):
            played = undefended.get((*cell[:4], plain.get(_plain_form(record)), cell[5]))
            if played is not None:
                config = {**played["config"], "threat": record["config"]["threat"]}
                found.append({**played, "config": config, "facts": record["facts"]})
    return found


def _plain_form(record: Record) -> str:
    """Return the identity of a record's threat without the knowledge of the defense."""
    return canonical({**record["config"]["threat"], "adaptive": False})


def _cell(record: Record) -> Cell:
    """Return what the undefended and the defended form of a cell share: the protocol, the threat and the seed."""
    config = record["config"]
    return (*(id(config[part]) for part in ("setting", "dataset", "model", "scale", "threat")), record["seed"])


def _is_undefended(record: Record) -> bool:
    return [node["name"] for node in record["config"]["defense"]] == [NONE]
