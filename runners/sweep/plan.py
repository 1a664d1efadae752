"""Plan of a sweep before anything is launched: which cells to run, which are finished, refused or failed before."""

from __future__ import annotations

import itertools
import math
import re
import shlex
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from benchmark.errors import ConfigError
from runners.config.build import nearest
from runners.config.cells import Cells
from runners.config.compose import ComposedCell
from runners.config.gate import resolved, trusted_prefixes
from runners.config.identity import SINGLE, canonical
from runners.config.loader import SweepLoader
from runners.config.pairs import derive
from runners.store.records import FINISHED, Store
from runners.sweep.blocks import Block, blocks
from runners.sweep.judge import Judge

Axes = dict[str, list[str]]
KIND = ("threat", "dataset", "scale")
"""Cells that share these take about the same time."""
ONLY = "only."
"""Begins an argument that is a filter."""
MOST_CELLS = 1_000_000
"""Of one block, by far more than can be played: a mistake of a digit ends in a sentence and not in swapping."""
CELL = (*SINGLE, "defense", "scale", "precision", "seed")
"""Keys that blocks of a sweep may set, with all entries below them."""
ON = re.compile(r"on\((\w+)(?:\.(\w+))?\)")


@dataclass(frozen=True)
class Planned:
    """A cell and the overrides that compose it, ``key=value`` each; ``searchpath`` is Hydra's, if it was overridden."""

    cell: ComposedCell
    overrides: tuple[str, ...]
    searchpath: tuple[str, ...] = ()

    def command(self) -> str:
        """Return the shell command that plays this cell alone."""
        overrides = [line for line in self.overrides if not line.startswith(("sweep=", "jobs=", "together="))]
        return shlex.join(["python", "-m", "runners.run", *overrides, *self.searchpath])


@dataclass
class Plan:
    """The cells of a sweep, each counted once.

    Attributes:
        to_run: in the order of the launch; cells that share an artifact are kept apart.
        failed_before: keys among ``to_run`` that have a record of an earlier failure.
        refused: reason -> how many cells it makes impossible; these are not composed.
        estimate: seconds that ``to_run`` takes in one process by past records; None when no record tells.
        unknown: how many of ``to_run`` no past record tells anything of.
        memory: for each of ``to_run`` of which a past record tells, the most MB of memory that such a cell took, in
            falling order.
        notes: what the command line's arguments did to the sweep's cells, a sentence each.
    """

    to_run: list[Planned] = field(default_factory=list)
    finished: list[Planned] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    failed_before: set[str] = field(default_factory=set)
    estimate: float | None = None
    unknown: int = 0
    memory: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return the plan as plain data, for ``--json``."""
        return {
            "to_run": [{"key": p.cell.key, "cell": p.cell.label, "overrides": p.overrides} for p in self.to_run],
            "finished": [p.cell.key for p in self.finished],
            "failed_before": sorted(self.failed_before),
            "refused": dict(self.refused),
            "notes": self.notes,
            "estimated_seconds": self.estimate,
            "cells_without_estimate": self.unknown,
        }


def make_plan(
    loader: SweepLoader, config: DictConfig, arguments: Sequence[str], store: Store, *, anywhere: bool = False
) -> Plan:
    """Plan the sweep that ``config`` names, with the command line's ``arguments`` on top.

    Args:
        loader: composes each cell.
        config: the composed master config, with its ``hydra`` node.
        arguments: task overrides in Hydra's sweep grammar; each replaces the axis of the same name in every block. One
            that begins with ``only.`` keeps those cells of the blocks that have one of its values, and adds none.
        anywhere: plan cells that want a library which is not installed here as well.

    Raises:
        ConfigError: a block or an argument cannot be expanded.
        HydraException: a cell cannot be composed.
    """
    past = store.columns("key", "status", "seconds", "peak_memory_mb", "device", *KIND)
    statuses = dict(zip(past["key"], past["status"], strict=True))
    judge, plan = Judge(anywhere=anywhere), Plan()
    filters = [line.removeprefix(ONLY) for line in arguments if line.startswith(ONLY)]
    others = [line for line in arguments if not line.startswith(ONLY)]
    cells = Cells(loader, config)
    lists = _fitting(cells, dict.fromkeys(overrides(loader, config, others)), _axes(loader, others), plan.notes)
    wanted = _kept(lists, _axes(loader, filters), config, plan.notes)
    plan.notes += _replaced(loader, config, others)
    for planned in _distinct(cells, _possible(cells, wanted, judge, plan.refused)):
        status = statuses.get(planned.cell.key)
        if reason := judge.refusal(planned.cell):
            plan.refused[reason] += 1
        elif status in FINISHED:
            plan.finished.append(planned)
        else:
            plan.to_run.append(planned)
            if status is not None:
                plan.failed_before.add(planned.cell.key)
    judge.remember()
    plan.to_run = _kept_apart(plan.to_run)
    _estimate(plan, past)
    return plan


# -- from blocks and arguments to overrides --------------------------------------------------------------------------
def overrides(loader: SweepLoader, config: DictConfig, arguments: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the override list of every cell.

    Each block is a grid, and ``arguments`` replace or add axes in all of them. Of the axis that the sweep names in
    ``once``, a value belongs to the first block that has it, and an argument selects among the values of the blocks.
    """
    given = _axes(loader, arguments)
    if len(given.get("sweep", ())) > 1:
        raise ConfigError("One sweep at a time: give `sweep` a single name.")
    sweep = _plain(config)
    once, taken = sweep.get("once"), set[str]()
    for block in blocks(sweep):
        _refuse_strange(block)
        axes = _axes(loader, [f"{key}={_in_grammar(key, value)}" for key, value in block.items()])
        if once in axes:
            axes[once] = [value for value in axes[once] if value not in taken]
            taken.update(axes[once])
            wanted = given.get(once, axes[once])
            axes |= {**given, once: [value for value in axes[once] if value in wanted]}
        else:
            axes |= given
        if math.prod(map(len, axes.values())) > MOST_CELLS:
            named = ", ".join(f"{key} ({len(values)})" for key, values in axes.items() if len(values) > 1)
            raise ConfigError(f"A block of the sweep has more than {MOST_CELLS} cells: {named}; name fewer values.")
        yield from itertools.product(*([f"{key}={value}" for value in values] for key, values in axes.items()))
    if once and (strange := [value for value in given.get(once, ()) if value not in taken]):
        raise ConfigError(f"No block of the sweep has {once}={strange[0]}; name one that it has, or another sweep.")


