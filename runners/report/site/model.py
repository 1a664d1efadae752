"""Contents of the web site as plain objects, made of boards, claims and the catalogue."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from runners.claims.claim_evaluation import Answer, in_order
from runners.claims.claims import Paper, names
from runners.claims.verdicts import Verdict, verdict_on
from runners.config.identity import digest
from runners.config.pairs import Matrix
from runners.report.board_text import BROKEN, number, state, verdict
from runners.report.boards import Board
from runners.report.pictures import slug
from runners.report.sections import NONE, NOT_RUN, Cell, Column, Row, Section
from runners.report.worst_case import highest

SHARES = 10
OK, INVALID = "ok", "invalid"


@dataclass(frozen=True)
class Entry:
    """One threat against one defense under one protocol: a cell of a section."""

    section: Section
    row: Row
    column: Column

    @property
    def cell(self) -> Cell:
        return self.row.cells[self.column.threat]

    @property
    def state(self) -> str:
        """Return ``ok``, ``invalid``, or why there is no number: ``failed``, ``timeout``, ``diverged``, ``not run``."""
        if not self.cell.risk:
            return state(self.cell)
        return INVALID if self.column.invalid else OK

    @property
    def reason(self) -> str:
        """Return why the number is missing or proves nothing."""
        if self.state == INVALID:
            return self.column.invalid or ""
        broken = [run.reason for run in self.cell.runs if run.status != "ok" and run.reason]
        return broken[0] if broken and not self.cell.risk else ""

    @property
    def undefended(self) -> float | None:
        """Return the risk of the same threat without a defense, over the same seeds."""
        return self.cell.comparison.bare

    @property
    def remaining(self) -> float | None:
        """Return the share left of the undefended risk above chance; None if the attack does not beat chance."""
        return self.cell.comparison.share

    @property
    def shade(self) -> str:
        """Return the CSS class of its colour."""
        return shade(self.remaining)

    @property
    def stale(self) -> bool:
        return any(run.stale for run in self.cell.runs)

    @cached_property
    def anchor(self) -> str:
        where = [self.section.board, *self.section.place, self.column.threat, self.row.defense]
        return "c" + digest(where)[:10]


def shade(share: float | None) -> str:
    """Return the CSS class of the colour of a share."""
    return "r-none" if share is None else f"r{min(max(round(share * SHARES), 0), SHARES)}"


@dataclass(frozen=True)
class Attack:
    """A column of the overview: an option of ``conf/threat``, in its fixed or its adaptive form."""

    name: str
    adaptive: bool
    control: str | None

    @property
    def label(self) -> str:
        return f"{self.name} · adaptive" if self.adaptive else self.name


@dataclass(frozen=True)
class Pair:
    """A threat and a defense: the worst of their cells in each (dataset, scale), or why there is none."""

    attack: Attack
    defense: str
    entries: tuple[Entry, ...]
    refused: str | None

    @property
    def state(self) -> str:
        """Return ``ok``, ``invalid``, ``failed`` and the like, ``not run`` or ``refused``."""
        if self.entries:
            return self.entries[0].state
        return "refused" if self.refused else NOT_RUN

    @property
    def told(self) -> str:
        """Return a number, or why there is none; never empty."""
        if not self.entries:
            return f"refused: {self.refused}" if self.refused else NOT_RUN
        worst = self.entries[0]
        shown = number(worst.cell.summary.mean) if worst.cell.summary else worst.state
        return f"{shown}: {worst.reason}" if worst.reason else shown


@dataclass(frozen=True)
class Block:
    """A surface with its threats and the defenses that act there; ``others`` are refused for the reason ``why``."""

    setting: str
    surface: str
    attacks: list[Attack]
    defenses: list[str]
    pairs: dict[tuple[str, str], Pair]
    others: list[str]
    why: str

    @property
    def measured(self) -> int:
        """Return the number of pairs with a number."""
        return sum(pair.state in (OK, INVALID) for pair in self.pairs.values())

    @property
    def anchor(self) -> str:
        return slug(f"{self.setting}-{self.surface}")


@dataclass(frozen=True)
class Answered:
    """A paper with the answers to its claims."""

    paper: Paper
    answers: list[Answer]

    @property
    def page(self) -> str:
        return f"papers/{self.paper.system}.html"

    @property
    def verdict(self) -> Verdict:
        return verdict_on(self.paper, self.answers)

    def of(self, *, gates: bool) -> list[Answer]:
        """Return our own gates, or all other answers, by the kind of their claims."""
        return [one for one in in_order(self.answers) if (one.claim.kind == "gate") == gates]


@dataclass(frozen=True)
class Site:
    """All contents of the pages.

    Attributes:
        described: ``group/option`` of a defense or threat -> its description.
        strips: board -> path of its picture strip in the store.
    """

    boards: list[Board]
    blocks: list[Block]
    papers: list[Answered]
    described: dict[str, str]
    strips: dict[str, str]

    @cached_property
    def sections(self) -> list[Section]:
        return [section for board in self.boards for section in board.sections]

    @cached_property
    def entries(self) -> dict[str, list[Entry]]:
        """Return the cells of each defense (option or stack), those without a record left out."""
        found: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries_of(self.boards):
            found[entry.row.name].append(entry)
        return dict(found)

    @cached_property
    def threats(self) -> dict[str, tuple[Attack, Block, list[Entry]]]:
        """Return an attack of each option of a threat, where it stands, and its cells by falling share of risk left."""
        cells: dict[str, list[Entry]] = defaultdict(list)
        for entries in self.entries.values():
            for entry in entries:
                cells[entry.column.name].append(entry)
        return {
            attack.name: (attack, block, sorted(cells[attack.name], key=_by_remaining))
            for block in self.blocks
            for attack in block.attacks
        }

    @cached_property
    def rows(self) -> dict[str, list[tuple[Section, Row]]]:
        """Return the rows of each defense (option or stack)."""
        found: dict[str, list[tuple[Section, Row]]] = defaultdict(list)
        for section in self.sections:
            for row in section.rows:
                found[row.name].append((section, row))
        return dict(found)

    @cached_property
    def pairs(self) -> dict[str, list[Pair]]:
        """Return the pairs of each defense (option or stack) with every threat."""
        found: dict[str, list[Pair]] = defaultdict(list)
        for block in self.blocks:
            for (_, defense), pair in block.pairs.items():
                found[defense].append(pair)
        return dict(found)

    @cached_property
    def defenses(self) -> list[str]:
        """Return every defense that was measured or could be, ``none`` first."""
        known = {*self.rows, *(name for block in self.blocks for name in block.defenses)}
        return sorted(known, key=lambda name: (name != NONE, name))

    def broken(self, defense: str) -> list[tuple[Section, Row, str]]:
        """Return where an adaptive attack breaks the defense: section, row and metric."""
        rows = self.rows.get(defense, [])
        return [(s, row, metric) for s, row in rows for metric in s.metrics if verdict(s, row, metric) == BROKEN]

    @cached_property
    def runs(self) -> Counter[str]:
        """Return the number of records by status, and those of ``stale`` ones and ``invalid`` attacks."""
        runs = {run.key: run for entries in self.entries.values() for entry in entries for run in entry.cell.runs}
        counts = Counter(run.status for run in runs.values())
        counts["stale"] = sum(run.stale for run in runs.values())
        counts["invalid"] = sum(bool(column.invalid) for section in self.sections for column in section.columns)
        return counts

    @property
    def places(self) -> tuple[list[str], list[str]]:
        """Return the datasets and scales to filter by."""
        return sorted({s.dataset for s in self.sections}), sorted({s.scale for s in self.sections})


def _by_remaining(entry: Entry) -> tuple[float, Any]:
    share = entry.remaining
    return float("inf") if share is None else share, (entry.section.board, entry.section.place, entry.row.defense)


def blocks(boards: Iterable[Board], matrix: Matrix) -> list[Block]:
    """Return the overview: every threat of the catalogue and the records against every defense, by surface."""
    cells: dict[tuple[str, bool, str], list[Entry]] = defaultdict(list)
    attacks: dict[tuple[str, str], set[Attack]] = defaultdict(set)
    stacks: set[str] = set()
    for entry in entries_of(boards):
        column = entry.column
        cells[column.name, column.adaptive, entry.row.name].append(entry)
        place = matrix.places.get(column.name, (entry.section.setting, column.surface))
        attacks[place].add(Attack(column.name, column.adaptive, column.control))
        stacks.add(entry.row.name)
    for name, place in matrix.places.items():
        if not any(attack.name == name for attack in attacks[place]):
            attacks[place].add(Attack(name, adaptive=False, control=matrix.controls.get(name)))
    every = sorted(stacks | set(matrix.hooks), key=lambda name: (name != NONE, name))
    return [_block(place, found, every, cells, matrix) for place, found in sorted(attacks.items())]


def entries_of(boards: Iterable[Board]) -> Iterator[Entry]:
    """Yield every cell that has a record."""
    for board in boards:
        for section in board.sections:
            for row in section.rows:
                yield from (Entry(section, row, c) for c in section.columns if row.cells[c.threat].played)


def _block(
    place: tuple[str, str],
    found: set[Attack],
    every: list[str],
    cells: dict[tuple[str, bool, str], list[Entry]],
    matrix: Matrix,
) -> Block:
    attacks = sorted(found, key=lambda one: (one.control is not None, one.name, one.adaptive))
    acting = ", ".join(sorted(matrix.acting.get(place, ())))
    why = f"only a defense with {acting} acts on the surface {place[1]!r} of {place[0]}"
    meets = [
        name
        for name in every
        if _meets(name, place, matrix) or any(cells.get((a.name, a.adaptive, name)) for a in attacks)
    ]
    pairs = {}
    for attack in attacks:
        for name in every:
            entries = _worst_of_each(cells.get((attack.name, attack.adaptive, name), []))
            refused = None if name in meets else f"{name} does not act on the surface {place[1]!r} of {place[0]}"
            pairs[attack.label, name] = Pair(attack, name, entries, refused)
    return Block(*place, attacks, meets, pairs, [name for name in every if name not in meets], why)


def _meets(defense: str, place: tuple[str, str], matrix: Matrix) -> bool:
    acting = matrix.acting.get(place, frozenset())
    return defense == NONE or any(acting & matrix.hooks.get(name, frozenset()) for name in names(defense))


def _worst_of_each(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the worst case of each (dataset, scale), that of highest risk first; see :mod:`runners.report.worst_case`.

    A cell without a valid number stands for its dataset and scale only where there is no other.
    """
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.section.dataset, entry.section.scale].append(entry)
    return tuple(sorted((_worst_of(group) for group in groups.values()), key=_order))


def _worst_of(entries: list[Entry]) -> Entry:
    ordered = sorted(entries, key=_order)
    valid = [entry for entry in ordered if entry.state == OK]
    return highest(valid, lambda entry: entry.cell.comparison) or ordered[0]


def _order(entry: Entry) -> tuple[int, float, Any]:
    """Sort valid numbers first and by falling risk, then invalid ones, failures and cells that were not run."""
    rank = {OK: 0, INVALID: 1, NOT_RUN: 3}.get(entry.state, 2)
    risk = -entry.cell.summary.mean if rank == 0 and entry.cell.summary else 0.0
    return rank, risk, (entry.section.board, entry.section.place, entry.row.defense)
