"""Replay of the cell of a record with today's code, and a comparison of the two results."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from benchmark.errors import DataMissing, GauntletError
from runners.cli import difference
from runners.cli.explain import command
from runners.config.brought import lost
from runners.config.gate import check_search_path
from runners.store.gate import visible
from runners.store.records import Store


def again(console: Console, store: Store, key: str, extra: Sequence[str] = ()) -> int:
    """Play the cell of record ``key`` again and print how the results differ; the store is not changed.

    Args:
        extra: overrides that change no number, beside the cell's own: ``device=cuda``, ``hydra.searchpath=[...]``.

    Returns:
        0, or the exit code of a run that failed.
    """
    record = store.find(key)
    played, code = replay(console, record, extra)
    console.print("A is the record, B the new run.", highlight=False)
    difference.show(console, record, played)
    return code


def replay(console: Console, record: Mapping[str, Any], extra: Sequence[str]) -> tuple[dict[str, Any], int]:
    """Play the cell of ``record`` in a process and a store of its own; return the new record and the exit code.

    Raises:
        GauntletError: the cell cannot be played: an option, its data or its package is not there.
    """
    check_search_path(extra)
    if told := lost(record, extra):
        raise DataMissing(told)
    shell, changed = command(record["config"], extra, record["facts"].get("data_path"))
    for change in changed:
        console.print(Text(visible(f"changed   {change}")))
    console.print(Text(visible(f"plays     {shell}")), soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="gauntlet-again-") as scratch:
        words = [*shlex.split(shell)[1:], *extra, f"store={scratch}"]
        finished = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True)  # noqa: S603 - no shell; `command` lets no code through
        found = list(Store(Path(scratch)).all())
        if len(found) != 1:
            raise GauntletError(f"The cell left no record. {finished.stdout.strip()}".strip())
    return found[0], finished.returncode
