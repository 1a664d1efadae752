"""Two tiers of one property, a command line in this process, and a folder in which nothing but the store may change."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy, tuples

from runners.cli import main as cli
from runners.store import gate

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.large_base_example]
settings.register_profile("short", derandomize=True, database=None, deadline=None, suppress_health_check=SLOW)
settings.register_profile("long", database=None, deadline=None, suppress_health_check=SLOW, print_blob=True)
CPU_SECONDS = 30.0
"""An example that calculates for longer hangs."""

both = pytest.mark.parametrize(
    "tier",
    ["short", pytest.param("long", marks=[pytest.mark.fuzz, pytest.mark.timeout(3600)])],
)
"""Gives a test its ``tier``: the short one is part of the default tests, the long one has the marker ``fuzz``."""


def hold(tier: str, examples: tuple[int, int], prop: Callable[..., None], *strategies: SearchStrategy[Any]) -> None:
    """Call ``prop`` with what ``strategies`` draw, as many times as the tier has ``examples``: (short, long)."""

    def limited(drawn: tuple[Any, ...]) -> None:
        with within(CPU_SECONDS):
            prop(*drawn)

    count = examples[0] if tier == "short" else examples[1]
    settings(settings.get_profile(tier), max_examples=count)(given(tuples(*strategies))(limited))()


class Hung(BaseException):
    """An example took too long. No exception that the suite could catch by mistake."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise Hung when the block has calculated for ``seconds``."""

    def stop(*_: object) -> None:
        raise Hung(f"it calculated for more than {seconds:g} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@dataclass(frozen=True)
class Sandbox:
    """Temporary folder with a store, the working directory, and files of somebody else.

    Attributes:
        root: holds all of it.
        store: the only folder that a command may write to.
    """

    root: Path
    store: Path

    def files(self) -> dict[str, tuple[int, ...]]:
        """Return mode, size and time of change of all that lies outside the store, by path; links are not followed."""
        return {path: state for path, state in snapshot(self.root).items() if not self._stored(path)}

    def _stored(self, path: str) -> bool:
        return path in (str(self.root), str(self.store)) or path.startswith(f"{self.store}{os.sep}")

    @contextlib.contextmanager
    def untouched(self) -> Iterator[None]:
        """Fail if the block leaves anything outside the store changed, added or deleted."""
        before = self.files()
        yield
        assert self.files() == before


def snapshot(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return mode, size and time of change of ``folder`` and of everything in it, by path."""
    found = {}
    for within_, folders, files in os.walk(folder):
        for path in [within_, *(os.path.join(within_, name) for name in (*folders, *files))]:
            state = os.lstat(path)
            found[path] = (state.st_mode, state.st_size, state.st_mtime_ns)
    return found


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Return a sandbox whose folder ``here`` is the working directory."""
    for name in ("store/records", "here", "mine/records/ab", "data"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "mine/thesis.txt").write_text("mine")
    (tmp_path / "mine/records/ab/notes.json").write_text("[]")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("COLUMNS", "200")
    gate.forget()
    yield Sandbox(tmp_path, tmp_path / "store")
    gate.forget()


def quietly(application: Callable[[], Any]) -> tuple[int, str]:
    """Run ``application`` and return its exit code and what it told on stderr; warnings are only told, as to a user.

    Fails where the code is another than 0, 1 or 2, or where the user is shown a traceback.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            code = application()
        except SystemExit as stop:
            code = stop.code or 0
    told = err.getvalue()
    assert code in (0, 1, 2), f"exit code {code}: {told}"
    assert "Traceback (most recent call last)" not in told, told
    assert code == 0 or told.strip() or out.getvalue().strip(), "a refusal without a word"
    return int(code), told


def gauntlet(*words: str | Path) -> tuple[int, str]:
    """Run ``gauntlet WORDS`` in this process; see :func:`quietly`."""
    before, sys.argv = sys.argv, ["gauntlet", *map(str, words)]
    try:
        return quietly(cli.main)
    finally:
        sys.argv = before


def said(error: Exception, *, plain: bool = False) -> None:
    """Fail where a refusal has no words, or, of ``plain`` ones, any that a terminal would obey."""
    assert str(error).strip()
    assert not plain or str(error).isprintable()
