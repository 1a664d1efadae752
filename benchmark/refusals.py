"""Why a threat and a defense do not meet, in words: for classes and for what is read from their sources alike."""

from __future__ import annotations

from collections.abc import Iterable


def untouched(
    threat: str, setting: str, surface: str, acting: Iterable[str], defense: str, hooks: Iterable[str]
) -> str:
    """None of the ``hooks`` that ``defense`` overrides is ``acting`` on the surface that ``threat`` attacks."""
    return (
        f"{threat} attacks the surface {surface!r} of {setting}, on which only defenses with "
        f"{', '.join(sorted(acting))} act; {defense} changes {', '.join(sorted(hooks)) or 'nothing'}."
    )
