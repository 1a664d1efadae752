"""Conversion of a composed Hydra config to a cell: its science as plain data, its key, and its run options."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmark.errors import ConfigError
from benchmark.precision import FULL, check
from runners.config import gate
from runners.config.brought import with_digest
from runners.config.identity import SINGLE, canonical, described, digest_of, targets
from runners.store.place import place

PARTS = (*SINGLE, "defense", "scale", "precision", "seed")
"""Parts of a cell, in the order of a record's ``config``, which tells no precision but for a reduced one."""


@dataclass(frozen=True)
class Options:
    """Options that do not change a cell's numbers, and so are not in its key; ``conf/config.yaml`` explains each."""

    store: Path
    device: str
    threads: int
    time_limit: float | None
    cache: bool
    logger: str
    data_root: Path | None
    trusted: tuple[str, ...]
    sweep: str | None


@dataclass(frozen=True)
class ComposedCell:
    """A cell before it is built.

    Attributes:
        config: the identity of the cell, as it goes into key and record; ``defense`` is a list in the order of the
            stack. See :func:`runners.config.identity.described`.
        nodes: group -> what is to be instantiated; ``defense`` maps an option's name to its node.
        key: SHA-256 over ``config``.
    """

    config: dict[str, Any]
    nodes: dict[str, Any]
    options: Options
    key: str

    @property
    def label(self) -> str:
        """Return the cell's name for humans."""
        defense = "+".join(part["name"] for part in self.config["defense"])
        threat = self.config["threat"]["name"] + (" (adaptive)" if self.config["threat"].get("adaptive") else "")
        place = "/".join(self.config[group]["name"] for group in ("dataset", "model", "scale"))
        return f"{threat} vs {defense} on {place}{self.reduced}, seed {self.config['seed']}"

    @property
    def precision(self) -> str:
        return str(self.config.get("precision", FULL))

    @property
    def reduced(self) -> str:
        """Return the precision for a label; nothing for full precision."""
        return f" in {self.precision}" if self.precision != FULL else ""

    def targets(self) -> dict[str, str]:
        """Return the dotted name of each component by ``group/option``, of nested ones by their class."""
        return targets(self.nodes, self.config)


def by_scale(smoke: Any, cpu: Any, full: Any, *, _root_: DictConfig) -> Any:
    """Resolve ``${by_scale:SMOKE,CPU,FULL}`` to the value for the cell's scale."""
    values = {"smoke": smoke, "cpu": cpu, "full": full}
    if _root_.scale.name not in values:
        raise ConfigError(f"scale.name must be one of {', '.join(values)}, got {_root_.scale.name!r}.")
    return values[_root_.scale.name]


FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", flags=re.ASCII)


def function_named(name: str) -> str:
    """Resolve ``${function_named:my_package.nets:make}`` to the dotted name ``my_package.nets.make``."""
    if not FUNCTION.fullmatch(str(name)):
        raise ConfigError(f"A function is named module:function, e.g. my_package.nets:make, got {name!r}.")
    return name.replace(":", ".")


def register() -> None:
    """Register the suite's resolvers with OmegaConf and install its gate in Hydra; harmless when repeated."""
    gate.install()
    OmegaConf.register_new_resolver("by_scale", by_scale, replace=True)
    OmegaConf.register_new_resolver("function_named", function_named, replace=True)


@dataclass(frozen=True)
class Part:
    """One part of a cell: a component, the stack of defenses, the scale, the precision or the seed.

    Attributes:
        node: what is to be instantiated.
        science: its identity, as it goes into key and record.
        text: the canonical spelling of ``science``.
    """

    node: Any
    science: Any
    text: str


def cell_of(config: DictConfig, choices: Mapping[str, Any]) -> ComposedCell:
    """Return the cell that ``config`` describes.

    Args:
        config: as composed by Hydra, with or without its ``hydra`` node.
        choices: Hydra's ``runtime.choices``: group -> chosen option.

    Raises:
        ConfigError: a value is missing or cannot be resolved.
    """
    options = options_of(config, choices)
    return joined({name: part_of(config, name, choices, options.data_root) for name in PARTS}, options)


