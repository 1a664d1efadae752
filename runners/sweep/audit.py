"""An audit: the cells of a sweep on somebody's own data, in the order of what they tell, until the time is up.

The store keeps the records, so the same call goes on where an earlier one stopped.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmark.errors import ConfigError
from runners.config.build import build, locate
from runners.config.catalogue import CONF
from runners.config.compose import ComposedCell
from runners.config.identity import SINGLE, canonical
from runners.config.pairs import Matrix
from runners.store.records import FINISHED, Record, Store
from runners.sweep.plan import Plan, Planned
from runners.sweep.time_limit import end_child, play_within

NONE = "none"
FIRST_DEFENSES = 3
"""So many defenses of each family are tried before seeds are repeated."""
FIRST_THREATS = 2
"""So many attacks of each family meet these defenses before another attack is tried."""
LARGEST_SHARE = 0.15
"""Of the time, for one cell: a threat that nobody has timed on such data must not use up all of it. Until one has ended
there is no such limit, so that a slow machine has a number at least."""
SHORTEST = 30.0  # seconds that a cell may have in any case
AGAIN = 1.5  # a cell that was stopped before is tried again where so many times as much time is left
OTHER_DATA = "on other data"
NO_TIME = "the time was up"
PUBLISHED = CONF.parent / "results"

Play = Callable[[ComposedCell, float], Record]
"""Plays a cell until a time of :func:`time.monotonic`."""


# -- the data ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Data:
    """Facts of a dataset.

    Attributes:
        kind: ``image``, ``tabular`` or ``signal``.
        shape: of one sample.
        train, test: samples in its two pools.
        sizes: samples of each role as they are asked for; None: all.
        notes: sentences on what was changed in reading them.
        traits: facts that threats and defenses may need and only the data tell.
    """

    kind: str
    shape: tuple[int, ...]
    classes: int
    train: int
    test: int
    sizes: Mapping[str, int | None]
    notes: str = ""
    traits: Mapping[str, str] = field(default_factory=dict)

    def told(self) -> str:
        """Return a sentence on the data."""
        unit = {"image": "images", "tabular": "rows", "signal": "signals"}.get(self.kind, "samples")
        size = f"{self.shape[0]} columns" if len(self.shape) == 1 else f"each {'x'.join(map(str, self.shape))}"
        found = f"{self.train:,} {unit} to train with and {self.test:,} to test with; {size}; {self.classes} classes."
        return f"{found} {self.notes}".strip()

    def overrides(self) -> list[str]:
        """Return overrides of sizes that these data can give.

        Where the pools are too small, all roles shrink alike; of a large test pool a thousand samples are used.
        """
        roles = {role: size or 0 for role, size in self.sizes.items() if role != "test"}
        share = min(1.0, self.train / max(1, sum(roles.values())))
        lines = [f"dataset.sizes.{role}={int(size * share)}" for role, size in roles.items() if share < 1]
        test = self.sizes.get("test") or self.test
        if (most := min(test, self.test, MOST_TESTED)) != self.sizes.get("test") and most < max(test, self.test):
            lines.append(f"dataset.sizes.test={most}")
        return lines


MOST_TESTED = 1000


def look(cell: ComposedCell) -> Data:
    """Return facts of the cell's dataset, which is read for it.

    Raises:
        GauntletError: it is not where it should be, or is no dataset.
    """
    from benchmark.cell import read_traits
    from benchmark.data.base import PRIVATE_SPLITS
    from benchmark.data.brought import Brought, told

    source = build(cell.nodes["dataset"], "dataset", cell.options.trusted)
    root = cell.options.data_root
    if isinstance(source, Brought):  # it divides what there is, whatever the size
        data = source.load(root, cell.config["seed"])
        roles = {role: len(getattr(data, role)) for role in PRIVATE_SPLITS}
        sizes, train = {**roles, "test": len(data.test)}, sum(roles.values())
        return Data(
            data.kind, data.shape, data.num_classes, train, len(data.test), sizes, told(data), read_traits(data)
        )
    train, test, classes = source.pools(root)
    return Data(source.kind, tuple(train.x.shape[1:]), classes, len(train), len(test), dict(source.sizes))


# -- the order --------------------------------------------------------------------------------------------------------
def ordered(cells: Iterable[Planned], lines: Sequence[tuple[str, ...]], matrix: Matrix) -> list[Planned]:
    """Return the cells in the order of trying, without adaptive forms where there is nothing to adapt to.

    First the controls and the first attacks of every family without a defense; then the first defenses against these,
    plain and adaptive; then the same with the other attacks; then all of it again with other seeds; then the other
    defenses. Within these steps the families take turns, so that none is left out when the time is up.

    Args:
        lines: the overrides of all cells in the order of the sweep's file, from which threats and defenses have theirs.
    """
    kept = _without_idle(cells)
    rank = {line: number for number, line in enumerate(lines)}
    threats: dict[str, int] = {}
    defenses: dict[tuple[str, str, str], int] = {}
    for planned in sorted(kept, key=lambda planned: rank.get(planned.overrides, len(rank))):
        threats.setdefault(threat_of(planned), len(threats))
        defenses.setdefault((*family_of(planned, matrix), defense_of(planned)), len(defenses))
    attacks: dict[tuple[str, str], list[str]] = defaultdict(list)
    for planned in sorted(kept, key=lambda planned: threats[threat_of(planned)]):
        if (name := threat_of(planned)) not in matrix.controls and name not in attacks[family_of(planned, matrix)]:
            attacks[family_of(planned, matrix)].append(name)
    first = min((planned.cell.config["seed"] for planned in kept), default=0)
    steps: dict[tuple[Any, ...], list[Planned]] = defaultdict(list)
    for planned in kept:
        family = family_of(planned, matrix)
        own = sorted(place for of, place in defenses.items() if of[:2] == family)
        place = own.index(defenses[*family, defense_of(planned)])
        late = place > FIRST_DEFENSES  # the undefended cell has place 0
        repeated = planned.cell.config["seed"] != first
        minor = threat_of(planned) in attacks[family][FIRST_THREATS:]
        steps[late, repeated, minor, place > 0, family].append(planned)
    for group in steps.values():
        group.sort(
            key=lambda planned: (
                planned.cell.config["seed"],
                defenses[*family_of(planned, matrix), defense_of(planned)],
                threats[threat_of(planned)],
                is_adaptive(planned),
            )
        )
    return [planned for step in _steps(steps) for planned in step]


def _steps(groups: Mapping[tuple[Any, ...], list[Planned]]) -> Iterator[list[Planned]]:
    """Yield the cells of each step, one of each family in turn."""
    by_step: dict[tuple[Any, ...], list[list[Planned]]] = defaultdict(list)
    for key in sorted(groups):
        by_step[key[:-1]].append(groups[key])
    for families in by_step.values():
        longest = max(map(len, families))
        yield [group[turn] for turn in range(longest) for group in families if turn < len(group)]


def _without_idle(cells: Iterable[Planned]) -> list[Planned]:
    """Return the cells without adaptive forms that meet no defense where the plain form is there too."""
    every = list(cells)
    plain = {threat_of(planned) for planned in every if not is_adaptive(planned)}
    return [p for p in every if not (is_adaptive(p) and defense_of(p) == NONE and threat_of(p) in plain)]


def threat_of(planned: Planned) -> str:
    return str(planned.cell.config["threat"]["name"])


def defense_of(planned: Planned) -> str:
    return "+".join(part["name"] for part in planned.cell.config["defense"])


def is_adaptive(planned: Planned) -> bool:
    return bool(planned.cell.config["threat"].get("adaptive"))


def family_of(planned: Planned, matrix: Matrix) -> tuple[str, str]:
    """Return the setting of the threat and the prefix of its name."""
    name = threat_of(planned)
    setting = matrix.places.get(name, (planned.cell.config["setting"]["name"],))[0]
    return setting, name.partition("_")[0]


# -- time -------------------------------------------------------------------------------------------------------------
class Times:
    """Estimates of how long a cell takes: by cells of the audit so far, else by published ones."""

    def __init__(self, store: Store, published: Store | None) -> None:
        self.own: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.stopped: dict[str, float] = {}
        self.published: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for record in _timed(store):
            self.add(record)
        for record in _timed(published) if published else ():
            if record["status"] == "ok":
                threat, dataset, scale = record["threat"], record["dataset"], record["scale"]
                self.published[threat, dataset, scale].append(record["seconds"])
                self.published[threat, OTHER_DATA, scale].append(record["seconds"])

    def add(self, record: Mapping[str, Any]) -> None:
        """Take in a record of the audit, as a line of the store's columns."""
        if record["status"] == "ok":
            self.own["threat", record["threat"]].append(record["seconds"])
            self.own["defense", record["defense"]].append(record["seconds"])
        elif record["status"] == "timeout":
            self.stopped[record["key"]] = record["seconds"]

    def estimate(self, planned: Planned) -> float | None:
        """Return the expected seconds, None where nothing tells."""
        if (spent := self.stopped.get(planned.cell.key)) is not None:
            return AGAIN * spent
        threat, defense = threat_of(planned), defense_of(planned)
        if times := self.own.get(("threat", threat)):
            others = self.own.get(("defense", defense)) if defense != NONE else None
            return max(statistics.median(times), statistics.median(others) if others else 0.0)
        config = planned.cell.config
        for dataset in (config["dataset"]["name"], OTHER_DATA):
            if times := self.published.get((threat, dataset, config["scale"]["name"])):
                return statistics.median(times)
        return None


