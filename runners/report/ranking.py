"""Ranking of a board: the defenses by their worst case over the threats that a reader faces.

The page of a board computes the same ranking from the same :class:`Contest` when its reader chooses other threats
(``site/static/ranking.js``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from runners.report.sections import Cell, Row, Section
from runners.report.statistics import Sample, ties

DEFENSE, PLAIN, CONTROL = "defense", "none", "control"


@dataclass(frozen=True)
class Attack:
    """An attack that works, or may work, under one protocol; ``threat`` is its option, ``label`` its full name."""

    threat: str
    label: str
    protocol: str


@dataclass(frozen=True)
class Met:
    """Risk by seed of one attack against an entrant.

    Attributes:
        half: half width of the 95 % interval of its mean.
        bare: mean risk without a defense, over the same seeds.
        share: what is left of it above chance.
        whole: no seed is missing.
    """

    risk: Sample
    half: float | None
    bare: float | None
    share: float | None
    whole: bool


UNKNOWN = Met({}, None, None, None, whole=False)
"""Of an attack that has no number without a defense yet, and may turn out not to count."""


@dataclass(frozen=True)
class Entrant:
    """A row of the ranking: a defense, no defense, or a control.

    Attributes:
        kind: :data:`DEFENSE`, :data:`PLAIN` or :data:`CONTROL`.
        lost: the most utility that it loses against no defense, over the protocols; None for controls.
        met: index of an attack -> its risk, of the attacks that the board plays against it.
    """

    defense: str
    name: str
    kind: str
    lost: float | None
    lost_half: float | None
    met: dict[int, Met]


@dataclass(frozen=True)
class Contest:
    """Everything that a ranking depends on."""

    metric: str
    utility: str
    fraction: bool
    attacks: list[Attack]
    entrants: list[Entrant]

    @property
    def threats(self) -> list[str]:
        """Return the options of the threats, each once."""
        return sorted({attack.threat for attack in self.attacks})

    @property
    def protocols(self) -> list[str]:
        return list(dict.fromkeys(attack.protocol for attack in self.attacks))


@dataclass(frozen=True)
class Standing:
    """An entrant in the ranking.

    Attributes:
        place: 1 for the best defense; None for no defense, controls, and defenses that cannot be placed.
        worst: the greatest mean risk of an attack that the reader faces, None where none has a number.
        attack, met: the attack that reaches it, and its numbers.
        complete: every attack that the board plays against it has all its numbers.
        affordable: it loses no more utility than the reader allows.
        tied: it cannot be told from the best defense.
        front: no other is at least as good in both risk and utility, and better in one; nor is no defense as good.
    """

    entrant: Entrant
    place: int | None
    worst: float | None
    attack: Attack | None
    met: Met | None
    complete: bool
    affordable: bool
    tied: bool
    front: bool


# -- from the sections of a board -------------------------------------------------------------------------------------
def contest(sections: Sequence[Section], metric: str) -> Contest:
    """Return what the ranking by ``metric`` over all ``sections`` depends on."""
    titles = short_titles(sections)
    attacks, met, controls = [], [], []
    for section, title in zip(sections, titles, strict=True):
        for column in section.columns:
            if column.metric == metric and (column.counts or column.open):
                attacks.append(Attack(column.name, column.threat, title))
                cells = {row.defense: row.cells[column.threat] for row in section.rows}
                met.append({name: UNKNOWN if column.open else _met(cell) for name, cell in cells.items() if cell.runs})
            if column.metric == metric and column.control and (bare := section.undefended):
                controls.append((column.threat, column.name, title, bare.cells[column.threat]))
    defenses = {row.defense: row.name for section in sections for row in section.rows}
    entrants = [
        _entrant(label, name, [row for s in sections for row in s.rows if row.defense == label], met)
        for label, name in defenses.items()
    ]
    entrants += _controls(controls, attacks)
    utilities = [section.utility for section in sections]
    return Contest(
        metric, utilities[0] if utilities else "utility", all(s.fraction for s in sections), attacks, entrants
    )


def _entrant(label: str, name: str, rows: Sequence[Row], met: Sequence[Mapping[str, Met]]) -> Entrant:
    plain = any(row.plain for row in rows)
    prices = [row.price for row in rows if row.price]
    price = max(prices, key=lambda one: one.mean, default=None)
    return Entrant(
        defense=label,
        name=name,
        kind=PLAIN if plain else DEFENSE,
        lost=0.0 if plain else price.mean if price else None,
        lost_half=price.half_width if price else None,
        met={index: of[label] for index, of in enumerate(met) if label in of},
    )


def _met(cell: Cell) -> Met:
    summary = cell.summary
    comparison = cell.comparison
    return Met(
        dict(cell.risk), summary.half_width if summary else None, comparison.bare, comparison.share, not cell.lost
    )


def _controls(found: Iterable[tuple[str, str, str, Cell]], attacks: Sequence[Attack]) -> list[Entrant]:
    """Return the controls as entrants, each met by every attack of its protocol with the control's own numbers."""
    names: dict[str, str] = {}
    met: dict[str, dict[int, Met]] = {}
    for label, name, protocol, cell in found:
        names[label] = name
        own = met.setdefault(label, {})
        own |= {index: _met(cell) for index, attack in enumerate(attacks) if attack.protocol == protocol}
    return [Entrant(label, names[label], CONTROL, None, None, met[label]) for label in names]


