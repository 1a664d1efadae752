"""Config loader for sweeps, which composes each component once and joins cells of them.

Hydra reads and merges some twenty files for a cell, which takes 100 ms. A sweep of thousands of cells has few
components, and most files set nothing but one of these. So Hydra is asked which files a choice of options stands
for, and each key of the config (``threat``, ``setting``, ...) is merged of the files that set it, once for all cells in
which these are the same; ``runners/config/cells.py`` joins them.

Hydra's own composition of the whole cell is the reference: what cannot be joined, and every mistake, is left to it.

What was composed is kept pickled: that needs a tenth of the memory, a copy takes a tenth of the time of ``deepcopy``,
and the garbage collector does not look through it.
"""

from __future__ import annotations

import copy
import pickle
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, Node, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from benchmark.errors import GauntletError

KEPT = 4
"""Sweeps of which a process keeps what it composed; a notebook may begin any number of them."""

Lines = tuple[str, ...]
File = tuple[str, str | None]
"""A file of options and the place in the config where its content goes."""


@lru_cache(maxsize=4096)
def parsed(line: str) -> Override:
    """Return one parsed override; the caller must not modify it."""
    return OverridesParser.create().parse_override(line)


@dataclass(frozen=True)
class Choice:
    """Files and options that the lines of a cell stand for.

    Attributes:
        files: key of the config -> the files that set it, in Hydra's order.
        options: group -> chosen option, as in Hydra's ``runtime.choices``.
    """

    files: dict[str, tuple[File, ...]]
    options: dict[str, str | None]


@dataclass
class Composed:
    """Everything that was composed of a sweep so far; plain data, for it is handed to workers.

    Attributes:
        base: pickled config without any line of a cell.
        named: line of a cell -> whether it names an option and so decides which files are read.
        choices: lines that name options -> what they amount to; None where only Hydra can compose their cells.
        keys: file -> the keys of the config that it sets.
        nodes: key of the config and its files -> the pickled node, as they alone make it.
    """

    base: bytes | None = None
    named: dict[str, bool] = field(default_factory=dict)
    choices: dict[Lines, Choice | None] = field(default_factory=dict)
    keys: dict[File, tuple[str, ...]] = field(default_factory=dict)
    nodes: dict[tuple[str, tuple[File, ...]], bytes] = field(default_factory=dict)


_known: dict[tuple[str, str, Lines], Files] = {}  # by sweep: launchers hand a worker a new loader for each cell
_taken: set[str] = set()  # sweeps whose own process handed this one what it had composed


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
                own = {key: files.composed for key, files in _known.items() if key[0] == self.sweep}
                path.write_bytes(pickle.dumps(own))
                self.handed = path
            yield
            self.handed = None

    def _take(self) -> None:
        """Read the compositions of the sweep's own process, once a process."""
        if self.handed is None or self.sweep in _taken:
            return
        _taken.add(self.sweep)
        with suppress(FileNotFoundError):
            handed = pickle.loads(self.handed.read_bytes())  # noqa: S301 - written by the parent process, in its own folder
            for key, composed in handed.items():
                self._keep(key, composed)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """Return the config of one cell, as Hydra's own loader would."""
        config = self.cell(master_config, tuple(sweep_overrides))
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def cell(self, master_config: DictConfig, overrides: Lines) -> DictConfig:
        """Compose ``overrides``; the caller may modify the result."""
        files = self.files(master_config)
        try:
            config = files.whole(overrides)
        except (HydraException, OmegaConfBaseException, GauntletError):  # the user's mistake, which Hydra explains
            config = None
        return files.by_hydra(overrides) if config is None else config

    def files(self, master_config: DictConfig) -> Files:
        """Return the composer of the sweep that ``master_config`` begins."""
        self._take()
        name, hydra = master_config.hydra.job.config_name, tuple(master_config.hydra.overrides.hydra)
        key = (self.sweep, name, hydra)
        if key not in _known:
            self._keep(key, Composed())
        _known[key] = found = _known.pop(key)  # the last used, so that it is forgotten last
        return found

    def _keep(self, key: tuple[str, str, Lines], composed: Composed) -> None:
        assert isinstance(self.loader, ConfigLoaderImpl)
        while len(_known) >= KEPT:
            del _known[next(iter(_known))]
        _known[key] = Files(self.loader, *key[1:], composed)


