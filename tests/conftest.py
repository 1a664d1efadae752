"""Setup of every test: one thread (test machines are shared), a stderr that nobody closes, checked shapes."""

from __future__ import annotations

import gc
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GAUNTLET_TEST_RUN", str(os.getpid()))  # this process is the first; its workers inherit it

import pytest
from absl import logging as absl_logging
from jaxtyping import install_import_hook

import tests.shapes  # noqa: F401, the hook finds its checker here

# absl (behind dp-accounting) logs to what was stderr at its import and closes that when logging is configured anew,
# as Hydra does; under pytest it would close pytest's own capture file.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__

# Shapes and types in the signatures of these packages are checked at every call. A module that was imported before
# this line would go unchecked.
install_import_hook(["benchmark.settings", "benchmark.metrics"], "tests.shapes.checked")


def pytest_collection_finish() -> None:
    """Leave what is loaded out of the garbage collector's rounds, which are a tenth of the tests' time otherwise."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Delete the compositions that the workers shared, once all of them are done."""
    gc.unfreeze()  # what stays frozen at the exit is reported as leaked by libraries
    if os.environ["GAUNTLET_TEST_RUN"] == str(os.getpid()):
        from tests import options  # not before the hook above

        options.forget()
