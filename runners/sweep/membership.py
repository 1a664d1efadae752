"""Cells of a board: a record is on a board if the board's sweep plans its key, whatever sweep played it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmark.errors import ConfigError
from runners.config.faces import FOLDER
from runners.config.identity import SINGLE, canonical
from runners.config.remembered import ROOT, remembered

if TYPE_CHECKING:
    from runners.config.cells import Cells
    from runners.sweep.judge import Judge


@dataclass(frozen=True)
class Member:
    """A planned cell; ``config``: the identities of its components, as in a record."""

    key: str
    seed: int
    config: dict[str, Any]


def members(board: str) -> list[Member]:
    """Return the cells that the sweep ``boards/<board>`` plans, whatever libraries are installed.

    The answer is kept until a source changes.
    """
    sources = b"".join(path.read_bytes() for path in sorted((ROOT / "conf").glob("*.yaml")))
    sources += (FOLDER / f"{board}.yaml").read_bytes()
    name = f"board-{board}-{hashlib.sha256(sources).hexdigest()[:8]}"
    kept = remembered(name, lambda: _compact(_planned(board)))
    return [Member(key, seed, {**config, "seed": seed}) for config, seeds in kept for key, seed in seeds]


def _compact(planned: Iterator[Member]) -> list[list[Any]]:
    """Return each config once, with the keys and seeds of its cells."""
    found: dict[str, list[Any]] = {}
    for member in planned:
        config = {part: node for part, node in member.config.items() if part != "seed"}
        found.setdefault(canonical(config), [config, []])[1].append([member.key, member.seed])
    return list(found.values())


def _planned(board: str) -> Iterator[Member]:
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra

    from runners.config import compose as composition
    from runners.config.loader import SweepLoader
    from runners.report.statistics import EXACT_UP_TO
    from runners.store.records import Store
    from runners.sweep.plan import make_plan

    composition.register()
    with _hydra(), TemporaryDirectory() as empty:
        loader = SweepLoader(GlobalHydra.instance().config_loader())
        config = compose("sweeps", [f"sweep=boards/{board}"], return_hydra_config=True)
        cells = make_plan(loader, config, [], Store(Path(empty)), anywhere=True).to_run
        if len({planned.cell.config["seed"] for planned in cells}) > EXACT_UP_TO:
            raise ConfigError(f"The board {board} has more than {EXACT_UP_TO} seeds, which its page cannot resample.")
        for planned in cells:
            yield Member(planned.cell.key, int(planned.cell.config["seed"]), planned.cell.config)


@dataclass(frozen=True)
class Options:
    """Options of the suite and of the command line's search path, asked for the classes of a record's components."""

    cells: Cells
    judge: Judge

    def targets(self, config: Mapping[str, Any]) -> dict[str, str]:
        """Return the ``_target_`` of each component of a cell by its place; none where only the whole cell tells it.

        Raises:
            HydraException: there is no option of that name.
        """
        from runners.config.gate import option_name

        names = ",".join(option_name(str(node["name"])) for node in config["defense"])
        lines = [f"{group}={option_name(str(config[group]['name']))}" for group in (*SINGLE, "scale")]
        lines += [f"defense=[{names}]"]
        if (found := self.cells.targets(tuple(lines))) is None:
            with suppress(ConfigError):  # it lacks a parameter
                self.cells(tuple(lines))
        return found or {}

    def refusal(self, config: Mapping[str, Any]) -> str | None:
        """Return why the components of a cell do not meet, or None.

        Raises:
            ConfigError: a class cannot be imported, or its package is not trusted.
        """
        from runners.config.gate import trusted_prefixes

        targets = self.targets(config)
        return self.judge.known_refusal(targets, trusted_prefixes(self.cells.master.trusted)) if targets else None


@contextmanager
def options(extra: Sequence[str]) -> Iterator[Options]:
    """Give the options that ``extra`` adds to the suite's (``hydra.searchpath=[...]``, ``trusted=[...]``)."""
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra

    from runners.config import compose as composition
    from runners.config.cells import Cells
    from runners.config.loader import SweepLoader
    from runners.sweep.judge import Judge

    composition.register()
    with _hydra():
        loader = SweepLoader(GlobalHydra.instance().config_loader())
        yield Options(Cells(loader, compose("config", [*extra], return_hydra_config=True)), Judge())


@contextmanager
def _hydra() -> Iterator[None]:
    """Have Hydra read the suite's own ``conf``, whatever it reads outside of the block."""
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.initialize import get_gh_backup, restore_gh_from_backup

    outside = get_gh_backup()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("conf", version_base="1.3"):
            yield
    finally:
        restore_gh_from_backup(outside)