class Files:
    """Composer of configs from the files of options, each read once.

    Args:
        loader: Hydra's.
        name: the primary config.
        hydra: overrides of Hydra's own settings.
        composed: what there is already; more is added.
    """

    def __init__(self, loader: ConfigLoaderImpl, name: str, hydra: Lines, composed: Composed) -> None:
        self.loader = loader
        self.name = name
        self.hydra = hydra
        self.composed = composed
        self._repository: Any = None

    def by_hydra(self, lines: Lines) -> DictConfig:
        """Return the config of a cell as Hydra composes it, of all files anew."""
        return _of_a_cell(self.loader.load_configuration(self.name, [*self.hydra, *lines], RunMode.RUN))

    def whole(self, lines: Lines) -> DictConfig | None:
        """Return the same, joined of components; None where only Hydra can.

        Raises:
            HydraException, OmegaConfBaseException, GauntletError: Hydra cannot either.
        """
        choosing, setting = self.apart(lines)
        choice = self.choice(choosing)
        base = self.choice(())
        if choice is None or base is None or base.files.keys() - choice.files.keys():
            return None
        config = self.base()
        self.fill(config, {key: files for key, files in choice.files.items() if files != base.files.get(key)})
        ConfigLoaderImpl._apply_overrides_to_config([parsed(line) for line in setting], config)
        config.hydra.runtime.choices = choice.options
        config.hydra.overrides.task = list(lines)
        return config

    def fill(self, config: DictConfig, wanted: Mapping[str, tuple[File, ...]]) -> None:
        """Set each key of ``config`` to what its files make of it."""
        with flag_override(config, "no_deepcopy_set_nodes", True):
            for key, files in wanted.items():
                config._set_item_impl(key, pickle.loads(self.node(key, files)))  # noqa: S301 - pickled by this process

    def apart(self, lines: Lines) -> tuple[Lines, Lines]:
        """Return those of ``lines`` that name options, and those that set values."""
        named = self.composed.named
        for line in lines:
            if line not in named:
                override = parsed(line)
                named[line] = override.is_sweep_override() or (
                    not isinstance(override.value(), dict) and self.repository.group_exists(override.key_or_group)
                )
        return tuple(line for line in lines if named[line]), tuple(line for line in lines if not named[line])

    @property
    def repository(self) -> Any:
        """Return Hydra's repository of options, which reads each file once."""
        if self._repository is None:
            _, self._repository = self.loader._parse_overrides_and_create_caching_repo(self.name, list(self.hydra))
        return self._repository

    def base(self) -> DictConfig:
        """Return a copy of the config without any line of a cell."""
        if self.composed.base is None:
            self.composed.base = pickle.dumps(self.by_hydra(()))
        return pickle.loads(self.composed.base)  # noqa: S301 - pickled by this process

    def choice(self, lines: Lines) -> Choice | None:
        """Return what options amount to, or None where only Hydra can compose their cells.

        The defense is found apart from the others, unless one of the two decides about the other.
        """
        known = self.composed.choices
        if lines not in known:
            of_defense = tuple(line for line in lines if parsed(line).key_or_group == "defense")
            rest = tuple(line for line in lines if line not in of_defense)
            if of_defense and rest:
                known[lines] = self._of_both(self.choice(of_defense), self.choice(rest)) or self._listed(lines)
            else:
                known[lines] = self._listed(lines)
        return known[lines]

    def _of_both(self, defense: Choice | None, rest: Choice | None) -> Choice | None:
        """Return what a choice of defenses and another one amount to together; None where they must be listed anew."""
        base = self.choice(())
        if base is None or defense is None or rest is None:
            return None
        if _but_defense(defense) != _but_defense(base) or _of_defense(rest) != _of_defense(base):
            return None
        files, options = _but_defense(rest)
        return Choice(files | _of_defense(defense)[0], options | _of_defense(defense)[1])

    def _listed(self, lines: Lines) -> Choice | None:
        overrides = [parsed(line) for line in (*self.hydra, *lines)]
        if any(override.is_sweep_override() for override in overrides):
            return None
        with _maps_where_needed():
            listed = defaults_list.create_defaults_list(
                repo=self.repository,
                config_name=self.name,
                overrides_list=overrides,
                prepend_hydra=True,
                skip_missing=False,
            )
        files: dict[str, tuple[File, ...]] = {}
        for default in listed.defaults:
            file = (str(default.config_path), default.package)
            for key in self._keys(file):
                files[key] = (*files.get(key, ()), file)
        if lines and (base := self.choice(())) is not None and files["hydra"] != base.files["hydra"]:
            return None
        return Choice(files, {**listed.overrides.known_choices})

    def _lent(self) -> Any:
        return _Lent(self.repository)

    def _keys(self, file: File) -> tuple[str, ...]:
        """Return the keys of the config that a file sets; its own list of defaults is none."""
        if file not in self.composed.keys:
            default = ResultDefault(config_path=file[0], package=file[1])
            loaded = self.loader._load_single_config(default, self._lent()).config
            keys = [str(key) for key in loaded if key != "defaults"] if OmegaConf.is_dict(loaded) else []
            self.composed.keys[file] = tuple(keys)
        return self.composed.keys[file]

    def node(self, key: str, files: tuple[File, ...]) -> bytes:
        """Return the pickled value of ``key`` as Hydra merges it of ``files``."""
        if (key, files) not in self.composed.nodes:
            defaults = [ResultDefault(config_path=path, package=package) for path, package in files]
            merged = self.loader._compose_config_from_defaults_list(defaults, self._lent())
            node = without_blocks(merged)._get_node(key)
            assert isinstance(node, Node)
            node._set_parent(None)
            self.composed.nodes[key, files] = pickle.dumps(node)
        return self.composed.nodes[key, files]