def _timed(store: Store) -> Iterator[dict[str, Any]]:
    columns = store.columns("key", "status", "seconds", "threat", "defense", "dataset", "scale")
    names = list(columns)
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(names, values, strict=True))


# -- what an attack is worth here -------------------------------------------------------------------------------------
class Bare:
    """Judge of which attacks work here without a defense, by their records so far."""

    def __init__(self) -> None:
        self.reached: dict[str, list[tuple[float, float | None]]] = defaultdict(list)
        self.missing: set[str] = set()

    def add(self, planned: Planned, record: Mapping[str, Any]) -> None:
        """Take in the record of an undefended cell."""
        if defense_of(planned) != NONE:
            return
        floor = record["facts"].get("floor")
        metric = floor["metric"] if floor else record["facts"].get("headline")
        value = record["risk"].get(metric) if record["status"] == "ok" else None
        if value is None:
            self.missing.add(_place(planned))
        else:
            self.reached[_place(planned)].append((value, floor["at_least"] if floor else None))

    def refusal(self, planned: Planned) -> str | None:
        """Return why a defended cell would show nothing, or None."""
        if defense_of(planned) == NONE:
            return None
        reached = self.reached.get(_place(planned))
        if reached is None:
            return "the attack has no number without a defense to compare with" if self._known(planned) else None
        mean, least = statistics.fmean(value for value, _ in reached), reached[0][1]
        if least is not None and mean < least:
            return f"the attack does not work here without a defense ({mean:.3g}, and it counts from {least:g})"
        return None

    def _known(self, planned: Planned) -> bool:
        return _place(planned) in self.missing