def _fitting(cells: Cells, lists: Iterable[tuple[str, ...]], given: Axes, notes: list[str]) -> list[tuple[str, ...]]:
    """Return ``lists`` without the blocks' parameters of components that the command line replaced; note which.

    What the component in their place has as well stays, ``threat.adaptive`` for instance.

    Args:
        given: axes of the command line.
    """
    if not (replaced := given.keys() & {*SINGLE, "defense"}):
        return list(lists)
    has: dict[tuple[tuple[str, ...], str], bool] = {}
    gone: dict[str, None] = {}

    def foreign(line: str, chosen: tuple[str, ...]) -> bool:
        key = line.partition("=")[0]
        group, _, rest = key.partition(".")
        if key in given or not rest or group not in replaced:
            return False
        if (chosen, key) not in has:
            with _named(chosen):
                has[chosen, key] = _has(cells.loader.cell(cells.master, chosen), key)
        if not has[chosen, key]:
            gone[key] = None
        return not has[chosen, key]

    fitting = dict.fromkeys(
        tuple(line for line in lines if not foreign(line, chosen))
        for lines in lists
        for chosen in [cells.files.apart(lines)[0]]
    )
    if gone:
        notes.append(
            f"{', '.join(gone)} of the blocks {'falls' if len(gone) == 1 else 'fall'} away where the command line "
            "chose a component without such a parameter."
        )
    return list(fitting)


def _has(config: DictConfig, key: str) -> bool:
    place, _, name = key.rpartition(".")
    node = OmegaConf.select(config, place)
    return isinstance(node, DictConfig) and name in node.keys()  # noqa: SIM118 - `in node` is false of a missing value


def _kept(
    lists: list[tuple[str, ...]], filters: Axes, config: DictConfig, notes: list[str]
) -> Iterable[tuple[str, ...]]:
    """Return those of ``lists`` that have a wanted value of every filter; note how many these are.

    Raises:
        ConfigError: none has, or no cell of the sweep sets what a filter names.
    """
    for key, values in filters.items():
        default = config.hydra.runtime.choices.get(key)
        found = [dict(line.split("=", 1) for line in lines).get(key, default) for lines in lists]
        there = list(dict.fromkeys(_bare(value) for value in found if value is not None))
        if not there:
            raise ConfigError(f"{ONLY}{key} filters nothing: no block of the sweep sets {key}.")
        wanted = {_bare(value) for value in values}
        if strange := [value for value in sorted(wanted) if value not in there]:
            raise ConfigError(f"No cell of the sweep has {key}={strange[0]}{nearest(strange[0], there)}")
        kept = [
            lines for lines, value in zip(lists, found, strict=True) if value is not None and _bare(value) in wanted
        ]
        notes.append(f"{ONLY}{key}={','.join(values)} keeps {len(kept)} of the sweep's {len(lists)} combinations.")
        lists = kept
    return lists


