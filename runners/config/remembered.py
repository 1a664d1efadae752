"""Answers that stay valid as long as the suite's sources do not change, kept in the user's cache folder.

Asking classes means to import them all, which loads torch and takes seconds. What they answer changes only with the
files of ``benchmark`` and ``conf`` and with the optional libraries that are installed, so an answer is kept with the
paths, sizes and times of change of these files and with the releases of the libraries.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmark.libraries import LIBRARIES

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (
    "benchmark",
    *(f"conf/{group}" for group in ("dataset", "model", "setting", "threat", "defense")),
    "runners/config",
)


def remembered(name: str, ask: Callable[[], Any]) -> Any:
    """Return the kept answer called ``name`` (plain data); without one, call ``ask`` and keep its answer."""
    answer = recall(name)
    return keep(name, ask()) if answer is None else answer


def recall(name: str) -> Any:
    """Return the kept answer called ``name``, or None where there is none or the sources changed since."""
    sources = state()
    for path in _paths(name):
        with suppress(OSError, ValueError, KeyError, TypeError):
            if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
                continue  # somebody else's answer, in a temporary folder that all may write
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["sources"] == sources:
                return kept["answer"]
    return None


def keep(name: str, answer: Any) -> Any:
    """Keep ``answer`` (plain data) under ``name`` and return it as it will be read again."""
    text = json.dumps({"sources": state(), "answer": answer})
    for path in _paths(name):
        with suppress(OSError):
            _write(path, text)
            break
    return json.loads(text)["answer"]


def folders() -> list[Path]:
    """Return where answers may be kept, best first: the user's cache folder, then the temporary one."""
    found = []
    with suppress(RuntimeError):  # a user without a home
        found.append(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gauntlet")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return [*found, Path(tempfile.gettempdir()) / f"gauntlet-{user}"]


def state() -> str:
    """Return a digest of all that an answer depends on: Python and YAML files, and releases of optional libraries."""
    lines = sorted(f"{path} {size} {changed}" for folder in FOLDERS for path, size, changed in _files(ROOT / folder))
    lines += [f"{library.distribution} {library.version()}" for library in LIBRARIES]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _files(folder: Path | str) -> Iterator[tuple[str, int, int]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            elif entry.name.endswith((".py", ".yaml")):
                stat = entry.stat()
                yield entry.path, stat.st_size, stat.st_mtime_ns


def _paths(name: str) -> list[Path]:
    return [folder / f"{name}-{_checkout()}.json" for folder in folders()]


def _checkout() -> str:
    """Return a name for this copy of the suite, so that two copies do not forget each other's answers."""
    return hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(text)
    os.replace(file.name, path)
