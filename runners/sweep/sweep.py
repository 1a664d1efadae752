"""A set of cells: ``python -m runners.sweep sweep=NAME``. Plan, launch what is missing, report.

Nothing is kept but the records, so a sweep may die at any moment: the same command goes on with what is missing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark.errors import ConfigError
from benchmark.precision import check
from runners.cli import streams
from runners.cli.problems import CellsFailed
from runners.config.compose import at_least_one, store_of
from runners.config.loader import SweepLoader
from runners.run import application
from runners.store.place import writable
from runners.store.records import FINISHED, Store
from runners.sweep.cost import Forecast, published_costs
from runners.sweep.environment import free_memory_mb, resolve_device
from runners.sweep.launches import launch_all
from runners.sweep.plan import Plan, Planned, make_plan
from runners.sweep.progress import Tally, duration, watch
from runners.sweep.time_limit import check as check_time_limit
from runners.sweep.tracking import check as check_logger

LOCAL_LAUNCHERS = ("basic", "joblib", "local")
ENTRANCES = ("boards/README.md", "site/index.html")
PICTURES_SHOWN = 5


def sweep(
    loader: SweepLoader, config: DictConfig, launcher: Launcher, arguments: Sequence[str], *, plan_only: str | None
) -> None:
    """Run the parent process of a sweep: plan, launch the missing cells, report.

    Args:
        loader: composes cells.
        config: the composed master config.
        launcher: any of Hydra's.
        arguments: the command line's task overrides.
        plan_only: ``text`` or ``json`` prints the plan and stops.

    Raises:
        CellsFailed: some cells have no finished record at the end.
    """
    begun = time.time()
    console = streams.console()
    store = Store(store_of(config))
    if not plan_only:
        writable(store.root)
    check_logger(str(config.logger))
    check_limits(config)
    local = not plan_only and config.hydra.runtime.choices["hydra/launcher"] in LOCAL_LAUNCHERS
    device = resolve_device(str(config.device)) if local else None  # a mistake here would fail every cell
    plan = make_plan(loader, config, arguments, store)
    for precision in sorted({planned.cell.precision for planned in plan.to_run}):
        check(precision, device)
    if plan_only:
        expected = cost_of(plan)
        if plan_only == "json":
            print(json.dumps(plan.summary() | {"cost": expected and expected.summary()}, indent=1))
            return
    show_plan(console, plan, config.hydra.runtime.choices.get("sweep"))
    if plan_only:
        if expected:
            console.print(expected.text(), highlight=False, soft_wrap=True)
        return
    answers: list[dict[str, Any]] = []
    if plan.to_run:
        with loader.handed_over():
            answers = launch(console, launcher, plan, store, config, begun)
    report(console, plan, store, answers, print_board=bool(OmegaConf.select(config, "sweep.print_leaderboard")))


def show_plan(console: Console, plan: Plan, name: str | None) -> None:
    """Print counts, reasons for refusals and the expected time."""
    table = Table(title=f"Plan of sweep={name}" if name else "Plan", title_justify="left")
    table.add_column("cells", justify="right")
    table.add_column("what")
    expected = "time unknown" if plan.estimate is None else f"about {duration(plan.estimate)} in one process"
    if plan.estimate is not None and plan.unknown:
        expected += f", and {plan.unknown} cells of unknown length"
    table.add_row(str(len(plan.to_run)), f"to run ({expected})" if plan.to_run else "to run")
    if plan.failed_before:
        table.add_row(str(len(plan.failed_before)), "of these failed before")
    table.add_row(str(len(plan.finished)), "finished")
    for reason, count in plan.refused.most_common():
        table.add_row(str(count), Text(f"refused: {reason}"))  # brackets in a reason are no markup
    console.print(table)
    for note in plan.notes:
        console.print(note, highlight=False, soft_wrap=True)


def cost_of(plan: Plan) -> Forecast | None:
    """Return the expected cost of the plan's cells by the published records; None where there are none of either."""
    costs = published_costs() if plan.to_run else None
    return costs.forecast([planned.cell.config for planned in plan.to_run]) if costs else None


