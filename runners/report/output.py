"""Generated files in a folder that may also hold files of others: only files written before are deleted.

The names of the written files stand in ``.written.json`` beside them. The next run deletes those of them that it does
not write again. It deletes regular files alone and follows no symbolic link.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from runners.store.gate import LARGEST, is_inside, parse, read_file
from runners.store.records import StoreError, write_atomically

MANIFEST = ".written.json"


def write(folder: Path, files: Mapping[str, str | bytes | Path]) -> list[Path]:
    """Write ``files`` (path relative to ``folder`` -> content), delete the stale ones, and return the paths.

    A path as content stands for a file to copy. A file that holds the content already is left alone, and none is ever
    seen half-written.

    Raises:
        StoreError: a folder in ``folder`` is a link.
    """
    for name in sorted(files):
        if not is_inside(folder, (folder / name).parent / "x"):
            raise StoreError(f"{folder / name} is not written: a folder on the way is a link.")
    for name in sorted(_written_before(folder) - set(files)):
        if _is_own_file(folder, name):
            (folder / name).unlink()
    for name, content in files.items():
        if isinstance(content, Path):
            _copy(content, folder / name)
        else:
            write_one(folder / name, content.encode() if isinstance(content, str) else content)
    listed = json.dumps(sorted(files), indent=0, ensure_ascii=False) + "\n"
    write_one(folder / MANIFEST, listed.encode())
    return [folder / name for name in files]


def own_folder(store: Path, name: str) -> Path:
    """Return the folder ``name`` of ``store``.

    Raises:
        StoreError: it is a link, behind which there may be files of somebody else.
    """
    folder = store / name
    if not is_inside(store, folder):
        raise StoreError(f"{folder} is a link, so nothing is written there; delete the link, or give another store.")
    return folder


def write_one(path: Path, content: bytes) -> None:
    """Make ``path`` hold ``content``; a file that already does is left alone."""
    try:
        if not path.is_symlink() and path.read_bytes() == content:
            return
    except OSError:
        pass
    write_atomically(path, content)


def _copy(source: Path, path: Path) -> None:
    """Copy ``source`` to ``path`` with its time; a copy of equal size and time is left alone."""
    new = source.stat()
    try:
        old = os.lstat(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    else:
        if stat.S_ISREG(old.st_mode) and (old.st_size, old.st_mtime_ns) == (new.st_size, new.st_mtime_ns):
            return
        path.unlink()
    shutil.copy2(source, path)


def _written_before(folder: Path) -> set[str]:
    """Return the names in the manifest, without those that would lead out of ``folder``."""
    try:
        names = parse(read_file(folder / MANIFEST, LARGEST))
    except (OSError, ValueError, StoreError):
        return set()
    if not isinstance(names, list):
        return set()
    return {name for name in names if isinstance(name, str) and _is_inside(PurePosixPath(name))}


def _is_inside(path: PurePosixPath) -> bool:
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _is_own_file(folder: Path, name: str) -> bool:
    """Return whether ``name`` is a regular file that is reached from ``folder`` without a symbolic link."""
    path = folder
    try:
        if stat.S_ISLNK(os.lstat(path).st_mode):
            return False
        for part in PurePosixPath(name).parts:
            path = path / part
            if stat.S_ISLNK(os.lstat(path).st_mode):
                return False
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):  # no name of a file at all
        return False
