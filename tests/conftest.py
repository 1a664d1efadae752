"""What every test needs: one thread, for a test machine is never idle."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