def _place(planned: Planned) -> str:
    """Return what a cell shares with its undefended form."""
    config = planned.cell.config
    threat = {name: value for name, value in config["threat"].items() if name != "adaptive"}
    return repr(
        [config["setting"], config["dataset"], config["model"], config["scale"], config.get("precision"), threat]
    )


# -- playing ----------------------------------------------------------------------------------------------------------
@dataclass
class Audit:
    """An audit that runs or is over.

    Attributes:
        cells: in the order of trying.
        refused: reason -> cells that cannot be: threat, defense, data or model do not meet.
        total: seconds of this call.
        played: keys of the cells that this call played.
        untried: key -> why the cell was not played.
    """

    cells: list[Planned]
    refused: Mapping[str, int]
    store: Store
    times: Times
    total: float
    until: float
    bare: Bare = field(default_factory=Bare)
    played: list[str] = field(default_factory=list)
    untried: dict[str, str] = field(default_factory=dict)
    at_work: dict[int, str] = field(default_factory=dict)
    waiting: list[Planned] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def left(self) -> float:
        return max(0.0, self.until - time.monotonic())

    def begin(self) -> None:
        """Take in what earlier calls have played; what they have not waits."""
        self.waiting = []
        for planned in self.cells:
            record = self.store.sound(planned.cell.key)
            if record is not None:
                self.bare.add(planned, record)
            if record is None or record["status"] not in FINISHED:
                self.waiting.append(planned)

    def play(self, player: Play, jobs: int) -> None:
        """Play what is worth it and fits, ``jobs`` cells at a time, until the time is up."""
        failures: list[Exception] = []

        def work() -> None:
            try:
                while (planned := self._next()) is not None:
                    self._one(planned, player)
            except Exception as error:
                failures.append(error)
            finally:
                end_child()

        workers = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
        for worker in workers:
            worker.start()
        for worker in workers:
            while worker.is_alive():
                worker.join(0.2)  # so that Ctrl-C is heard
        if failures:
            raise failures[0]
        self._give_reasons()

    def _next(self) -> Planned | None:
        """Return the next cell that would show something and fits into the time that is left."""
        with self.lock:
            for planned in self.waiting:
                if self.left < 1 or self._why_not(planned) is not None:
                    continue
                self.waiting.remove(planned)
                self.at_work[threading.get_ident()] = planned.cell.label
                return planned
            return None

    def _why_not(self, planned: Planned) -> str | None:
        if reason := self.bare.refusal(planned):
            return reason
        expected = self.times.estimate(planned)
        if expected is not None and expected > self.left:
            return NO_TIME
        return None

    def _one(self, planned: Planned, player: Play) -> None:
        most = max(SHORTEST, LARGEST_SHARE * self.total) if self.times.own else self.left
        limit = min(self.left, most)
        options = replace(planned.cell.options, time_limit=limit)
        with self.store.claim(planned.cell.key):
            if not self.store.finished(planned.cell.key):
                record = player(replace(planned.cell, options=options), self.until)  # imports are not the cell's time
                self.store.write(record)
        with self.lock:
            self.at_work.pop(threading.get_ident(), None)
            self.played.append(planned.cell.key)
            found = self.store.read(planned.cell.key)
            assert found is not None
            self.bare.add(planned, found)
            line = {name: found[name] for name in ("key", "status", "seconds")}
            self.times.add({**line, "threat": threat_of(planned), "defense": defense_of(planned)})

    def _give_reasons(self) -> None:
        for planned in self.waiting:
            self.untried[planned.cell.key] = self._why_not(planned) or NO_TIME


