"""Where a store is, as a user names it, and whether it is one."""

from __future__ import annotations

import secrets
from pathlib import Path

from runners.store.errors import StoreError


def place(text: str) -> Path:
    """Return the folder of ``store=text``; ``~`` is the user's home.

    Raises:
        StoreError: ``text`` is empty.
    """
    if not text.strip():
        raise StoreError("The store is empty; give the path of a folder, e.g. store=outputs.")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise StoreError(f"The store {text!r} cannot be found: {error}.") from error


def existing(root: Path) -> Path:
    """Return ``root`` if it is a store.

    Raises:
        StoreError: it is none.
    """
    try:
        found = (root / "records").is_dir()
    except OSError as error:
        raise StoreError(f"{root} cannot be read as a store: {error.strerror}.") from error
    if not found:
        why = (
            "it has no folder records/"
            if root.is_dir()
            else "it is no folder"
            if root.exists()
            else "it does not exist"
        )
        raise StoreError(f"{root} is not a store: {why}. Give the folder that `store=` named when its cells were run.")
    return root


def writable(root: Path) -> Path:
    """Return ``root``, made if it does not exist, if records can be written there.

    Raises:
        StoreError: they cannot.
    """
    try:
        (root / "records").mkdir(parents=True, exist_ok=True)
        probe = root / "records" / f".probe-{secrets.token_hex(4)}"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise StoreError(
            f"The store {root} cannot be written: {error.strerror}; give another one with store=PATH."
        ) from error
    return root
