"""Changes of the code behind a record: components with a new version, and sources edited without one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from runners.config import catalogue
from runners.config.identity import labelled, version
from runners.config.syntax import SUITE, source_digest

Change = tuple[str, str, str]
"""A component (``group/option``, or the class of a nested one), what it was, what it is."""


def moved_on(config: Mapping[str, Any]) -> list[Change]:
    """Return the components of a record's ``config`` whose ``VERSION`` is another one now, or that no longer exist."""
    found = {_moved(label, str(node.get("provider")), node.get("version")) for label, node in labelled(config)}
    return sorted(change for change in found if change)


def edited(record: Mapping[str, Any]) -> list[Change]:
    """Return the components of ``record`` whose source differs from today's while their ``VERSION`` does not."""
    known = _components(record)
    found = set()
    for label, node in labelled(record["config"]):
        then = known.get(label)
        target = catalogue.target(label, str(node.get("provider")))
        if then is None or target is None or then.get("digest") is None:
            continue
        now = source_digest(target)
        if now is not None and now != then["digest"] and version(target) == then["version"]:
            found.add((label, str(then["digest"]), now))
    return sorted(found)


def unknown_sources(record: Mapping[str, Any]) -> bool:
    """Return whether ``record`` has a component for whose source it holds no digest."""
    return any(component.get("digest") is None for component in _components(record).values())


def _components(record: Mapping[str, Any]) -> dict[str, Any]:
    return (record.get("versions") or {}).get("components") or {}


@cache
def _moved(label: str, provider: str, then: int | None) -> Change | None:
    target = catalogue.target(label, provider)
    if target is None:  # another package, which is not installed here or keeps its options elsewhere
        return (label, f"VERSION {then}", "gone") if then is not None and provider == SUITE else None
    now = version(target)
    return None if now == then else (label, f"VERSION {then}", f"VERSION {now}")
