"""Limits on the YAML files of strangers, held before anything is made of them.

A few lines of YAML may stand for any amount of data: an alias repeats what it names, and that may hold aliases again.
The parser's events are read once, in a time that grows with the file and not with what the file stands for.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from benchmark.errors import ConfigError

LARGEST_FILE = 1_000_000  # bytes; the suite's largest has 5,000
MOST_VALUES = 100_000  # once every alias is written out
DEEPEST = 50  # levels


def refuse_bomb(file: Path) -> None:
    """Raise ConfigError if ``file`` is too large, too deep, or would be once its aliases are written out.

    What is no YAML at all is left to Hydra, which says where.
    """
    if not file.is_file():
        raise ConfigError(f"{file} is no regular file, so it is no option.")
    if file.stat().st_size > LARGEST_FILE:
        raise ConfigError(f"{file} has {file.stat().st_size} bytes; an option has at most {LARGEST_FILE}.")
    try:
        values = expanded(file.read_text(encoding="utf-8"), str(file))
    except (yaml.YAMLError, UnicodeDecodeError):
        return
    if values > MOST_VALUES:
        raise ConfigError(f"{file} stands for more than {MOST_VALUES} values once its aliases are written out.")


def expanded(text: str, name: str = "the text") -> int:
    """Return how many values ``text`` stands for once every alias is written out.

    Raises:
        ConfigError: it is deeper than :data:`DEEPEST`, or an alias stands inside of what it names.
        yaml.YAMLError: it is no YAML.
    """
    weights: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []  # the anchor of each collection around, and the values before it
    count = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise ConfigError(f"{name}: the alias *{event.anchor} stands inside of what it names.")
            count += weights.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor:
                weights[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, count))
            count += 1
            if len(open_nodes) > DEEPEST:
                raise ConfigError(f"{name} is more than {DEEPEST} levels deep.")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                weights[anchor] = count - before
    return count
