"""Boards: the results of one sweep, in a section for each protocol."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from runners.report import sections
from runners.report.pictures import slug
from runners.report.sections import NONE, Section
from runners.report.source import Record, lines

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
    that other sweep is taken in.

    Args:
        records: as :func:`runners.report.source.compact` returns them.
    """
    every = list(records)
    sweeps: dict[str, list[Record]] = defaultdict(list)
    for record in every:
        sweeps[(record["sweep"] or ALONE).rpartition("/")[2]].append(
            record
        )  # a sweep may lie in a folder of conf/sweep
    undefended = {_cell(record): record for record in every if _is_undefended(record)}
    boards = []
    for name in sorted(sweeps, key=lambda name: (name == ALONE, name)):
        own = sweeps[name]
        boards.append(Board(name, sections.build(name, lines([*own, *_missing(own, undefended)]))))
    return boards


def _missing(own: Sequence[Record], undefended: dict[tuple[Any, ...], Record]) -> list[Record]:
    """Return the undefended runs of other sweeps that cells of this one are compared with."""
    have = {_cell(record) for record in own if _is_undefended(record)}
    wanted = dict.fromkeys(_cell(record) for record in own if not _is_undefended(record))
    return [undefended[cell] for cell in wanted if cell not in have and cell in undefended]


def _cell(record: Record) -> tuple[Any, ...]:
    """Return what the undefended and the defended form of a cell share: the protocol, the threat and the seed."""
    config = record["config"]
    return (*(id(config[part]) for part in ("setting", "dataset", "model", "scale", "threat")), record["seed"])


def _is_undefended(record: Record) -> bool:
    return [node["name"] for node in record["config"]["defense"]] == [NONE]
