"""Differences between two records: in their cells, in the code that ran, and in the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runners.store.gate import visible

ABSENT = object()
PARTS = {
    "cell": ("config",),
    "code and machine": ("versions", "device", "data"),
    "result": ("status", "reason", "utility", "risk", "cost", "diagnostics", "seconds", "peak_memory_mb"),
}

Difference = tuple[str, Any, Any]


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[Difference]]:
    """Return the paths in which two records differ, by part (a key of :data:`PARTS`), with both values.

    A value that a record does not have is :data:`ABSENT`.
    """
    return {part: list(_between(one, other, fields)) for part, fields in PARTS.items()}


def _between(one: Mapping[str, Any], other: Mapping[str, Any], fields: tuple[str, ...]) -> Iterator[Difference]:
    left = {path: value for name in fields for path, value in _flat(name, one.get(name))}
    right = {path: value for name in fields for path, value in _flat(name, other.get(name))}
    for path in sorted(left.keys() | right.keys()):
        before, after = left.get(path, ABSENT), right.get(path, ABSENT)
        if before != after:
            yield path.removeprefix("config."), before, after


def _flat(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    """Yield every leaf with its path; members of a stack of defenses by their names."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _flat(f"{path}.{name}", value)
    elif isinstance(node, list) and node and all(isinstance(item, Mapping) and "name" in item for item in node):
        yield path, "+".join(item["name"] for item in node)
        for item in node:
            yield from _flat(f"{path}.{item['name']}", {name: item[name] for name in item if name != "name"})
    else:
        yield path, node


def show(console: Console, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Print a table for each part in which the two differ; numbers with their change."""
    console.print(f"A  {one['key'][:16]}\nB  {other['key'][:16]}", highlight=False)
    for part, found in differences(one, other).items():
        if not found:
            console.print(f"\nThe same {part}.", highlight=False)
            continue
        table = Table(title=part, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for head in ("", "A", "B", "B - A"):
            table.add_column(head, overflow="fold")
        for path, before, after in found:
            table.add_row(*map(Text, (visible(path), shown(before), shown(after), change(before, after))))
        console.print(table)


def shown(value: Any) -> str:
    """Return a value of a record in one line."""
    if value is ABSENT:
        return "–"
    if isinstance(value, str):
        return visible((value.splitlines() or [""])[-1])  # of a traceback the line that tells
    return f"{value:.6g}" if isinstance(value, float) else visible(str(value))


def change(before: Any, after: Any) -> str:
    """Return by how much a number changed; nothing for other values."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, after))
    return f"{after - before:+.4g}" if numbers else ""
