"""Conversion of a composed Hydra config to a cell: its science as plain data, its key, and its run options."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmark.errors import ConfigError
from runners.config import gate
from runners.config.brought import with_digest, with_weights, without_paths
from runners.config.identity import SINGLE, described, digest, targets
from runners.store.place import place


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
        return f"{threat} vs {defense} on {place}, seed {self.config['seed']}"

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


def cell_of(config: DictConfig, choices: Mapping[str, Any]) -> ComposedCell:
    """Return the cell that ``config`` describes.

    Args:
        config: as composed by Hydra, with or without its ``hydra`` node.
        choices: Hydra's ``runtime.choices``: group -> chosen option.

    Raises:
        ConfigError: a value is missing or cannot be resolved.
    """
    seed = _whole(config.seed)
    nodes = {group: _plain(config, group) for group in (*SINGLE, "defense", "scale")}
    for group, node in [*((group, nodes[group]) for group in SINGLE), *nodes["defense"].items()]:
        if not isinstance(node, dict) or "_target_" not in node:
            raise ConfigError(f"{group} names no class: the file of its option lacks `_target_`.")
    options = _options(config, _sweep_of(choices))
    nodes["dataset"] = with_digest(nodes["dataset"], options.data_root)
    nodes["model"] = with_weights(nodes["model"])
    science: dict[str, Any] = {
        group: described(str(choices.get(group)), without_paths(nodes[group])) for group in SINGLE
    }
    science["defense"] = [described(name, node) for name, node in nodes["defense"].items()]
    science["scale"] = nodes.pop("scale")
    science["seed"] = seed
    try:
        key = digest(science)
    except ValueError as error:
        raise ConfigError("A cell's parameters must be finite numbers; one of them is NaN or infinite.") from error
    return ComposedCell(science, nodes, options, key)


def _sweep_of(choices: Mapping[str, Any]) -> str | None:
    """Return the sweep's name without its folder: ``papers/gan`` is recorded as ``gan``."""
    return str(choices["sweep"]).rpartition("/")[2] if choices.get("sweep") else None


def with_seed(cell: ComposedCell, seed: Any) -> ComposedCell:
    """Return the same cell with another seed; allowed only where nothing else depends on it (:func:`uses_seed`)."""
    science = {**cell.config, "seed": _whole(seed)}
    return replace(cell, config=science, key=digest(science))


def uses_seed(config: DictConfig) -> bool:
    """Return whether a parameter of a component is derived from a seed."""
    parts = [OmegaConf.to_container(config[group], resolve=False) for group in (*SINGLE, "defense", "scale")]
    return re.search(r"\$\{[^}]*\bseed\b", str(parts)) is not None


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


def _options(config: DictConfig, sweep: str | None) -> Options:
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
        sweep=sweep,
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
