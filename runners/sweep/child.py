"""Processes that call functions for this one: they can be killed at any moment, and none outlives its parent.

A call is pickled and sent over a pipe; what it returns comes back the same way. A function may send notes meanwhile.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle

BOOT = (
    "import json, os, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "from runners.sweep.worker_lifetime import end_with; end_with(int(sys.argv[2])); "
    "from runners.sweep.child import serve; serve(int(sys.argv[1]))"
)
"""Before anything heavy is imported, the process ties its life to that of its parent."""
READY, NOTE, RETURNED, RAISED = "ready", "note", "returned", "raised"
END_SECONDS = 90.0  # a child that has played its last cell may have to wait for its logger

Note = Callable[[Any], None]


class ChildDied(Exception):
    """A child ended in the middle of its work; the message says how."""


class Child:
    """One process. Its first message is ``ready``; then it takes one call at a time.

    Attributes:
        line: this end of the pipe, to wait on.
    """

    def __init__(self) -> None:
        self.line, theirs = Pipe()
        arguments = [str(theirs.fileno()), str(os.getpid()), json.dumps(sys.path)]
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - our own Python, no shell
                [sys.executable, "-c", BOOT, *arguments], pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL
            )

    def send(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have ``function(*arguments, note)`` called, where ``note(value)`` sends a message of kind ``note``.

        Raises:
            ChildDied: there is nobody to call it.
        """
        try:
            self.line.send_bytes(cloudpickle.dumps((function, arguments)))
        except OSError as error:
            raise self._died() from error

    def receive(self, timeout: float | None = None) -> tuple[str, Any] | None:
        """Return the next message (kind, value), or None after ``timeout`` seconds without one.

        Raises:
            ChildDied: it will not send any more.
        """
        try:
            if not self.line.poll(timeout):
                return None
            kind, value = pickle.loads(self.line.recv_bytes())  # noqa: S301 - the other end of the pipe is our own process
        except (OSError, EOFError) as error:
            raise self._died() from error
        return kind, value

    def end(self) -> None:
        """Let the process end by itself, which it does when nobody is left at this end of the pipe."""
        self.line.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process at once."""
        self.line.close()
        self.process.kill()
        self.process.wait()

    def _died(self) -> ChildDied:
        self.kill()  # it may live on, deaf
        code = self.process.returncode
        with suppress(ValueError):
            return ChildDied(f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}")
        return ChildDied(f"ended by signal {-code}")


def serve(descriptor: int) -> None:
    """Take calls from the pipe ``descriptor`` until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; what it means, the parent decides
    line = Connection(descriptor)
    _send(line, READY, None)
    while True:
        try:
            function, arguments = pickle.loads(line.recv_bytes())  # noqa: S301 - the other end of the pipe is our own process
        except EOFError:
            return
        try:
            kind, value = RETURNED, function(*arguments, lambda value: _send(line, NOTE, value))
        except Exception as error:
            kind, value = RAISED, error
        _send(line, kind, value)


def _send(line: Connection, kind: str, value: Any) -> None:
    try:
        content = cloudpickle.dumps((kind, value))
        pickle.loads(content)  # noqa: S301 - pickled a line above; an exception with arguments of its own may be pickled and not be read again
    except Exception:
        content = pickle.dumps((kind, RuntimeError(f"{type(value).__name__}: {value}")))
    line.send_bytes(content)
