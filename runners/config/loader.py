"""Config loader for sweeps, which composes each choice of components once and sets parameters on a copy.

Hydra reads and merges some twenty files for a cell, which takes 100 ms; a copy with parameters set takes 1 ms. A
sweep of thousands of cells has few choices of components; each of them is needed by the plan and again by the process
that plays it. A sweep of all threats and defenses has many choices, but a defense writes nothing outside its own
node, so it is composed once for all threats. The sweep is composed once as well, because its blocks take longer to
read than everything else.

Compositions are kept pickled: they need a tenth of the memory, a copy takes a tenth of the time of ``deepcopy``, and
the garbage collector does not look through them.
"""

from __future__ import annotations

import copy
import pickle
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runners.config.compose import SINGLE

KEPT = 512  # compositions, of 15 kB each: more than a matrix of threats has
APART = ("sweep", "defense")  # groups whose options are composed alone, unless they touch more than their own node

Composition = tuple[str, ...]

# Pickled, and by sweep: launchers hand a worker a new loader for each cell.
_compositions: dict[tuple[str, Composition], bytes] = {}
_nodes: dict[tuple[str, Composition], bytes | None] = {}
_targets: dict[tuple[str, bool, Composition], dict[str, str] | None] = {}
_taken: set[str] = set()  # sweeps whose own process handed this one what it had composed


@lru_cache(maxsize=4096)
def parsed(line: str) -> Override:
    """Return one parsed override; the caller must not modify it."""
    return OverridesParser.create().parse_override(line)


def choices(lines: Composition) -> Composition:
    """Return those of ``lines`` that decide which components are composed."""
    return tuple(line for line in lines if not is_parameter(line))


def is_parameter(line: str) -> bool:
    """Return whether ``line`` only sets a value that must exist already, e.g. ``threat.step=1`` or ``seed=3``."""
    override = parsed(line)
    key = override.key_or_group
    return (
        override.type is OverrideType.CHANGE
        and override.package is None
        and not override.is_sweep_override()
        and (key == "seed" or ("." in key and "/" not in key and not override.is_hydra_override()))
    )