def make(
    plan: Plan, data: Data, lines: Sequence[tuple[str, ...]], matrix: Matrix, store: Store, *, seconds: float
) -> Audit:
    """Return the audit of the cells of ``plan``, ready to be played for ``seconds``."""
    published = Store(PUBLISHED) if (PUBLISHED / "records").is_dir() else None
    refused = Counter(plan.refused)
    cells = ordered(_fitting([*plan.finished, *plan.to_run], data, refused), lines, matrix)
    if not cells:
        reasons = "; ".join(reason for reason, _ in refused.most_common(3))
        raise ConfigError(f"No threat of the audit can be played here: {reasons or 'the sweep has no cell'}.")
    audit = Audit(cells, refused, store, Times(store, published), seconds, time.monotonic() + seconds)
    audit.begin()
    return audit


def _fitting(cells: Iterable[Planned], data: Data, refused: Counter[str]) -> Iterator[Planned]:
    """Yield the cells that these data can be played with; the others are counted in ``refused``.

    A plan knows only what the class of a data set tells, and a file of the user's tells more.
    """
    from benchmark.cell import traits
    from benchmark.compatibility import refusal

    misfits: dict[str, str | None] = {}
    for planned in cells:
        cell = planned.cell
        nodes = [*(cell.nodes[group] for group in SINGLE), *cell.nodes["defense"].values()]
        dataset, model, setting, threat, *defenses = (
            locate(node["_target_"], "audit", cell.options.trusted) for node in nodes
        )
        named = canonical(cell.config["model"])
        if named not in misfits:
            misfits[named] = _misfit(cell, data)
        if reason := refusal(setting, threat, defenses, {**traits(dataset, model), **data.traits}) or misfits[named]:
            refused[reason] += 1
        else:
            yield planned


def _misfit(cell: ComposedCell, data: Data) -> str | None:
    """Return why the cell's model cannot take samples of this shape, or None."""
    from benchmark.seeds import isolated

    architecture = build(cell.nodes["model"], "model", cell.options.trusted)
    try:
        with isolated(0, "audit.model"):
            architecture(shape=data.shape, num_classes=data.classes)
    except ConfigError as error:
        return str(error)
    return None


def within(cell: ComposedCell, until: float) -> Record:
    """Play the cell in a process that is ended at ``until``, whatever it is at."""
    return play_within(cell, refuse=False, until=until).record


class Clock:
    """Progress of an audit in seconds, as :func:`runners.sweep.progress.watch` shows it."""

    def __init__(self, audit: Audit) -> None:
        self.audit, self.total, self.done = audit, round(audit.total), 0

    def look(self) -> None:
        self.done = round(self.audit.total - self.audit.left)

    def text(self) -> str:
        """Return text such as ``12 cells; leakage_dlg vs none``."""
        now = "; ".join(label.partition(" on ")[0] for label in list(self.audit.at_work.values()))
        count = len(self.audit.played)
        return f"{count} cell{'' if count == 1 else 's'} played" + (f"; {now}" if now else "")


def folder_of(text: str) -> Path:
    """Return the folder of a report.

    Raises:
        ConfigError: it is a file, or its name is empty.
    """
    from runners.store.place import place

    folder = place(text)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; give a folder for the report with --out FOLDER.")
    return folder
