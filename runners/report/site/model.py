"""What the web site shows, as plain objects made of boards, claims and the catalogue."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from runners.claims.claim_evaluation import Answer
from runners.claims.claims import Paper, names
from runners.config.identity import digest
from runners.config.pairs import Matrix
from runners.report.board_text import BROKEN, number, state, verdict
from runners.report.boards import NONE, NOT_RUN, Board, Cell, Column, Row
from runners.report.pictures import slug

SHARES = 10
OK, INVALID = "ok", "invalid"


@dataclass(frozen=True)
class Entry:
    """One threat against one defense in one place: a cell of a board."""

    board: Board
    row: Row
    column: Column

    @property
    def cell(self) -> Cell:
        return self.row.cells[self.column.threat]

    @property
    def state(self) -> str:
        """``ok``, ``invalid``, or why there is no number: ``failed``, ``timeout``, ``diverged``, ``not run``."""
        if not self.cell.risk:
            return state(self.cell)
        return INVALID if self.column.invalid else OK

    @property
    def reason(self) -> str:
        """Why the number is missing or says nothing."""
        if self.state == INVALID:
            return self.column.invalid or ""
        broken = [run.reason for run in self.cell.runs if run.status != "ok" and run.reason]
        return broken[0] if broken and not self.cell.risk else ""

    @property
    def undefended(self) -> float | None:
        """The risk of the same threat without a defense."""
        plain = self.board.undefended
        summary = plain.cells[self.column.threat].summary if plain else None
        return summary.mean if summary else None

    @property
    def remaining(self) -> float | None:
        """The share of the undefended risk, above chance, that is left; None where that says nothing."""
        bare, chance, summary = self.undefended, self.board.chance(self.column.metric), self.cell.summary
        if summary is None or bare is None or self.column.control or self.column.invalid or bare <= chance:
            return None
        return (summary.mean - chance) / (bare - chance)

    @property
    def shade(self) -> str:
        """The CSS class of its colour."""
        share = self.remaining
        return "r-none" if share is None else f"r{min(max(round(share * SHARES), 0), SHARES)}"

    @property
    def stale(self) -> bool:
        return any(run.stale for run in self.cell.runs)

    @cached_property
    def anchor(self) -> str:
        return "c" + digest([*self.board.place, self.column.threat, self.row.defense])[:10]

    @property
    def badness(self) -> tuple[int, float]:
        """Sorts the cells of a pair: valid numbers before others, and among them the greatest share left."""
        if self.state == OK:
            return 0, -(self.remaining if self.remaining is not None else 0.0)
        return (1, 0.0) if self.state == INVALID else (3, 0.0) if self.state == NOT_RUN else (2, 0.0)


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
        """``ok``, ``invalid``, ``failed`` etc., ``not run`` or ``refused``."""
        if self.entries:
            return self.entries[0].state
        return "refused" if self.refused else NOT_RUN

    @property
    def told(self) -> str:
        """Never empty: a number, or what became of the pair."""
        if not self.entries:
            return f"refused: {self.refused}" if self.refused else NOT_RUN
        worst = self.entries[0]
        shown = number(worst.cell.summary.mean) if worst.cell.summary else worst.state
        return f"{shown}: {worst.reason}" if worst.reason else shown


@dataclass(frozen=True)
class Block:
    """A surface with the threats on it, and the defenses that act there; ``others`` are refused, ``why`` says it."""

    setting: str
    surface: str
    attacks: list[Attack]
    defenses: list[str]
    pairs: dict[tuple[str, str], Pair]
    others: list[str]
    why: str

    @property
    def measured(self) -> int:
        """How many pairs have a number."""
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


@dataclass(frozen=True)
class Site:
    """Everything the pages show."""

    boards: list[Board]
    blocks: list[Block]
    papers: list[Answered]
    described: dict[str, str]

    @cached_property
    def entries(self) -> dict[str, list[Entry]]:
        """Defense (option or stack) -> its cells, those without a record left out."""
        found: dict[str, list[Entry]] = defaultdict(list)
        for board in self.boards:
            for row in board.rows:
                kept = [Entry(board, row, column) for column in board.columns if row.cells[column.threat].runs]
                found[row.name].extend(kept)
        return dict(found)

    @cached_property
    def defenses(self) -> list[str]:
        """Every defense that was measured or could be, ``none`` first."""
        known = {*self.entries, *(name for block in self.blocks for name in block.defenses)}
        return sorted(known, key=lambda name: (name != NONE, name))

    @cached_property
    def settings(self) -> list[str]:
        return sorted({board.setting for board in self.boards})

    def broken(self, defense: str) -> list[tuple[Board, Row, str]]:
        """Where an adaptive attack undoes the defense: board, row and metric."""
        rows = [(board, row) for board in self.boards for row in board.rows if row.name == defense]
        return [(b, r, metric) for b, r in rows for metric in b.metrics if verdict(b, r, metric) == BROKEN]

    @cached_property
    def runs(self) -> Counter[str]:
        """Records by status, with those that are ``stale`` and the ``invalid`` attacks beside."""
        cells = [entry.cell for entries in self.entries.values() for entry in entries]
        counts = Counter(run.status for cell in cells for run in cell.runs)
        counts["stale"] = sum(run.stale for cell in cells for run in cell.runs)
        counts["invalid"] = sum(bool(column.invalid) for board in self.boards for column in board.columns)
        return counts

    @property
    def places(self) -> tuple[list[str], list[str]]:
        """Datasets and scales to filter by."""
        return sorted({b.dataset for b in self.boards}), sorted({b.scale for b in self.boards})


def blocks(boards: Iterable[Board], matrix: Matrix) -> list[Block]:
    """The overview: every threat of the catalogue and the records against every defense, by surface."""
    cells: dict[tuple[str, bool, str], list[Entry]] = defaultdict(list)
    attacks: dict[tuple[str, str], set[Attack]] = defaultdict(set)
    stacks: set[str] = set()
    for entry in _entries(boards):
        column = entry.column
        cells[column.name, column.adaptive, entry.row.name].append(entry)
        place = matrix.places.get(column.name, (entry.board.setting, column.surface))
        attacks[place].add(Attack(column.name, column.adaptive, column.control))
        stacks.add(entry.row.name)
    for name, place in matrix.places.items():
        if not any(attack.name == name for attack in attacks[place]):
            attacks[place].add(Attack(name, adaptive=False, control=matrix.controls.get(name)))
    every = sorted(stacks | set(matrix.hooks), key=lambda name: (name != NONE, name))
    return [_block(place, found, every, cells, matrix) for place, found in sorted(attacks.items())]


def _entries(boards: Iterable[Board]) -> Iterator[Entry]:
    for board in boards:
        for row in board.rows:
            yield from (Entry(board, row, column) for column in board.columns if row.cells[column.threat].runs)


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


def _worst_of_each(entries: list[Entry]) -> tuple[Entry, ...]:
    """The worst cell of each (dataset, scale), the worst of all first."""
    kept: dict[tuple[str, str], Entry] = {}
    for entry in sorted(entries, key=lambda one: (one.badness, one.board.place, one.row.defense)):
        kept.setdefault((entry.board.dataset, entry.board.scale), entry)
    return tuple(kept.values())
