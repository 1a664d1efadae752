"""Boards: results in a section for each protocol.

A board with a :class:`Face` holds the cells that its sweep in ``conf/sweep/boards/`` plans, whatever sweep played
them, and shows those that are missing. The others, those of papers among them, hold the records of one sweep.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmark.errors import GauntletError
from runners.config.faces import Face, faces
from runners.config.identity import canonical
from runners.report import sections, source
from runners.report.pictures import slug
from runners.report.ranking import Contest, Standing, contest, rank
from runners.report.sections import NONE, NOT_RUN, Section
from runners.report.source import Record, lines
from runners.sweep.membership import Member, members

Cell = tuple[Any, ...]

ALONE = "single_cells"
"""Name of the board of cells that no sweep played, or that a board does not plan any more."""


@dataclass(frozen=True)
class Spent:
    """Time of cells, each of them on one core, in seconds.

    Attributes:
        shared: of the cells that tell it, spent in making what other cells use as well; attack: in the threat, which
            may make such things too. told: all that these cells took.
    """

    total: float = 0.0
    shared: float = 0.0
    attack: float = 0.0
    told: float = 0.0

    @property
    def hours(self) -> str:
        return f"{self.total / 3600:.1f}"

    def __str__(self) -> str:
        """Return the hours and, if most cells tell them, the parts."""
        if self.told < self.total / 2 or not self.told:
            return f"{self.hours} core-hours"
        shared, attack = self.shared / self.told, self.attack / self.told
        return f"{self.hours} core-hours ({shared:.0%} in training that cells share, {attack:.0%} in attacks)"


@dataclass(frozen=True)
class Board:
    """Results of a sweep. Numbers of different protocols stand in different sections and are never averaged."""

    name: str
    sections: list[Section]
    face: Face | None = None
    spent: Spent = Spent()

    @cached_property
    def contest(self) -> Contest | None:
        """Return what its ranking depends on; None without a face, by whose headline it is ranked."""
        return contest(self.sections, self.face.headline) if self.face else None

    @cached_property
    def standings(self) -> list[Standing]:
        """Return its ranking over all threats; empty without a face."""
        return rank(self.contest) if self.contest else []

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
    def planned(self) -> int:
        """Return the number of its cells."""
        return self.runs.total()

    @property
    def played(self) -> int:
        """Return the number of its cells that have a record, whatever became of them."""
        return self.planned - self.runs[NOT_RUN]

    @property
    def progress(self) -> str:
        """Return how many of its cells were played, and what they cost."""
        return f"{self.played} of {self.planned} planned cells were played, in {self.spent}"

    @cached_property
    def runs(self) -> Counter[str]:
        """Return the number of cells by status; of a board with a face also those that were not run.

        What an attack does without a defense may stand in two columns, beside its plain and its adaptive form.
        """
        every = (cell for section in self.sections for row in section.rows for cell in row.cells.values())
        return Counter({run.key: run.status for cell in every for run in cell.runs}.values())


Faced = tuple[Face, Sequence[Member]]
"""Face and planned cells of a board."""


def of_store(store: Path) -> list[Board]:
    """Return the boards of a store, those with a face as far as any of its sweeps played cells for them."""
    return of_records(source.read(store))


def of_records(records: Sequence[Record]) -> list[Board]:
    """Return the boards of ``records``, as :func:`runners.report.source.compact` returns them; see :func:`of_store`."""
    played = {_sweep(record) for record in records}
    planned = {name: (face, members(name)) for name, face in faces().items() if name in played}
    return build(records, planned)


def named(name: str, store: Path) -> Board:
    """Return one board of a store; one with a face also where no cell of it was played.

    Raises:
        GauntletError: there is no such board; the message names those there are.
    """
    known = faces()
    short = name.removeprefix("boards/")
    if short in known:
        return build(source.read(store), {short: (known[short], members(short))})[0]
    found = {board.name: board for board in of_store(store)}
    if name not in found:
        raise GauntletError(
            f"The store {store} has no board {name!r}; it has {', '.join({**known, **found}) or 'none'}."
        )
    return found[name]


def ranked(board: Board, threats: Collection[str] | None = None, most_lost: float | None = None) -> list[Standing]:
    """Return the ranking of a board; see :func:`runners.report.ranking.rank`.

    Raises:
        GauntletError: the board has no face, and so no headline to rank by, or it has no such threat.
    """
    if board.contest is None:
        raise GauntletError(f"{board.name} is the table of a sweep and ranks nothing; boards are {', '.join(faces())}.")
    from runners.config.build import nearest  # imports Hydra

    for threat in threats or ():
        if threat not in board.contest.threats:
            raise GauntletError(
                f"The board {board.name} ranks by {board.contest.metric} and has no threat {threat!r} that works there"
                f"{nearest(threat, board.contest.threats)}"
            )
    return rank(board.contest, threats, most_lost)


def build(records: Iterable[Record], planned: Mapping[str, Faced] | None = None) -> list[Board]:
    """Return the boards with a face, then a board for each other sweep, by name, then that of all other cells.

    Where a sweep lacks the undefended run of a defended cell, because another sweep had already played it, the run of
    that other sweep is taken in. Where no sweep played the adaptive form of an attack without a defense, the undefended
    run of its plain form stands in: then there is nothing to know, and who may adapt may also play the plain attack.

    Args:
        records: as :func:`runners.report.source.compact` returns them.
        planned: face and planned cells of each board that has them.
    """
    every, planned = list(records), planned or {}
    wanted = {member.key for _, cells in planned.values() for member in cells}
    sweeps: dict[str, list[Record]] = defaultdict(list)
    for record in every:
        sweep = _sweep(record)
        if sweep in planned:
            if record["key"] in wanted:
                continue  # it stands on the boards that plan it
            sweep = ALONE
        sweeps[sweep].append(record)
    undefended = {_cell(record): record for record in every if _is_undefended(record)}
    boards = [_board(name, _members(cells, every), undefended, face) for name, (face, cells) in sorted(planned.items())]
    boards.sort(key=lambda board: board.played < board.planned)  # those that are played to the end come first
    names = sorted(sweeps, key=lambda name: (name == ALONE, name))
    return boards + [_board(name, sweeps[name], undefended) for name in names]


def _sweep(record: Record) -> str:
    """Return the name of the sweep that played a record: of its file, without the folder."""
    return str(record["sweep"] or ALONE).rpartition("/")[2]


def _board(name: str, own: list[Record], undefended: dict[Cell, Record], face: Face | None = None) -> Board:
    told = lines([*own, *_missing(own, undefended)])
    made = sections.build(name, told, planned=face is not None, unranked=face.unranked if face else ())
    return Board(name, made, face, _spent(own))


def _spent(records: Iterable[Record]) -> Spent:
    total = shared = attack = told = 0.0
    for record in records:
        seconds, parts = record["seconds"] or 0.0, record["diagnostics"] or {}
        total += seconds
        if parts.get("shared_seconds") is not None:
            told += seconds
            shared += parts["shared_seconds"]
            attack += parts.get("attack_seconds") or 0.0
    return Spent(total, shared, attack, told)


def _members(planned: Sequence[Member], every: Iterable[Record]) -> list[Record]:
    """Return a record for each planned cell; of one that is missing, a stand-in with the facts of its threat."""
    by_key = {record["key"]: record for record in every}
    facts = {record["config"]["threat"]["name"]: record["facts"] for record in by_key.values() if record["facts"]}
    empty: Record = {"status": NOT_RUN, "sweep": None, "reason": "", "media": {}} | {
        name: {} for name in source.NUMBERS
    }
    stand_ins = (
        empty | {"key": m.key, "seed": m.seed, "config": m.config, "facts": _facts(m, facts)}
        for m in planned
        if m.key not in by_key
    )
    missing = source.compact(stand_ins, like=by_key.values())
    return [*(by_key[m.key] for m in planned if m.key in by_key), *missing]


def _facts(member: Member, known: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the facts of a missing cell's threat as any record of the same option tells them."""
    threat = member.config["threat"]
    found = known.get(threat["name"])
    return {**found, "adaptive": bool(threat.get("adaptive"))} if found else {}


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
            played = undefended.get((*cell[:4], plain.get(_plain_form(record)), *cell[5:]))
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
    parts = (id(config[part]) for part in ("setting", "dataset", "model", "scale", "threat"))
    return (*parts, record["seed"], config.get("precision"))


def _is_undefended(record: Record) -> bool:
    return [node["name"] for node in record["config"]["defense"]] == [NONE]
