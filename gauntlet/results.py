"""Many cells from Python: sweeps, and the records of stores as pandas tables."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import GauntletError
from runners.cli.problems import CellsFailed

if TYPE_CHECKING:
    import pandas as pd

FAILED = 1  # exit code of a sweep
COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE")  # set by notebooks, where a progress bar would fill pages


def sweep(name: str, *overrides: str, store: str | Path = "outputs", quiet: bool = False) -> pd.DataFrame:
    """Play the missing cells of a sweep in processes of its own, as ``gauntlet sweep`` does; return the store's table.

    Args:
        name: an option of ``conf/sweep``, e.g. ``demo``.
        overrides: as on the command line: ``"seed=range(0,5)"``, ``"jobs=4"``.
        quiet: print neither plan nor progress.

    Raises:
        GauntletError: the sweep cannot be planned; the output says why.
        CellsFailed: some cells failed; their rows say why.
    """
    command = [sys.executable, "-m", "runners.sweep", f"sweep={name}", f"store={store}", *overrides]
    plain = {name: value for name, value in os.environ.items() if name not in COLOURS} | {"TERM": "dumb"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=plain) as process:  # noqa: S603 - the suite's own command, no shell
        for line in process.stdout or ():
            if not quiet:
                print(line, end="")
    code = process.returncode
    if code == FAILED:
        raise CellsFailed(
            f"Some cells of {name} failed; gauntlet.table({str(store)!r}) has their rows with the reasons."
        )
    if code:
        raise GauntletError(f"The sweep {name} ended with exit code {code}; its output says why.")
    return table(store)


def table(store: str | Path = "outputs", query: str | None = None) -> pd.DataFrame:
    """Return all records of a store, one row a cell.

    Args:
        query: rows to keep, in the language of :meth:`pandas.DataFrame.query`: ``"threat == 'leakage_dlg'"``.

    Raises:
        GauntletError: a record cannot be read, or pandas cannot make sense of the query.
    """
    from runners.store import table as tables

    frame = tables.load(Path(store))
    return frame if query is None else tables.select(frame, query)


def board(name: str, store: str | Path = "results") -> pd.DataFrame:
    """Return a board: a row for each defense and threat under each protocol, with the worst cases marked.

    Raises:
        GauntletError: the store has no such board; the message names those it has.
    """
    from runners.report import boards, tables

    return tables.frame(boards.named(name, Path(store)))


def ranking(
    name: str,
    store: str | Path = "results",
    *,
    threats: Sequence[str] | None = None,
    max_utility_loss: float | None = None,
) -> pd.DataFrame:
    """Return the ranking of a board, as ``gauntlet board`` prints it.

    Args:
        threats: those that you face, all of the board by default; adaptive forms go with the plain ones.
        max_utility_loss: utility that you can lose at most, in the unit of the board's utility: .05 is five points.

    Raises:
        GauntletError: the store has no such board, or the board has no such threat.
    """
    from runners.report import boards, tables

    found = boards.ranked(boards.named(name, Path(store)), threats, max_utility_loss)
    return tables.ranking_frame(found)
