"""Standard streams that no text of a record and no closed pipe can break."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PIPE_CLOSED = 141
"""Exit code of a program that writes to a pipe which nobody reads any more: 128 + SIGPIPE, as of every Unix tool."""
LOG_WIDTH = 120
"""Characters of a line where there is no terminal to ask."""


def prepare() -> None:
    """Have characters that the terminal cannot show written as escapes (``\\xb1``) instead of ending the command.

    A terminal may be plain ASCII (``LC_ALL=C``), and the name of a file need not be text in any encoding.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def quiet_pipe() -> Iterator[None]:
    """Exit with :data:`PIPE_CLOSED`, without a traceback, when the reader of standard output is gone (``| head``)."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer is flushed when Python ends, which must not fail again.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_CLOSED)


def console() -> Console:
    """Return a console as wide as the terminal, or of :data:`LOG_WIDTH` where there is none to ask."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
