"""Shell command that plays the cell of a record again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from benchmark.errors import ConfigError
from benchmark.precision import FULL
from runners.cli.problems import sentence
from runners.config.brought import is_named_by_content
from runners.config.compose import cell_of, register
from runners.config.gate import option_name, refuse_interpolations
from runners.config.identity import SINGLE

DATA_PATH = "dataset.path"


def command(
    config: Mapping[str, Any], extra: Sequence[str] = (), data_path: str | None = None
) -> tuple[str, list[str]]:
    """Return the shell command for a record's ``config``, and a note if the code has changed since.

    Args:
        extra: overrides that finding the cell's options needs, ``hydra.searchpath=[...]``; not in the command.
        data_path: where data lie that the config names by their content.

    Raises:
        ConfigError: the suite no longer has one of the cell's options.
    """
    overrides = [f"{group}={_option(config[group], group)}" for group in ("dataset", "model", "threat")]
    names = [_option(part, "defense") for part in config["defense"]]
    overrides.append(f"defense={names[0]}" if len(names) == 1 else f"defense=[{','.join(names)}]")
    overrides += [f"scale={_option(config['scale'], 'scale')}", f"seed={int(config['seed'])}"]
    today = _composed([*overrides, *extra])
    if today["setting"]["name"] != config["setting"]["name"]:
        overrides.insert(2, f"setting={_option(config['setting'], 'setting')}")
        today = _composed([*overrides, *extra])
    changed = []
    now, then = dict(_leaves(today)), dict(_leaves(config))
    by_content = is_named_by_content(config["dataset"])
    if by_content and data_path is not None:
        overrides.append(f"{DATA_PATH}={spelled(data_path)}")
    for path in now.keys() | then.keys():
        if now.get(path) == then.get(path) or (path == DATA_PATH and by_content):
            continue
        fixed = path.endswith((".version", ".provider", ".class")) or _has_components(then.get(path))
        if fixed or path not in now or path not in then:
            changed.append(f"{path} was {then.get(path)} and is {now.get(path)}")
        else:
            overrides.append(f"{path}={spelled(then[path])}")
    if changed and len(overrides) > 6:  # a component may follow from a parameter, as the function of model=factory does
        now = dict(_leaves(_composed([*overrides, *extra])))
        paths = {line: line.partition(" was ")[0] for line in changed}
        changed = [line for line in changed if now.get(paths[line], now) != then.get(paths[line], then)]
    return shlex.join(["python", "-m", "runners.run", *overrides[:6], *sorted(overrides[6:])]), sorted(changed)


def _composed(overrides: list[str]) -> dict[str, Any]:
    register()
    with initialize_config_module("conf", version_base="1.3"):
        try:
            composed = compose("config", overrides, return_hydra_config=True)
        except HydraException as error:
            raise ConfigError(f"The cell cannot be composed any more. {sentence(error)}") from error
        return cell_of(composed, composed.hydra.runtime.choices).config


def _leaves(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every parameter with its path on the command line."""
    for group in SINGLE:
        yield from _flat(group, config[group])
    for part in config["defense"]:
        yield from _flat(f"defense.{part['name']}", part)
    yield "precision", config.get("precision", FULL)


def _flat(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flat(f"{path}.{key}", value)
    else:
        yield path, node


def _option(part: Mapping[str, Any], group: str) -> str:
    return option_name(str(part["name"]), f"{group} of the record")


def _has_components(value: Any) -> bool:
    """Whether a list holds components, whose classes no override names."""
    return isinstance(value, list) and any(isinstance(item, Mapping) or _has_components(item) for item in value)


PLAIN = re.compile(r"(?!(true|false|null|nan|inf)$)[A-Za-z_][\w./-]*", flags=re.ASCII | re.IGNORECASE)
"""Texts that mean themselves in Hydra's grammar."""


def spelled(value: Any) -> str:
    """Return ``value`` in Hydra's grammar: texts in quotes unless they are plain words, so that none is evaluated."""
    if isinstance(value, list):
        return f"[{','.join(spelled(item) for item in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        refuse_interpolations(value, "The record")
        return value if PLAIN.fullmatch(value) else QuotedString(value, Quote.single).with_quotes()
    return "null" if value is None else str(value)
