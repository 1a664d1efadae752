"""The cells of a plan, joined of parts that are made once.

A component's parameters are set, its interpolations resolved and its identity spelled once for all cells that agree in
everything it refers to. What cannot be joined, and every mistake, is left to Hydra's composition of the whole cell.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmark.errors import GauntletError
from runners.config.compose import PARTS, SINGLE, ComposedCell, Options, Part, cell_of, joined, options_of, part_of
from runners.config.loader import Choice, File, Lines, SweepLoader, parsed

INTERPOLATION = re.compile(r"\$\{\s*(?:(by_scale)\s*:|(function_named)\s*:|(\.)\w|(\w+)(?:\.\w+)*\s*\})")
"""Beginning of an interpolation that tells what it refers to: the scale, nothing, its own node, or a key."""


class Cells:
    """Composer of the cells of a sweep, which makes each of their parts once.

    Args:
        loader: composes a whole cell where joining does not do.
        master: the composed config of the sweep.
    """

    def __init__(self, loader: SweepLoader, master: DictConfig) -> None:
        self.loader = loader
        self.master = master
        self.files = loader.files(master)
        self._parts: dict[Hashable, Part] = {}
        self._options: dict[Hashable, Options] = {}
        self._refers: dict[Hashable, frozenset[str] | None] = {}
        self._targets: dict[tuple[str, tuple[File, ...]], dict[str, str] | None] = {}

    def __call__(self, lines: Lines) -> ComposedCell:
        """Return the cell that ``lines`` compose.

        Raises:
            ConfigError: a value is missing or cannot be resolved.
            HydraException: the cell cannot be composed.
        """
        try:
            cell = self._joined(lines)
        except (HydraException, OmegaConfBaseException, GauntletError):  # the user's mistake, told by the whole cell
            cell = None
        if cell is None:
            config = self.loader.cell(self.master, lines)
            cell = cell_of(config, config.hydra.runtime.choices)
        return cell

    def targets(self, lines: Lines) -> dict[str, str] | None:
        """Return the ``_target_`` of each component by its place in the config, without composing the cell.

        Dataset, model, setting and threat come first, then the defenses in the order of the stack. None where the whole
        cell must be composed to know.
        """
        if any("_target_" in line for line in lines):
            return None
        try:
            choice = self.files.choice(self.files.apart(lines)[0])
        except (HydraException, OmegaConfBaseException, GauntletError):
            return None
        if choice is None:
            return None
        found: dict[str, str] = {}
        for group in (*SINGLE, "defense"):
            own = self._targets_of(group, choice.files.get(group, ()))
            if own is None or not (own or group == "defense"):
                return None
            found |= own
        return found

    def _joined(self, lines: Lines) -> ComposedCell | None:
        choosing, setting = self.files.apart(lines)
        choice = self.files.choice(choosing)
        if choice is None:
            return None
        own: dict[str, Lines] = {}
        for line in setting:
            key = _key(line)
            own[key] = (*own.get(key, ()), line)
        if "hydra" in own:
            return None
        state = _State(choice, own)
        machine = tuple((key, of) for key, of in own.items() if key not in PARTS)
        at = (machine, choice.options.get("sweep"), *(choice.files.get(key) for key in MACHINE))
        if at not in self._options:
            self._options[at] = options_of(self._config(state, MACHINE), choice.options)
        options = self._options[at]
        return joined({name: self._part(name, state, options) for name in PARTS}, options)

    def _part(self, name: str, state: _State, options: Options) -> Part:
        refers = self._closure(name, state)
        key = (name, state.choice.options.get(name), options.data_root, *map(state.of, refers))
        if key not in self._parts:
            config = self._config(state, refers)
            self._parts[key] = part_of(config, name, state.choice.options, options.data_root)
        return self._parts[key]

    def _closure(self, name: str, state: _State) -> tuple[str, ...]:
        """Return the keys of the config that a part's value depends on, its own first."""
        found, waiting = [name], [name]
        while waiting:
            refers = self._referred(waiting.pop(), state)
            if refers is None:
                return tuple(sorted({*state.choice.files, *state.own} - {"hydra", "sweep", "lists"}))
            new = sorted(refers.difference(found))
            found += new
            waiting += new
        return tuple(found)

    def _referred(self, key: str, state: _State) -> frozenset[str] | None:
        """Return the keys that the interpolations in ``key`` name; None where they may name any."""
        of = state.of(key)
        if of not in self._refers:
            text = str(OmegaConf.to_container(self._config(state, (key,)), resolve=False))
            named = [found.groups() for found in INTERPOLATION.finditer(text)]
            if len(named) < text.count("${"):
                self._refers[of] = None
            else:
                keys = {"scale" if scale else other for scale, _, _, other in named if scale or other}
                self._refers[of] = frozenset(keys)
        return self._refers[of]

    def _config(self, state: _State, keys: Sequence[str]) -> DictConfig:
        """Return a config that holds ``keys`` alone, with the values that the cell's lines set."""
        config = OmegaConf.create()
        self.files.fill(config, {key: files for key in keys if (files := state.choice.files.get(key))})
        OmegaConf.set_struct(config, True)
        lines = [line for key in keys for line in state.own.get(key, ())]
        ConfigLoaderImpl._apply_overrides_to_config([parsed(line) for line in lines], config)
        return config

    def _targets_of(self, group: str, files: tuple[File, ...]) -> dict[str, str] | None:
        """Return the targets of the components that ``files`` make, or None where one is not plain."""
        if (group, files) not in self._targets:
            config = OmegaConf.create()
            self.files.fill(config, {group: files} if files else {})
            found: Any = OmegaConf.to_container(config, resolve=False)
            nodes = found.get(group, {}) if group == "defense" else found
            targets = {name: own.get("_target_") if isinstance(own, dict) else None for name, own in nodes.items()}
            place = "defense." if group == "defense" else ""
            plain = all(isinstance(target, str) and "${" not in target for target in targets.values())
            self._targets[group, files] = {f"{place}{name}": str(of) for name, of in targets.items()} if plain else None
        return self._targets[group, files]


MACHINE = ("device", "threads", "time_limit", "store", "logger", "cache", "data", "trusted")
"""Keys of the config that are in no cell's identity."""


class _State:
    """Lines of one cell: its options, and those that set values, by the key they concern."""

    def __init__(self, choice: Choice, own: Mapping[str, Lines]) -> None:
        self.choice = choice
        self.own = own

    def of(self, key: str) -> Hashable:
        """Return all that the value of ``key`` follows from, but for its interpolations."""
        return key, self.choice.files.get(key), self.own.get(key)


@lru_cache(maxsize=4096)
def _key(line: str) -> str:
    return parsed(line).key_or_group.split(".")[0]
