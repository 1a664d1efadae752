"""Choice of cells by value for time, and the files of data that they read, packed into a folder that travels."""

from __future__ import annotations

import io
import json
import lzma
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from benchmark.errors import ConfigError
from runners.config.remembered import ROOT
from runners.device.session import DATA, QUEUE
from runners.store.records import write_atomically

Cell = dict[str, Any]
"""A cell of the queue: ``sweep``, ``key``, ``cell`` (its label), ``overrides``, ``seconds`` (expected, on a CPU)."""

SEEDS = (0, 1, 2)
PLANS = "plans.json"


def pack(carried: Path, data: Path | None, *, megabytes: float, sweeps: Sequence[str] | None) -> None:
    """Write the queue of cells and their data into ``carried``.

    Whenever this is interrupted, the queue is complete for the sweeps planned so far; the next call plans the others.

    Args:
        carried: the folder that travels.
        data: the folder of all data sets; None packs none.
        megabytes: most that the packed data may take; cells whose data do not fit are left out.
        sweeps: names, or None for the full sweeps of all papers.
    """
    carried.mkdir(parents=True, exist_ok=True)
    kept = carried / PLANS
    plans: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    queue: list[Cell] = []
    for name in sweeps or full_sweeps():
        if name not in plans:
            planned = plan(name)
            plans[name] = {"rows": rows(name, planned), "played": len(planned["finished"]) // len(SEEDS)}
            write_atomically(kept, json.dumps(plans).encode())
        queue = by_value(plans)
        write_atomically(carried / QUEUE, json.dumps(queue).encode())
        print(f"{name}: {sum(map(len, plans[name]['rows']))} cells", flush=True)
    if data is not None and megabytes:
        queue = with_data(queue, data, carried / DATA, megabytes)
        write_atomically(carried / QUEUE, json.dumps(queue).encode())
    hours = sum(cell["seconds"] for cell in queue) / 3600
    print(f"{len(queue)} cells of {len(plans)} sweeps, about {hours:.0f} CPU-hours, in {carried / QUEUE}.")


def full_sweeps() -> list[str]:
    """Return the papers' sweeps at full scale, those with the fewest lines first: they are planned soonest."""
    found = (ROOT / "conf/sweep/papers").glob("*_full.yaml")
    return [f"papers/{path.stem}" for path in sorted(found, key=lambda path: path.stat().st_size)]


def plan(sweep: str) -> dict[str, Any]:
    """Return the plan of a sweep as plain data, of the seeds that make a row."""
    from runners.cli.commands import plan as command

    words, told = sys.argv, io.StringIO()
    try:
        with redirect_stdout(told):
            code = command([f"sweep={sweep}", f"seed={','.join(map(str, SEEDS))}", "store=results", "--json"])
    finally:
        sys.argv = words
    if code:
        raise ConfigError(f"The sweep {sweep} cannot be planned.")
    found: dict[str, Any] = json.loads(told.getvalue())
    return found


def rows(sweep: str, planned: Mapping[str, Any]) -> list[list[Cell]]:
    """Return the cells of a plan in groups that differ in the seed alone, the cheapest group first."""
    groups: dict[tuple[str, ...], list[Cell]] = defaultdict(list)
    for cell, seconds in zip(planned["to_run"], (planned["cost"] or {}).get("seconds", ()), strict=True):
        lines = [line for line in cell["overrides"] if not line.startswith("store=")]
        row = tuple(line for line in lines if not line.startswith("seed="))
        groups[row].append({**cell, "sweep": sweep, "overrides": lines, "seconds": seconds})
    return sorted(groups.values(), key=lambda group: sum(cell["seconds"] for cell in group))


def by_value(plans: Mapping[str, Mapping[str, Any]]) -> list[Cell]:
    """Return all cells: always the next row of the sweep with the fewest rows, the published ones counted.

    Args:
        plans: sweep -> its ``rows``, and how many it has ``played``.
    """
    waiting = {sweep: list(planned["rows"]) for sweep, planned in plans.items()}
    have = {sweep: planned["played"] for sweep, planned in plans.items()}
    queue: list[Cell] = []
    while any(waiting.values()):
        sweep = min((name for name in waiting if waiting[name]), key=lambda name: (have[name], name))
        queue += waiting[sweep].pop(0)
        have[sweep] += 1
    return queue


def with_data(queue: Sequence[Cell], data: Path, archive: Path, megabytes: float) -> list[Cell]:
    """Pack the files that the cells' data sets read, in the order of the queue; return the cells whose data fitted."""
    packed: dict[str, int] = {}
    fits: dict[str, bool] = {}
    kept = []
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:xz", preset=3) as tar:
        for cell in queue:
            lines = [line for line in cell["overrides"] if line.startswith(("dataset", "threat=", "scale="))]
            name = next((line for line in lines if line.startswith("dataset=")), "dataset brought by the threat")
            if (kind := " ".join(lines)) not in fits:
                sizes = {path: _compressed(data / path) for path in files_read(cell, data) if path not in packed}
                fits[kind] = sum(packed.values()) + sum(sizes.values()) <= megabytes * 1e6
                if fits[kind]:
                    packed |= sizes
                    for path in sizes:
                        tar.add(data / path, arcname=path)
                else:
                    print(f"{name} is left out: its data would take {sum(sizes.values()) / 1e6:.0f} MB.")
            if fits[kind]:
                kept.append(cell)
    print(f"{len(packed)} files of data in {archive}, {archive.stat().st_size / 1e6:.0f} MB.")
    return kept


def files_read(cell: Cell, data: Path) -> list[str]:
    """Return the files under ``data`` that loading the cell's data set opens, by asking Python what it opens."""
    import gauntlet

    source = gauntlet.cell(*(line for line in cell["overrides"] if not line.startswith("sweep="))).build().dataset
    with opened_under(data) as found:
        try:
            source.load(data, SEEDS[0])
        except Exception as error:  # the data are not here, so they cannot be there
            print(f"{cell['cell']}: {error}")
    return sorted(found)


_watched: list[tuple[Path, set[str]]] = []


@contextmanager
def opened_under(folder: Path) -> Iterator[set[str]]:
    """Collect the paths of files that are opened under ``folder``, relative to it."""
    found: set[str] = set()
    if not _watched:
        sys.addaudithook(_notice)  # stays with the process
    _watched.append((folder.resolve(), found))
    try:
        yield found
    finally:
        _watched[-1] = (Path("/nowhere"), set())


def _notice(event: str, arguments: Sequence[Any]) -> None:
    if event == "open" and _watched and isinstance(arguments[0], str):
        folder, found = _watched[-1]
        path = Path(arguments[0])
        if path.is_relative_to(folder):
            found.add(str(path.relative_to(folder)))


def _compressed(path: Path) -> int:
    return len(lzma.compress(path.read_bytes(), preset=1))
