"""What has become of the code behind a record: components whose version moved on, and sources changed without that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any

from runners.config.identity import component

Change = tuple[str, str, str]
"""Target, what it was, what it is."""


def moved_on(config: Mapping[str, Any]) -> list[Change]:
    """Components of a record's ``config`` whose ``VERSION`` is another one now, or that are gone."""
    found = {_moved(str(node["_target_"]), node.get("version")) for node in _nodes(config)}
    return sorted(change for change in found if change)


def edited(record: Mapping[str, Any]) -> list[Change]:
    """Components of ``record`` whose source differs from today's while their ``VERSION`` does not."""
    found = []
    for target, then in ((record.get("versions") or {}).get("components") or {}).items():
        now = component(target)
        if now and now.version == then["version"] and now.source != then["source"]:
            found.append((target, str(then["source"]), now.source))
    return sorted(found)


@cache
def _moved(target: str, then: int | None) -> Change | None:
    now = component(target)
    if now is None:  # a package of somebody else's, that is not installed here, tells nothing
        gone = then is not None and find_spec(target.partition(".")[0]) is not None
        return (target, f"VERSION {then}", "gone") if gone else None
    return None if now.version == then else (target, f"VERSION {then}", f"VERSION {now.version}")


def _nodes(node: Any) -> Iterator[Mapping[str, Any]]:
    """Every node with a ``_target_``."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _nodes(item)