@contextmanager
def _maps_where_needed() -> Iterator[None]:
    """Spare Hydra a map of all choices for each file whose list of defaults names none of them by interpolation.

    Three quarters of the time that it takes to list files go into these maps.
    """
    create = defaults_list._create_interpolation_map

    def create_if_used(overrides: Any, defaults: list[Any], self_added: bool) -> Any:
        used = any(not default.is_self() and default.is_interpolation() for default in defaults)
        return create(overrides, defaults, self_added) if used else None

    defaults_list._create_interpolation_map = create_if_used  # type: ignore[assignment]
    try:
        yield
    finally:
        defaults_list._create_interpolation_map = create


class _Lent:
    """A repository that lends copies: Hydra writes into what it merges."""

    def __init__(self, repository: Any) -> None:
        self.repository = repository

    def load_config(self, config_path: str) -> Any:
        found = copy.copy(self.repository.load_config(config_path))
        found.config = copy.deepcopy(found.config)
        return found

    def get_schema_source(self) -> Any:
        return self.repository.get_schema_source()


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


def _of_defense(choice: Choice) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what was chosen for ``defense``: files and option."""
    files, options = ({key: of for key, of in held.items() if key == "defense"} for held in _both(choice))
    return files, options


def _but_defense(choice: Choice) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the same of everything else."""
    files, options = ({key: of for key, of in held.items() if key != "defense"} for held in _both(choice))
    return files, options


def _both(choice: Choice) -> tuple[dict[str, Any], dict[str, Any]]:
    return choice.files, choice.options
