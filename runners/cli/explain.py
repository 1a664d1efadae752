"""Shell command that plays the cell of a record again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra import compose, initialize_config_module
from hydra.errors import HydraException

from benchmark.errors import ConfigError
from runners.cli.problems import sentence
from runners.config.compose import cell_of, register
from runners.config.identity import SINGLE


def command(config: Mapping[str, Any], extra: Sequence[str] = ()) -> tuple[str, list[str]]:
    """Return the shell command for a record's ``config``, and a note if the code has changed since.

    Args:
        extra: overrides that finding the cell's options needs, ``hydra.searchpath=[...]``; not in the command.

    Raises:
        ConfigError: the suite no longer has one of the cell's options.
    """
    overrides = [f"{group}={config[group]['name']}" for group in ("dataset", "model", "threat")]
    names = [part["name"] for part in config["defense"]]
    overrides.append(f"defense={names[0]}" if len(names) == 1 else f"defense=[{','.join(names)}]")
    overrides += [f"scale={config['scale']['name']}", f"seed={config['seed']}"]
    today = _composed([*overrides, *extra])
    if today["setting"]["name"] != config["setting"]["name"]:
        overrides.insert(2, f"setting={config['setting']['name']}")
        today = _composed([*overrides, *extra])
    changed = []
    now, then = dict(_leaves(today)), dict(_leaves(config))
    for path in now.keys() | then.keys():
        if now.get(path) == then.get(path):
            continue
        if path.endswith((".version", ".provider", ".class")) or path not in now or path not in then:
            changed.append(f"{path} was {then.get(path)} and is {now.get(path)}")
        else:
            overrides.append(f"{path}={_spelled(then[path])}")
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


def _flat(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flat(f"{path}.{key}", value)
    else:
        yield path, node


def _spelled(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(_spelled(item) for item in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
