"""Blocks of a sweep file, with everything that they share written out.

A sweep says differences: ``base`` holds the overrides of all its blocks, ``bases`` named sets of further ones, and a
block names one of those by ``base: NAME``. A named set may itself begin from another one. The nearer value of a key
wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmark.errors import ConfigError
from runners.config.build import nearest

Block = dict[str, Any]


def blocks(sweep: Mapping[str, Any]) -> list[Block]:
    """Return every block of ``sweep`` as one flat mapping from override to value.

    Args:
        sweep: a sweep file as plain data, with its interpolations resolved.

    Raises:
        ConfigError: a block names a base that the file does not define, or bases begin from each other in a circle.
    """
    common, named = sweep.get("base") or {}, sweep.get("bases") or {}
    return [{**common, **_with_base(block, named)} for block in sweep["blocks"]]


def _with_base(block: Mapping[str, Any], named: Mapping[str, Block]) -> Block:
    merged: Block = {}
    for layer in reversed(list(_layers(block, named))):
        merged |= layer
    merged.pop("base", None)
    return merged


def _layers(block: Mapping[str, Any], named: Mapping[str, Block]) -> Iterator[Mapping[str, Any]]:
    """Yield ``block``, its base, the base of that, and so on."""
    yield block
    seen: list[str] = []
    while (name := block.get("base")) is not None:
        if name not in named:
            raise ConfigError(
                f"A block begins from the base {name!r}, which the sweep does not define{nearest(name, named)}"
            )
        if name in seen:
            raise ConfigError(f"The bases {', '.join(seen)} of the sweep begin from each other; take one `base` out.")
        seen.append(name)
        block = named[name]
        yield block
