"""Optional wandb logging of records, in a helper process: no error of wandb makes a cell wait long or fail.

``logger=wandb`` logs each record as a run of the project ``gauntlet`` under ``<store>/wandb``: config, numbers,
pictures and a row of a table. It is offline unless the user is logged in or ``WANDB_MODE`` says otherwise.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmark.errors import ConfigError

LOGGERS = ("none", "wandb")
LIMIT_SECONDS = 60.0
PROJECT = "gauntlet"
SECTIONS = ("utility", "risk", "cost", "diagnostics")
ROW = ("key", "status", "seed", "seconds")


class Tracker:
    """Pipe from this process to its helper; the helper ends when the pipe closes, so it outlives nobody."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.helper: subprocess.Popen[str] | None = None
        self.given_up = False

    def log(self, store: Path, record: Path) -> None:
        """Have the record at ``record`` logged; costs one warning, once, when that fails or takes too long."""
        if self.given_up:
            return
        try:
            answer = self._ask(json.dumps([str(store), str(record)]))
        except OSError as error:
            answer = str(error)
        if answer != "ok":
            self.given_up = True
            self.close()
            print(f"logger=wandb is given up: {answer}. Cells go on and are recorded without it.", file=sys.stderr)

    def _ask(self, line: str) -> str:
        if self.helper is None:
            self.helper = subprocess.Popen(
                [sys.executable, "-m", "runners.sweep.tracking"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        assert self.helper.stdin and self.helper.stdout
        self.helper.stdin.write(line + "\n")
        self.helper.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self.helper.stdout, selectors.EVENT_READ)
            if not selector.select(self.limit):
                return f"no answer within {self.limit:g} s"
        return self.helper.stdout.readline().strip() or "its process died"

    def close(self) -> None:
        """End the helper, by force where it does not end by itself."""
        helper, self.helper = self.helper, None
        if helper is None:
            return
        with suppress(OSError):  # it ended with a line unread
            if helper.stdin:
                helper.stdin.close()
        try:
            helper.wait(0 if self.given_up else self.limit)
        except subprocess.TimeoutExpired:
            helper.kill()
            helper.wait()
        if helper.stdout:
            helper.stdout.close()


_trackers: list[Tracker] = []


def log(logger: str, store: Path, record: Path) -> None:
    """Hand a new record to the ``logger`` (one of :data:`LOGGERS`); an error of wandb is never raised.

    Raises:
        ConfigError: there is no such logger.
    """
    check(logger)
    if logger == "none":
        return
    if not _trackers:
        _trackers.append(Tracker(LIMIT_SECONDS))
        atexit.register(_trackers[0].close)
    _trackers[0].log(store, record)


def check(logger: str) -> None:
    """Raise ConfigError if there is no such logger; see :func:`log`."""
    if logger not in LOGGERS:
        raise ConfigError(f"logger must be {' or '.join(LOGGERS)}, got {logger!r}.")


# -- the helper -------------------------------------------------------------------------------------------------------
def serve() -> None:
    """Log one record a line of stdin (JSON: store, path of the record); answer each with ``ok`` or what went wrong."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what wandb prints must not pass for an answer
    for line in sys.stdin:
        store, path = json.loads(line)
        try:
            log_run(Path(store), json.loads(Path(path).read_text()))
            answer = "ok"
        except BaseException as error:  # wandb ends processes where it likes
            answer = " ".join(f"{type(error).__name__}: {error}".split())
        print(answer, file=answers, flush=True)


def settings() -> Any:
    """Return settings under which wandb logs what it is given, and nothing of the user's account and machine."""
    import wandb

    return wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        host="unnamed",
        program="gauntlet",
        program_relpath="gauntlet",
        x_executable="python",
    )


def log_run(store: Path, record: dict[str, Any]) -> None:
    """Log one record as one wandb run."""
    import wandb

    mode = os.environ.get("WANDB_MODE") or ("online" if wandb.api.api_key else "offline")
    config = record["config"]
    run = wandb.init(
        project=PROJECT,
        dir=str(store),
        mode=mode,  # type: ignore[arg-type]
        id=record["key"][:16],
        resume="allow" if mode == "online" else None,
        name=f"{config['threat']['name']} vs {_defenses(config)} seed {record['seed']}",
        group=record["sweep"],
        config={**config, "key": record["key"], "versions": record["versions"]},
        settings=settings(),
    )
    numbers = {f"{part}/{name}": value for part in SECTIONS for name, value in record[part].items()}
    row = {**{name: record[name] for name in ROW}, **_names(config), **numbers}
    run.summary.update({"status": record["status"], "reason": record["reason"]})
    pictures = {
        f"pictures/{name}": wandb.Image(str(store / path), caption=", ".join(record["captions"].get(name, [])))
        for name, path in record["media"].items()
    }
    table = wandb.Table(columns=list(row), data=[list(row.values())])
    run.log({**{name: value for name, value in numbers.items() if value is not None}, **pictures, "cells": table})
    run.finish(exit_code=0 if record["status"] == "ok" else 1)


def _names(config: dict[str, Any]) -> dict[str, str]:
    parts = {part: config[part]["name"] for part in ("dataset", "model", "setting", "threat", "scale")}
    return {**parts, "defense": _defenses(config)}


def _defenses(config: dict[str, Any]) -> str:
    return "+".join(part["name"] for part in config["defense"])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve()
