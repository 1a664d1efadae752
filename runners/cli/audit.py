"""The command ``gauntlet audit``: the threats that apply to somebody's own data, within a time, and a report."""

from __future__ import annotations

import argparse
import math
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from benchmark.errors import ConfigError
from runners.cli import streams
from runners.cli.problems import guarded
from runners.sweep.progress import duration

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.console import Console

    from runners.config.compose import ComposedCell
    from runners.config.loader import SweepLoader
    from runners.report.audit import Facts
    from runners.sweep.audit import Audit

TEXT = "play the threats that apply to your own data within a time, and write a report: gauntlet audit dataset=digits"
SETTINGS = ("collaboration", "release", "deployment", "service")
RESERVE, RESERVED_SHARE = 10.0, 0.5
"""For the report: seconds at least, and a share of what the plan took, which tells how busy the machine is."""
NONE = "none"
OF_CELLS = ("dataset", "model", "setting", "threat", "defense", "scale", "precision", "seed")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message[0].upper()}{message[1:]}. `gauntlet audit --help` lists what there is.")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's own flags; everything else is an override, as of ``gauntlet run``."""
    made = _Parser(prog="gauntlet audit", description=f"{TEXT[0].upper()}{TEXT[1:]}")
    made.add_argument(
        "overrides",
        nargs="*",
        metavar="OVERRIDE",
        help="dataset=NAME, model=NAME and their parameters, device=cuda, jobs=4, data.root=PATH: as of `gauntlet run`",
    )
    made.add_argument("--minutes", type=float, default=10.0, metavar="N", help="when to stop (default: 10)")
    made.add_argument(
        "--out", metavar="FOLDER", help="folder of the report and its records (default: outputs/audit-DATASET)"
    )
    made.add_argument("--seeds", type=int, default=2, metavar="N", help="repetitions of each cell (default: 2)")
    made.add_argument("--settings", metavar="A,B", help=f"only these of {', '.join(SETTINGS)}")
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command and return the exit code."""
    if {"-h", "--help"} & set(arguments):
        parser().print_help()
        return 0
    return guarded(lambda: run(arguments))


def run(arguments: Sequence[str]) -> None:
    """Plan, play and report.

    Raises:
        GauntletError: a mistake of the user.
    """
    begun = time.monotonic()
    options = parser().parse_intermixed_args(list(arguments))
    if not 0 < options.minutes < math.inf:
        raise ConfigError(f"--minutes must be a number above 0, got {options.minutes:g}.")
    if options.seeds < 1:
        raise ConfigError(f"--seeds must be a whole number from 1 up, got {options.seeds}.")
    settings = _settings(options.settings)
    given = _given(options.overrides)
    if "dataset" not in given:
        raise ConfigError(
            "Name the data: dataset=digits, or your own, e.g. dataset=npz dataset.path=FILE; `gauntlet list datasets`."
        )
    out = _out(options.out, given)
    own = [line for line in options.overrides if not line.startswith(("store=", "sweep=", "seed="))]
    own += [f"seed={given.get('seed', f'range(0,{options.seeds})')}", f"store={_quoted(out)}"]

    console = streams.console()
    span = begun, begun + 60 * options.minutes
    audit, facts, jobs = _planned(
        console, own, sweep=given.get("sweep", "audit"), settings=settings, out=out, span=span
    )
    _play(console, audit, jobs)
    from runners.report.audit_pages import write

    facts.command = shlex.join(["gauntlet", "audit", *arguments])
    paths = write(out, audit, facts)
    _tell(console, audit, paths)


def _settings(text: str | None) -> list[str] | None:
    from runners.config.build import nearest

    if text is None:
        return None
    named = [name.strip() for name in text.split(",") if name.strip()]
    for name in named:
        if name not in SETTINGS:
            raise ConfigError(f"There is no setting {name!r}{nearest(name, SETTINGS)}")
    if not named:
        raise ConfigError(f"--settings names no setting; there is {', '.join(SETTINGS)}.")
    return named


def _given(overrides: Sequence[str]) -> dict[str, str]:
    """Return the overrides by key.

    Raises:
        ConfigError: one is no override.
    """
    for line in overrides:
        if "=" not in line or line.startswith("-"):
            raise ConfigError(f"{line!r} is not an override; write key=value, e.g. dataset=digits.")
    return {line.partition("=")[0]: line.partition("=")[2] for line in overrides}


def _out(flag: str | None, given: dict[str, str]) -> Path:
    from runners.store.place import writable
    from runners.sweep.audit import folder_of

    return writable(folder_of(flag or given.get("store") or f"outputs/audit-{given['dataset']}"))


def _quoted(path: Path) -> str:
    """Return a path as a value of Hydra's grammar."""
    from runners.cli.explain import spelled

    return spelled(str(path))


