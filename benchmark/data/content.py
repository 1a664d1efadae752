"""Where data that a user brings lie, and a digest of what they hold, whatever they are called.

Nothing here needs torch: a plan names its cells by these digests.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from benchmark.errors import DataMissing


def located(path: str, root: Path | None) -> Path | None:
    """Return the absolute place of a file or folder that a user named, or None where there is none.

    Args:
        path: absolute or from the home (``~``), else relative to where the command is typed or, if nothing lies there,
            to the data root.
        root: the data root, if the user named one.
    """
    try:
        given = Path(path).expanduser()
        for place in (given, *([root / given] if root is not None else [])):
            if path.strip() and place.exists():
                return place.absolute()
    except (OSError, ValueError, RuntimeError):  # a name that is too long, a null byte, a user without a home
        return None
    return None


def content_digest(place: Path) -> str:
    """Return SHA-256 over the bytes of a file, or over names and bytes of all files below a folder; 64 hex digits.

    The name of the file or folder itself does not count, so what was moved or renamed keeps its digest. Files and
    folders whose names begin with a dot are left out. A digest is kept as long as size and time of change stay.

    Raises:
        DataMissing: a file cannot be read.
    """
    try:
        if place.is_dir():
            return _of_folder(place)
        if not place.is_file():
            raise DataMissing(f"{place} is neither a file nor a folder.")
        return _of_file(place)
    except OSError as error:
        raise DataMissing(f"{error.filename or place} cannot be read: {error.strerror}.") from error


def _of_folder(folder: Path) -> str:
    state = hashlib.sha256()
    for name, file in sorted((file.relative_to(folder).as_posix(), file) for file in files_below(folder)):
        state.update(f"{name}\0{_of_file(file)}\n".encode(errors="surrogateescape"))
    return state.hexdigest()


def files_below(folder: Path) -> list[Path]:
    """Return all regular files below a folder, without what begins with a dot.

    Raises:
        OSError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    found: list[Path] = []
    for place, inner, names in os.walk(folder, onerror=refuse):
        inner[:] = [name for name in inner if not name.startswith(".")]
        files = (Path(place, name) for name in names if not name.startswith("."))
        found += [file for file in files if file.is_file()]
    return found


def _of_file(file: Path) -> str:
    state = file.stat()
    return _sha256(file, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=65536)
def _sha256(file: Path, changed: int, size: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def first_line(error: BaseException) -> str:
    """Return how a library tells an error, as the end of a sentence: one line of at most 200 visible characters."""
    line = (str(error).strip().splitlines() or ["no reason given"])[0]
    return visible(line)[:200].rstrip(". ")


def visible(text: object) -> str:
    """Return a text of a stranger's file with question marks for what a terminal would obey rather than show."""
    return "".join(sign if sign.isprintable() else "?" for sign in str(text))


def memory() -> int:
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def refuse_huge(place: Path | str, size: int) -> None:
    """Refuse data that would take more than half of this machine's memory.

    Args:
        size: bytes of the data when they are read.

    Raises:
        DataMissing: they would.
    """
    if size > memory() / 2:
        raise DataMissing(
            f"{place} would take {size / 1e9:.1f} GB in memory, more than half of what this machine has; make it "
            "smaller, e.g. with fewer samples."
        )