def _bare(value: Any) -> str:
    """Return one spelling of a value: a stack of one defense is that defense."""
    return str(value).replace(" ", "").lower().removeprefix("[").removesuffix("]")


def _replaced(loader: SweepLoader, config: DictConfig, arguments: Sequence[str]) -> Iterator[str]:
    """Yield a sentence on the axes of the sweep's blocks that the command line replaces."""
    set_by_blocks = {key for block in blocks(_plain(config)) for key in block}
    if replaced := [key for key in _axes(loader, arguments) if key in set_by_blocks]:
        yield (
            f"{', '.join(replaced)} from the command line {'replaces' if len(replaced) == 1 else 'replace'} what the "
            f"blocks say, which may add cells; {ONLY}{replaced[0]}=... would only choose among theirs."
        )


def _refuse_strange(block: Block) -> None:
    """Raise ConfigError if a block of a sweep sets anything but cells: nothing of Hydra or of the machine."""
    for key in block:
        if not re.fullmatch(rf"[+]{{0,2}}({'|'.join(CELL)})([.@/][\w.@/-]+)?", str(key), flags=re.ASCII):
            raise ConfigError(
                f"A block of the sweep sets {key!r}; a sweep may set {', '.join(CELL)} and their parameters."
            )


def _plain(config: DictConfig) -> Block:
    """Return the sweep of ``config`` as plain data; without one, a single block without overrides."""
    if "sweep" not in config:
        return {"blocks": [{}]}
    plain = resolved(config.sweep)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def deferred(arguments: Sequence[str]) -> list[str]:
    """Return ``arguments`` with ``threat.step=1`` as ``threat.step=choice(1)``, and so for all component groups.

    Hydra composes a master config without the axes of a sweep, in which such a parameter need not exist; an axis it
    leaves to the cells. The same goes for filters, ``only.threat=...``.
    """
    return [_deferred(argument) for argument in arguments]


def _deferred(argument: str) -> str:
    if not argument.startswith((ONLY, *(f"{group}." for group in (*SINGLE, "defense")))):
        return argument
    override = OverridesParser.create().parse_override(argument)
    if override.is_sweep_override():
        return argument
    key, value = override.get_key_element(), override.get_value_element_as_str()
    return f"{key}=null,null" if override.value() is None else f"{key}=choice({value})"  # choice() takes no null


def _axes(loader: SweepLoader, lines: Sequence[str]) -> Axes:
    axes: Axes = {}
    for override in OverridesParser.create(config_loader=loader.loader).parse_overrides(list(lines)):
        _refuse_endless(override)
        if not override.is_sweep_override():
            values = [override.get_value_element_as_str()]
        elif override.is_discrete_sweep():
            values = list(override.sweep_string_iterator())
        else:
            raise ConfigError(f"{override.input_line} names no finite list of values; give them one by one.")
        if not values:
            raise ConfigError(f"{override.input_line} matches nothing.")
        axes[override.get_key_element()] = list(dict.fromkeys(values))
    return axes


def _refuse_endless(override: Override) -> None:
    """Raise ConfigError if a range has more values than a sweep may have cells, before they are listed."""
    value = override.value()
    if not isinstance(value, RangeSweep):
        return
    start, stop, step = value.start or 0, value.stop, value.step
    try:
        endless = stop is None or step == 0 or not (stop - start) / step <= MOST_CELLS  # so that NaN is endless too
    except OverflowError:
        endless = True
    if endless:
        raise ConfigError(f"{override.input_line} names more than {MOST_CELLS} values; name fewer.")


def _in_grammar(key: str, value: Any) -> str:
    """Return a block's value in Hydra's grammar.

    A list is a choice between its items. A string may be ``range(0,5)``, ``glob(leakage_*)`` or, for threats,
    ``on(collaboration.uploads)``: those that attack this surface, or any surface of the setting ``on(collaboration)``.
    """
    items = value if isinstance(value, list) else [value]
    if key == "threat":
        items = [threat for item in items for threat in threats_of(item)]
    return ",".join(_element(key, item) for item in items)


