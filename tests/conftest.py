"""What every test needs: one thread, for a test machine is never idle, and a stderr that nobody closes."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

from absl import logging as absl_logging

# absl (behind dp-accounting) logs to what was stderr at its import and closes that when logging is configured anew,
# as Hydra does; under pytest it would close pytest's own capture file.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__
