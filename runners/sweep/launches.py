"""Cells handed to a launcher, and again where a worker died with some of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from hydra.plugins.launcher import Launcher

from runners.store.records import Store
from runners.sweep.execute import lost
from runners.sweep.plan import Planned
from runners.sweep.pool import Lost

Answers = list[dict[str, Any]]


def launch_all(
    launcher: Launcher,
    cells: Sequence[Planned],
    store: Store,
    *,
    at_once: int | None,
    again: bool,
    side_by_side: bool,
    say: Callable[[str], None],
) -> Answers:
    """Have every cell played; gives what the jobs answered, as far as the launcher told.

    The cells whose workers died are launched again, one at a time: one that loses its worker again, all alone, is
    recorded as failed, and the others are none the worse for it. Some launchers stop as a whole when they lose a
    worker; the cells that were being played are then treated so. A cell that ran out of memory beside others is
    played again alone, for memory may have been short only because they had it.

    Args:
        at_once: how many cells the launcher is given at a time; None for all.
        again: whether to launch again after the launcher stopped. Not where jobs may still wait in a cluster's queue.
        side_by_side: whether the launcher plays several cells at a time.
        say: prints a line.
    """
    answers: Answers = []
    waiting = list(cells)
    while waiting:
        batch = waiting[: at_once or len(waiting)]
        before, begun = _stamps(store, batch), time.time_ns()
        told, dead, error = _launch(launcher, batch)
        answers += told
        if dead := [planned for planned in dead if store.stamp(planned.cell.key) == before[planned.cell.key]]:
            say(f"A worker died {len(dead)} times; its cells are played again, one by one.")
            answers += _one_by_one(launcher, dead, store, say)
        crowded = side_by_side and len(batch) > 1
        starved = {answer["key"] for answer in told if answer.get("short")} if crowded else set()
        if short := [planned for planned in batch if planned.cell.key in starved]:
            say(f"Out of memory {len(short)} times, beside other cells; they are played again, one by one.")
            answers += _one_by_one(launcher, short, store, say)
        if error is not None:
            say(f"The launcher stopped: {error}")
            missing = [planned for planned in batch if store.stamp(planned.cell.key) == before[planned.cell.key]]
            suspects = [planned for planned in missing if store.claimed(planned.cell.key) >= begun]
            if not again or not suspects:  # nothing was begun: the launcher itself does not work
                return answers
            answers += _one_by_one(launcher, suspects, store, say)
            batch = [planned for planned in batch if planned not in missing or planned in suspects]
        handled = {planned.cell.key for planned in batch}
        waiting = [planned for planned in waiting if planned.cell.key not in handled]
    return answers


def _one_by_one(launcher: Launcher, suspects: Sequence[Planned], store: Store, say: Callable[[str], None]) -> Answers:
    """Which of the cells takes its worker down? It is recorded as failed."""
    answers: Answers = []
    for planned in suspects:
        before, clock = store.stamp(planned.cell.key), time.monotonic()
        told, dead, error = _launch(launcher, [planned])
        answers += told
        if (dead or error is not None) and store.stamp(planned.cell.key) == before:
            say(f"Its worker died again: {planned.cell.label}")
            store.write(lost(planned.cell, time.monotonic() - clock))
    return answers


def _launch(launcher: Launcher, cells: Sequence[Planned]) -> tuple[Answers, list[Planned], str | None]:
    """Return the jobs' answers, the cells whose workers died, and why the launcher stopped if it did."""
    try:
        returns = launcher.launch([list(planned.overrides) for planned in cells], initial_job_idx=0)
        answers = [job.return_value for job in returns if job is not Lost]
    except Exception as error:  # whatever a launcher raises
        return [], [], f"{type(error).__name__}: {str(error).strip()[:500]}"
    return answers, [planned for planned, job in zip(cells, returns, strict=True) if job is Lost], None


def _stamps(store: Store, cells: Sequence[Planned]) -> dict[str, int]:
    return {planned.cell.key: store.stamp(planned.cell.key) for planned in cells}