def threats_of(value: Any) -> list[Any]:
    place = ON.fullmatch(str(value))
    if place is None:
        return [value]
    found = derive().threats_on(*place.groups())
    if not found:
        raise ConfigError(f"No threat attacks {place[0]}; `gauntlet matrix` lists every setting and surface.")
    return found


def _element(key: str, value: Any) -> str:
    if isinstance(value, dict):
        raise ConfigError(
            f"A block of a sweep sets {key} to a mapping; set its entries one by one ({key}.name: value)."
        )
    if isinstance(value, list):
        return f"[{','.join(_element(key, item) for item in value)}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- from overrides to cells -----------------------------------------------------------------------------------------
def _possible(
    cells: Cells, lists: Iterable[tuple[str, ...]], judge: Judge, refused: Counter[str]
) -> Iterator[tuple[str, ...]]:
    """Yield those of ``lists`` whose classes meet, as far as these are known before the cell is composed.

    The others are counted in ``refused``.
    """
    trusted = trusted_prefixes(cells.master.trusted)
    for lines in lists:
        with _named(lines):
            targets = cells.targets(lines)
            reason = judge.known_refusal(targets, trusted) if targets else None
        if reason:
            refused[reason] += 1
        else:
            yield lines


@contextmanager
def _named(lines: tuple[str, ...]) -> Iterator[None]:
    """Say in which cell an error was raised."""
    try:
        yield
    except (HydraException, ConfigError) as error:
        error.add_note(f"(In the cell {' '.join(lines)})")
        raise


def _distinct(cells: Cells, lists: Iterable[tuple[str, ...]]) -> Iterator[Planned]:
    seen: set[str] = set()
    searchpath = tuple(cells.master.hydra.overrides.hydra)
    searchpath = tuple(line for line in searchpath if line.startswith("hydra.searchpath="))
    for lines in lists:
        with _named(lines):
            cell = cells(lines)
        if cell.key not in seen:
            seen.add(cell.key)
            yield Planned(cell, lines, searchpath)


def _kept_apart(cells: Iterable[Planned]) -> list[Planned]:
    """Return the cells in rounds: one of each group that differs in the threat only, threats changing between groups.

    What cells share is made by whoever needs it first, and a second one that needs it at that time waits. Most of it
    depends on all but the threat (models, releases), and some on the threat (a malicious provider's model).
    """
    spelled: dict[int, str] = {}  # by identity: cells share their parts
    groups: dict[tuple[str, ...], list[Planned]] = {}
    for planned in cells:
        others = [value for part, value in planned.cell.config.items() if part != "threat"]
        spelled |= {id(value): canonical(value) for value in others if id(value) not in spelled}
        groups.setdefault(tuple(spelled[id(value)] for value in others), []).append(planned)
    turned = [group[i % len(group) :] + group[: i % len(group)] for i, group in enumerate(groups.values())]
    return [planned for turn in itertools.zip_longest(*turned) for planned in turn if planned is not None]


# -- time ------------------------------------------------------------------------------------------------------------
def _estimate(plan: Plan, past: Mapping[str, Sequence[Any]]) -> None:
    """Set the plan's seconds by medians of past cells of the same threat, dataset and scale, whatever the defense."""
    seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for status, took, *kind in zip(*(past[name] for name in ("status", "seconds", *KIND)), strict=True):
        if status == "ok":
            seconds[tuple(kind)].append(took)
    medians = {of: statistics.median(times) for of, times in seconds.items()}
    known = [medians[of] for p in plan.to_run if (of := _kind(p.cell.config)) in medians]
    plan.unknown = len(plan.to_run) - len(known)
    plan.estimate = sum(known) if known else None
    peaks: dict[tuple[str, ...], float] = {}
    for peak, device, *kind in zip(*(past[name] for name in ("peak_memory_mb", "device", *KIND)), strict=True):
        if peak is not None and device == "cpu":
            peaks[tuple(kind)] = max(peak, peaks.get(tuple(kind), 0.0))
    told = [peaks[_kind(p.cell.config)] for p in plan.to_run if _kind(p.cell.config) in peaks]
    plan.memory = sorted(told, reverse=True)


def _kind(config: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(config[group]["name"] for group in KIND)