class SweepLoader:
    """Replacement for Hydra's ``loader``, which it asks for everything but the configs of cells."""

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader = loader
        self.sweep = uuid.uuid4().hex
        self.handed: Path | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.loader, name)

    @contextmanager
    def handed_over(self) -> Iterator[None]:
        """Let workers on this machine use the compositions of this process while the block runs.

        Those on other machines compose for themselves, and so do all where the temporary folder has no room.
        """
        with ExitStack() as stack:
            with suppress(OSError):
                path = Path(stack.enter_context(TemporaryDirectory())) / "compositions.pickle"
                path.write_bytes(pickle.dumps((_compositions, _nodes)))
                self.handed = path
            yield
            self.handed = None

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """Return the config of one cell, as Hydra's own loader would."""
        config = self.cell(master_config, tuple(sweep_overrides))
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def cell(self, master_config: DictConfig, overrides: Composition) -> DictConfig:
        """Compose ``overrides``; the caller may modify the result."""
        self._take()
        name, hydra = master_config.hydra.job.config_name, tuple(master_config.hydra.overrides.hydra)
        alone, together = self._apart("defense", name, hydra, choices(overrides))
        config = _with(self._composed(name, hydra, together), alone)
        try:
            for line in filter(is_parameter, overrides):
                OmegaConf.update(config, parsed(line).key_or_group, parsed(line).value(), merge=True)
        except OmegaConfBaseException:  # an error of the user, which Hydra explains better
            return self.loader.load_configuration(name, [*hydra, *overrides], RunMode.RUN)
        config.hydra.overrides.task = list(overrides)
        return config

    def targets(self, master_config: DictConfig, overrides: Composition) -> dict[str, str] | None:
        """Return the ``_target_`` of each component by its place in the config, without composing the cell.

        Dataset, model, setting and threat come first, then the defenses in the order of the stack. None where the whole
        cell must be composed to know: a defense sets more than its own node, or a line names another class.
        """
        if any("_target_" in line for line in overrides):
            return None
        name, hydra = master_config.hydra.job.config_name, tuple(master_config.hydra.overrides.hydra)
        chosen = choices(overrides)
        of_defense = tuple(line for line in chosen if _concerns("defense", line))
        together = tuple(line for line in chosen if line not in of_defense)
        defenses = self._targets_of(name, hydra, of_defense, alone=True)
        rest = self._targets_of(name, hydra, together, alone=False)
        return rest | defenses if rest is not None and defenses is not None else None

    def _targets_of(self, name: str, hydra: Composition, lines: Composition, *, alone: bool) -> dict[str, str] | None:
        """Return the targets of the defenses that ``lines`` choose, or of everything else."""
        key = (self.sweep, alone, (*hydra, *lines))
        if key not in _targets:
            if alone and lines:
                node, _ = self._apart("defense", name, hydra, lines)
                nodes = node and {f"defense.{part}": found for part, found in node.node.items()}
            else:
                config = self._composed(name, hydra, lines)
                own = {group: config[group] for group in SINGLE}
                nodes = {f"defense.{part}": found for part, found in config.defense.items()} if alone else own
            found = [(path, node.get("_target_")) for path, node in nodes.items()] if nodes is not None else []
            known = nodes is not None and all(isinstance(target, str) for _, target in found)
            _targets[key] = {str(path): str(target) for path, target in found} if known else None
        return _targets[key]

    def _take(self) -> None:
        """Read the compositions of the sweep's own process, once a process."""
        if self.handed is None or self.sweep in _taken:
            return
        _taken.add(self.sweep)
        with suppress(FileNotFoundError):
            compositions, nodes = pickle.loads(self.handed.read_bytes())  # noqa: S301 - written by the parent process, in its own folder
            _compositions.update(compositions)
            _nodes.update(nodes)

    def _composed(self, name: str, hydra: Composition, chosen: Composition) -> DictConfig:
        key = (self.sweep, (*hydra, *chosen))
        if key not in _compositions:
            while len(_compositions) >= KEPT:
                del _compositions[next(iter(_compositions))]
            alone, together = self._apart("sweep", name, hydra, chosen)
            config = self._anew(name, hydra, together)
            _compositions[key] = pickle.dumps(_with(config, alone))
        return pickle.loads(_compositions[key])  # noqa: S301 - pickled by this process

    def _anew(self, name: str, hydra: Composition, chosen: Composition) -> DictConfig:
        return _of_a_cell(self.loader.load_configuration(name, [*hydra, *chosen], RunMode.RUN))

    def _apart(
        self, group: str, name: str, hydra: Composition, chosen: Composition
    ) -> tuple[DictConfig | None, Composition]:
        """Return the composition of ``chosen`` in ``group`` alone, and the lines that compose the rest.

        None and all lines where the group is not merely chosen, or the choice touches anything beside it.
        """
        touching = [line for line in chosen if _concerns(group, line)]
        if len(touching) != 1 or not _chooses(touching[0]):
            return None, chosen
        key = (self.sweep, (*hydra, *touching))
        if key not in _nodes:
            config, default = self._anew(name, hydra, tuple(touching)), self._composed(name, hydra, ())
            options = {of: option for of, option in config.hydra.runtime.choices.items() if of == group}
            alone = OmegaConf.create({"group": group, "node": config[group], "choices": options})
            _nodes[key] = pickle.dumps(alone) if _without(group, config) == _without(group, default) else None
        kept = _nodes[key]
        if kept is None:
            return None, chosen
        return pickle.loads(kept), tuple(line for line in chosen if line not in touching)  # noqa: S301 - pickled by this process


def without_blocks(config: DictConfig) -> DictConfig:
    """Return a copy without the sweep's blocks: a cell does not need them, and they are large to send to every job."""
    config = copy.deepcopy(config)
    if "sweep" in config:
        for key, value in (("blocks", []), ("base", {}), ("bases", {})):
            if key in config.sweep:
                config.sweep[key] = value
    return config


def _of_a_cell(config: DictConfig) -> DictConfig:
    """Return the config without blocks, and with the settings of launcher and sweeper as plain data.

    Hydra loads plugins past Python's table of modules, so the classes of their settings cannot be pickled.
    """
    config = without_blocks(config)
    for plugin in ("launcher", "sweeper"):
        config.hydra[plugin] = OmegaConf.to_container(config.hydra[plugin])
    return config


def _chooses(line: str) -> bool:
    """Return whether ``line`` names an option for a whole group."""
    override = parsed(line)
    return override.type is OverrideType.CHANGE and override.package is None and "." not in override.key_or_group


def _concerns(group: str, line: str) -> bool:
    """Return whether ``line`` chooses an option of ``group`` or changes something in it."""
    return parsed(line).key_or_group.split(".")[0] == group


def _without(group: str, config: DictConfig) -> tuple[Any, Any]:
    """Return all that ``config`` holds beside ``group``, and the options chosen for it."""
    held = OmegaConf.masked_copy(config, [str(key) for key in config if key not in (group, "hydra")])
    return OmegaConf.to_container(held), _but(group, config.hydra.runtime.choices)


def _with(config: DictConfig, alone: DictConfig | None) -> DictConfig:
    """Return ``config`` joined with the part that was composed apart from it, if any."""
    if alone is not None:
        config[alone.group] = alone.node
        config.hydra.runtime.choices = {**_but(alone.group, config.hydra.runtime.choices), **alone.choices}
    return config


def _but(group: str, chosen: DictConfig) -> dict[Any, Any]:
    return {of: option for of, option in chosen.items() if of != group}