def short_titles(sections: Sequence[Section]) -> list[str]:
    """Return for each section those parts of its place in which the sections differ; of a single one all parts."""
    places = [section.place for section in sections]
    telling = [i for i in range(len(places[0])) if len({place[i] for place in places}) > 1] if places else []
    return [" · ".join(place[i] for i in telling or range(len(place))) for place in places]


# -- the ranking ------------------------------------------------------------------------------------------------------
def rank(
    found: Contest,
    threats: Collection[str] | None = None,
    most_lost: float | None = None,
) -> list[Standing]:
    """Return the entrants from the least to the greatest worst case, then those without all numbers, then the dear.

    Args:
        threats: options of the threats that the reader faces, None for all of them; adaptive forms go with the plain.
        most_lost: utility that he can lose at most, in the unit of the utility metric; None for any.
    """
    faced = [index for index, attack in enumerate(found.attacks) if threats is None or attack.threat in threats]
    judged = [_judged(entrant, faced, found.attacks, most_lost) for entrant in found.entrants]
    judged.sort(key=_order)
    ranked = [one.entrant for one in judged if one.entrant.kind == DEFENSE and one.complete and one.affordable]
    if not ranked:
        return judged
    places = {entrant.defense: place for place, entrant in enumerate(ranked, start=1)}
    tied = ties(ranked[0].defense, {entrant.defense: _risks(entrant, faced) for entrant in ranked})
    return [
        replace(
            one,
            place=places.get(one.entrant.defense),
            tied=one.entrant.defense in tied,
            front=_on_front(one, judged),
        )
        for one in judged
    ]


@dataclass(frozen=True)
class Headline:
    """A ranking in a line: the defenses on the front, the best one, and no defense."""

    front: list[Standing]
    best: Standing | None
    bare: Standing | None


def headline(standings: Sequence[Standing]) -> Headline:
    """Return the front of a ranking and the rows that it is summed up by."""
    return Headline(
        front=[one for one in standings if one.front and one.entrant.kind == DEFENSE],
        best=next((one for one in standings if one.place == 1), None),
        bare=next((one for one in standings if one.entrant.kind == PLAIN), None),
    )


def _judged(entrant: Entrant, faced: Sequence[int], attacks: Sequence[Attack], most_lost: float | None) -> Standing:
    asked = [index for index in faced if index in entrant.met]
    means = [(_mean(entrant.met[index].risk), index) for index in asked if entrant.met[index].risk]
    worst, index = max(means, key=lambda pair: (pair[0], -pair[1])) if means else (None, None)
    complete = bool(asked) and all(entrant.met[i].whole for i in asked)
    affordable = (
        entrant.kind != DEFENSE or most_lost is None or (entrant.lost is not None and entrant.lost <= most_lost)
    )
    attack, met = (attacks[index], entrant.met[index]) if index is not None else (None, None)
    return Standing(entrant, None, worst, attack, met, complete, affordable, tied=False, front=False)


def _mean(risk: Sample) -> float:
    return sum(risk[seed] for seed in sorted(risk)) / len(risk)


def _order(one: Standing) -> tuple[int, float, str]:
    known = 2 if one.worst is None else 0 if one.complete else 1
    group = known if one.affordable else 3
    return group, one.worst if one.worst is not None else 0.0, one.entrant.defense


def _risks(entrant: Entrant, faced: Sequence[int]) -> list[Sample]:
    return [entrant.met[index].risk for index in faced if index in entrant.met]


def _on_front(one: Standing, others: Sequence[Standing]) -> bool:
    """Return whether nobody is as good in risk and utility and better in one of them.

    A defense that is no better than none in either is not on the front.
    """
    own = _point(one)
    rivals = [(other.entrant.kind, point) for other in others if other is not one and (point := _point(other))]
    return own is not None and not any(
        point[0] <= own[0] and point[1] <= own[1] and (point != own or kind == PLAIN) for kind, point in rivals
    )


def _point(one: Standing) -> tuple[float, float] | None:
    """Return risk and lost utility of one that may be on the front."""
    if one.entrant.kind == CONTROL or not one.complete or not one.affordable or one.worst is None:
        return None
    return None if one.entrant.lost is None else (one.worst, one.entrant.lost)