def _planned(
    console: Console, own: list[str], *, sweep: str, settings: list[str] | None, out: Path, span: tuple[float, float]
) -> tuple[Audit, Facts, int]:
    """Read the data, choose and order the cells, and return the audit, its facts and how many cells play at a time.

    Args:
        span: when the audit began and when it is to end, report included, by :func:`time.monotonic`.
    """
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    from runners.config import compose as composition
    from runners.config.gate import check_search_path
    from runners.config.loader import SweepLoader
    from runners.config.pairs import derive
    from runners.report.audit import Facts
    from runners.store.records import Store
    from runners.sweep import audit as audits
    from runners.sweep.environment import resolve_device
    from runners.sweep.plan import make_plan, overrides
    from runners.sweep.sweep import check_limits

    check_search_path(own)
    composition.register()
    of_hydra, of_run, lines = _apart(own)
    GlobalHydra.instance().clear()
    with initialize_config_module("conf", version_base="1.3"), console.status("choosing cells"):
        loader = SweepLoader(GlobalHydra.instance().config_loader())
        config = compose("sweeps", [f"sweep={sweep}", *of_run, *of_hydra], return_hydra_config=True)
        check_limits(config)
        resolve_device(str(config.device))
        first = _first_cell(loader, config, lines)
        data = audits.look(first)
        given = {line.partition("=")[0] for line in lines}
        lines += [line for line in data.overrides() if line.partition("=")[0] not in given]
        order = list(dict.fromkeys(overrides(loader, config, [line for line in lines if not line.startswith("only.")])))
        if settings is not None:
            lines.append(_of_settings(settings, order))
        plan, store = make_plan(loader, config, lines, Store(out)), Store(out)
    begun, until = span
    now = time.monotonic()
    seconds = max(1.0, until - now - max(RESERVE, RESERVED_SHARE * (now - begun)))
    audit = audits.make(plan, data, order, derive(), store, seconds=seconds)
    before = len(audit.cells) - len(audit.waiting)
    console.print(
        f"{data.told()}\n{len(audit.cells)} cells apply here, {before} of them are finished; the others are tried for "
        f"{duration(seconds)}.",
        highlight=False,
        soft_wrap=True,
    )
    return audit, Facts(_name(first), data), int(config.jobs)


def _name(cell: ComposedCell) -> str:
    """Return how the report calls the data: the name of a file or folder that the user brought, else the option."""
    path = cell.nodes["dataset"].get("path")
    return Path(path).name if isinstance(path, str) and path else str(cell.config["dataset"]["name"])


def _apart(own: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the overrides of Hydra, those of the whole run, and all but Hydra's as overrides of cells.

    A threat or defense that the user names chooses among those of the audit.
    """
    of_hydra = [line for line in own if line.startswith("hydra.")]
    of_cells = tuple(f"{group}{end}" for group in OF_CELLS for end in "=.@")
    of_run = [line for line in own if line not in of_hydra and not line.startswith((*of_cells, "only."))]
    chosen = {"threat=": "only.threat=", "defense=": f"only.defense={NONE},"}
    lines = []
    for line in own:
        if line not in of_hydra:
            key, _, value = line.partition("=")
            lines.append(f"{chosen[f'{key}=']}{value}" if f"{key}=" in chosen else line)
    return of_hydra, of_run, lines


def _first_cell(loader: SweepLoader, config: DictConfig, lines: Sequence[str]) -> ComposedCell:
    from runners.config.compose import cell_of
    from runners.sweep.plan import overrides

    first = next(overrides(loader, config, [line for line in lines if not line.startswith("only.")]))
    composed = loader.cell(config, first)
    return cell_of(composed, composed.hydra.runtime.choices)


def _of_settings(settings: Sequence[str], order: Sequence[tuple[str, ...]]) -> str:
    """Return a filter of the threats that live in these settings."""
    from runners.config.pairs import derive

    places = derive().places
    threats = dict.fromkeys(dict(line.split("=", 1) for line in lines)["threat"] for lines in order)
    kept = [threat for threat in threats if places.get(threat, ("",))[0] in settings]
    if not kept:
        raise ConfigError(f"The audit has no threat in {', '.join(settings)}; there is {', '.join(SETTINGS)}.")
    return f"only.threat={','.join(kept)}"


def _play(console: Console, audit: Audit, jobs: int) -> None:
    from runners.sweep import audit as audits
    from runners.sweep.progress import watch

    if audit.waiting:
        with watch(audits.Clock(audit), console, "seconds"):
            audit.play(audits.within, jobs)


def _tell(console: Console, audit: Audit, paths: Sequence[Path]) -> None:
    ended = Counter(record["status"] for key in audit.played if (record := audit.store.sound(key)))
    told = ", ".join(f"{count} {status}" for status, count in ended.most_common()) or "none"
    console.print(f"{len(audit.played)} cells played ({told}), {len(audit.untried)} not tried.", highlight=False)
    for path in paths:
        if path.suffix in (".html", ".md"):
            console.print(f"report  {path}", highlight=False, soft_wrap=True)
    if audit.untried:
        console.print("The same command with the same folder goes on with the rest.", highlight=False)