def part_of(config: DictConfig, name: str, choices: Mapping[str, Any], data_root: Path | None) -> Part:
    """Return the part ``name`` (one of :data:`PARTS`) of the cell that ``config`` describes; see :func:`cell_of`."""
    node: Any
    if name == "precision":
        check(node := config.precision)
    else:
        node = _whole(config.seed) if name == "seed" else _plain(config, name)
    science = node
    if name in SINGLE:
        _refuse_classless(name, node)
        node = with_digest(node, data_root) if name in ("dataset", "model") else node
        science = described(str(choices.get(name)), node)
    elif name == "defense":
        for defense, own in node.items():
            _refuse_classless(defense, own)
        science = [described(defense, own) for defense, own in node.items()]
    try:
        return Part(node, science, canonical(science))
    except ValueError as error:
        raise ConfigError("A cell's parameters must be finite numbers; one of them is NaN or infinite.") from error


def joined(parts: Mapping[str, Part], options: Options) -> ComposedCell:
    """Return the cell of these parts, one for each of :data:`PARTS`."""
    nodes = {name: parts[name].node for name in (*SINGLE, "defense")}
    told = [name for name in PARTS if name != "precision" or parts[name].science != FULL]  # as before there were others
    science = {name: parts[name].science for name in told}
    return ComposedCell(science, nodes, options, digest_of({name: parts[name].text for name in told}))


def _refuse_classless(name: str, node: Any) -> None:
    if not isinstance(node, dict) or "_target_" not in node:
        raise ConfigError(f"{name} names no class: the file of its option lacks `_target_`.")


def _sweep_of(choices: Mapping[str, Any]) -> str | None:
    """Return the sweep's name without its folder: ``papers/gan`` is recorded as ``gan``."""
    return str(choices["sweep"]).rpartition("/")[2] if choices.get("sweep") else None


def _whole(seed: Any) -> int:
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ConfigError(f"seed must be a whole number, got {seed!r}.")
    return seed


def _plain(config: DictConfig, group: str) -> dict[str, Any]:
    try:
        plain = gate.resolved(config[group])
    except OmegaConfBaseException as error:
        told = str(error).splitlines()[0].removeprefix("ConfigError raised while resolving interpolation: ")
        raise ConfigError(f"{group} cannot be resolved: {told.rstrip('.')}.") from error
    if not isinstance(plain, dict):
        raise ConfigError(f"{group} must name an option of its group, got {plain!r}.")
    gate.refuse_interpolations(plain, group)
    return plain


def options_of(config: DictConfig, choices: Mapping[str, Any]) -> Options:
    """Return the run options of the cell that ``config`` describes; see :func:`cell_of`."""
    root = config.data.root
    if not isinstance(root, str | None):
        raise ConfigError(f"data.root must be the path of a folder, got {root!r}.")
    limit, cache = config.time_limit, config.cache
    if limit is not None and (
        isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < math.inf
    ):
        raise ConfigError(f"time_limit must be a number of seconds above 0, or null for none, got {limit!r}.")
    if not isinstance(cache, bool):
        raise ConfigError(f"cache must be true or false, got {cache!r}.")
    return Options(
        store=store_of(config),
        device=str(config.device),
        threads=at_least_one("threads", config.threads),
        time_limit=limit,
        cache=cache,
        logger=str(config.logger),
        data_root=Path(root).expanduser() if root else None,
        trusted=gate.trusted_prefixes(config.trusted),
        sweep=_sweep_of(choices),
    )


def store_of(config: DictConfig) -> Path:
    """Return the folder that ``store=`` names."""
    if not isinstance(config.store, str):
        raise ConfigError(f"store must be the path of a folder, got {config.store!r}.")
    return place(config.store)


def at_least_one(name: str, value: Any) -> int:
    """Return ``value`` if it is a whole number from 1 up.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} must be a whole number from 1 up, got {value!r}.")
    return value