def launch(
    console: Console, launcher: Launcher, plan: Plan, store: Store, config: DictConfig, begun: float
) -> list[dict[str, Any]]:
    """Run the plan's cells; return the answers of the jobs, none if the launcher itself broke down.

    Args:
        begun: when the sweep was asked for, in seconds of ``time.time()``.
    """
    name = config.hydra.runtime.choices["hydra/launcher"]
    if name == "local" and (warning := memory_warning(plan, int(config.jobs), free_memory_mb())):
        console.print(warning, highlight=False, soft_wrap=True)
    tally = Tally(store, [planned.cell.key for planned in plan.to_run], begun)
    with watch(tally, console):
        answers = launch_all(
            launcher,
            plan.to_run,
            store,
            at_once=OmegaConf.select(config, "jobs") if name == "submitit_local" else None,  # it starts all it is given
            again=name in LOCAL_LAUNCHERS,
            side_by_side=name != "basic" and any(OmegaConf.select(config, what) != 1 for what in ("jobs", "together")),
            say=lambda line: console.print(line, highlight=False, soft_wrap=True),
        )
    console.print(tally.summary())
    return answers


def memory_warning(plan: Plan, jobs: int, free: float | None) -> str | None:
    """Return a line where ``jobs`` cells at once may need more than the ``free`` MB of memory, else None."""
    needed = sum(plan.memory[:jobs])
    if free is None or needed <= free:
        return None
    fit = next(count for count in range(jobs, -1, -1) if sum(plan.memory[:count]) <= free)
    return (
        f"Memory may be short: {min(jobs, len(plan.memory))} such cells took up to {needed / 1000:.1f} GB before, and "
        f"{free / 1000:.1f} GB are free; jobs={max(1, fit)} would be safer."
    )


def check_limits(config: DictConfig) -> None:
    """Raise ConfigError where every cell would fail, or the sweep could not begin, for one of the command's options."""
    check_time_limit(config.time_limit)
    for name in ("jobs", "together"):
        if (count := OmegaConf.select(config, name)) is not None:
            at_least_one(name, count)
    if OmegaConf.select(config, "together") not in (None, 1):
        if config.hydra.runtime.choices["hydra/launcher"] != "local":
            raise ConfigError("together=... is for hydra/launcher=local; others play each cell alone.")
        if config.time_limit is not None:
            raise ConfigError("A cell with a time limit is played alone: leave out time_limit or together.")


def report(console: Console, plan: Plan, store: Store, answers: Sequence[dict[str, Any]], *, print_board: bool) -> None:
    """Print the results and where they are; :func:`sweep` says what is raised."""
    from runners.report import leaderboard, terminal
    from runners.report.site import build as site

    hits, misses = (sum(answer.get(name, 0) for answer in answers) for name in ("hits", "misses"))
    if hits + misses:
        share = hits / (hits + misses)
        console.print(f"Shared artifacts: {misses} made, {hits} reused ({share:.0%} of the requests).", highlight=False)
    failures = [text for planned in plan.to_run if (text := _failure(planned, store, answers))]
    count = len(failures)
    shown = leaderboard.contents(store.root)
    written: list[Path] = []
    try:
        written += [*leaderboard.write(store.root, shown), *site.write(store.root, store.root / site.FOLDER, shown)]
    except OSError as error:
        if not failures:
            raise
        print_board = False
        failures.append(f"The leaderboard could not be written: {error.strerror}.")
    if print_board:
        terminal.show(console, shown.boards)
    media = {record["key"]: record["media"] for record in store.all("media")}
    pictures = [path for p in (*plan.finished, *plan.to_run) for path in media.get(p.cell.key, {}).values()]
    entrances = [store.root / path for path in ENTRANCES]
    lines = [f"leaderboard  {path}" for path in written if path in entrances]
    lines += [f"picture      {store.root / path}" for path in pictures[:PICTURES_SHOWN]]
    if len(pictures) > PICTURES_SHOWN:
        lines.append(f"             and {len(pictures) - PICTURES_SHOWN} more in {store.root / 'media'}")
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
    if failures:
        raise CellsFailed("\n".join([f"{count} of {len(plan.to_run)} cells failed:", *failures]))


def _failure(planned: Planned, store: Store, answers: Sequence[dict[str, Any]]) -> str | None:
    """Return why this cell is not finished, and the command that runs it alone; None when it is finished."""
    record = store.sound(planned.cell.key)
    if record is not None and record["status"] in FINISHED:
        return None
    if record is not None:
        reason = f"{record['status']}: {(record['reason'].splitlines() or [''])[-1]}"
    else:
        told = [answer["reason"] for answer in answers if answer["key"] == planned.cell.key and "reason" in answer]
        reason = told[0] if told else "its worker died; start the sweep again"
    return f"  {planned.cell.label}: {reason}\n    {planned.command()}"


def main() -> int:
    """Run the command line and return the exit code."""
    if not any(argument.startswith("-") for argument in sys.argv[1:]):
        sys.argv.append("--multirun")  # also where the config cannot be composed: otherwise Hydra falls back to one run
    return application("sweeps")
