"""A session on a lent machine: steps as child processes, each within its share of the time that is left.

This process imports nothing but the standard library and the suite's names, so that it also begins where the suite's
requirements are still wheels in the carried folder. What a step has finished is kept in ``state.json``; the next call
goes on from there. A child that runs out of time is ended with its process group; the store of records loses nothing.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runners.bench import HOT_PATHS

ROOT = Path(__file__).resolve().parents[2]
QUEUE, DATA, WHEELS, SITE = "queue.json", "data.tar.xz", "wheels", "site"
STATE, STORE, PACKED, RESULTS = "state.json", "store", "packed", "device.tar.gz"
STEPS = ("tests", "bench", "choose", "cells")
SHARES = {"tests": 0.2, "bench": 0.2, "choose": 0.5}
"""Most of the time left that a step may take before the cells get the rest."""
RESERVE, RESERVED_SHARE = 15.0, 0.15
"""Seconds, and share of the whole time, that are kept for packing; the larger counts."""
OUTCOMES = ("PASSED", "FAILED", "ERROR", "SKIPPED")
ENDED = re.compile(rf"(?P<test>tests/.*?::.*?)?\s*(?P<outcome>{'|'.join(OUTCOMES)})( \(.*\))?\s+\[ *\d+%\]")
WAITS = re.compile(r"(?P<work>[\w -]+): (?P<kernels>\d+) kernels, (?P<waits>[\d.]+) waits")


@dataclass
class Session:
    """One call of ``make device``.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        minutes: until the call ends.
        into: folder of what is found, kept between calls.
        carried: folder of the queue, data and wheels, as far as there are some.
        data: folder of all data sets, if they lie on this machine.
        jobs: cells at a time.
        steps: of ``STEPS``, those to do.
    """

    device: str
    minutes: float
    into: Path
    carried: Path
    data: Path | None
    jobs: int = 1
    steps: Sequence[str] = STEPS
    state: dict[str, Any] = field(default_factory=dict)

    def run(self) -> int:
        """Do what is left to do; return 1 if a test failed."""
        self.end = time.monotonic() + 60 * self.minutes
        self.reserve = max(RESERVE, RESERVED_SHARE * 60 * self.minutes)
        self.into, self.carried = self.into.resolve(), self.carried.resolve()
        self.into.mkdir(parents=True, exist_ok=True)
        if (kept := self.into / STATE).exists():
            self.state = json.loads(kept.read_text())
        self.prepare()
        for step in STEPS:
            if step in self.steps:
                getattr(self, step)()
                self.keep()
        self.pack()
        return self.report()

    @property
    def left(self) -> float:
        """Return the seconds that steps may still take."""
        return self.end - self.reserve - time.monotonic()

    def keep(self) -> None:
        (self.into / STATE).write_text(json.dumps(self.state, indent=1) + "\n")

    # -- steps ---------------------------------------------------------------------------------------------------------
    def prepare(self) -> None:
        """Install carried wheels and unpack carried data, once."""
        site, unpacked = self.into / SITE, self.into / "data"
        wheels = sorted((self.carried / WHEELS).glob("*.whl"))
        if wheels and not site.exists():
            line = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site)]
            self.child("wheels", [*line, *map(str, wheels)], self.left)
        if (archive := self.carried / DATA).exists():
            if not unpacked.exists():
                with tarfile.open(archive) as tar:
                    tar.extractall(unpacked, filter="data")
            self.data = unpacked

    def tests(self) -> None:
        """Run the tests for a GPU there, and on a CPU those on a pretended device, but for what passed before."""
        found: dict[str, Any] = self.state.setdefault("tests", {"outcomes": {}, "waits": {}, "complete": False})
        if found["complete"]:
            return
        passed = [f"--deselect={name}" for name, outcome in found["outcomes"].items() if outcome != "FAILED"]
        mark = ["-m", "gpu"] if self.device.startswith("cuda") else []
        line = ["-m", "pytest", "-v", "-p", "no:cacheprovider", *mark, "tests/accelerator", *passed]
        code = self.child("tests", line, SHARES["tests"] * self.left)
        outcomes, waits = read_tests((self.into / "tests.log").read_text(errors="replace"))
        found["outcomes"] |= outcomes
        found["waits"] |= waits
        found["complete"] = code in (0, 1)  # of pytest: all passed, or some failed

    def bench(self) -> None:
        """Time the hot paths that no earlier call has timed."""
        done: dict[str, Any] = self.state.setdefault("bench", {})
        if names := [name for name in HOT_PATHS if name not in done]:
            line = ["-m", "runners.cli.main", "bench", *names, "--store", str(self.into), "--device", self.device]
            (self.into / "bench.json").unlink(missing_ok=True)
            self.child("bench", line, SHARES["bench"] * self.left)
            if (written := self.into / "bench.json").exists():
                told = json.loads(written.read_text())
                done |= {path["path"]: path | {"machine": told["machine"]} for path in told["paths"]}

    def choose(self) -> None:
        """Choose the cells here if no queue was carried."""
        if not (self.carried / QUEUE).exists() and not self.state.get("chosen"):
            line = ["-m", "runners.device", "pack", "--carried", str(self.into), "--megabytes", "0"]
            self.state["chosen"] = self.child("choose", line, SHARES["choose"] * self.left) == 0

    def cells(self) -> None:
        """Play cells of the queue until the time is over."""
        queue = next((path for path in (self.carried / QUEUE, self.into / QUEUE) if path.exists()), None)
        if queue is None or self.left <= 0:
            return
        overrides = [f"store={self.into / STORE}", f"device={self.device}"]  # the data root is in the environment
        line = ["-m", "runners.device.player", str(queue), str(self.left)]
        children = [
            self.start(f"cells-{part}", [*line, str(part), str(self.jobs), *overrides]) for part in range(self.jobs)
        ]
        for child in children:
            finish(child, self.left)

    def pack(self) -> None:
        """Pack the finished records, and put all that was found into one file."""
        if (self.into / STORE / "records").exists():
            line = ["-m", "runners.cli.main", "pack", str(self.into / STORE), "--into", str(self.into / PACKED)]
            self.child("pack", line, max(RESERVE, self.end - time.monotonic()))
        with tarfile.open(self.into / RESULTS, "w:gz") as tar:
            for name in (STATE, PACKED, STORE):
                if (self.into / name).exists():
                    tar.add(
                        self.into / name, arcname=name, filter=lambda entry: None if "/cache" in entry.name else entry
                    )

    def report(self) -> int:
        """Print what was found by this call and those before it; return 1 if a test failed."""
        tests = self.state.get("tests", {"outcomes": {}, "waits": {}, "complete": False})
        outcomes = list(tests["outcomes"].values())
        counts = {kind.lower(): outcomes.count(kind) for kind in OUTCOMES if kind in outcomes}
        complete = "all" if tests["complete"] else "not all"
        print(f"tests     {complete} ran: {', '.join(f'{count} {kind}' for kind, count in counts.items()) or 'none'}")
        for work, (kernels, waits) in tests["waits"].items():
            print(f"waits     {work}: {kernels} kernels, {waits} waits")
        for name, path in self.state.get("bench", {}).items():
            # A job without a plain form has only its own seconds where no peer is installed.
            lead = path.get("plain_over_fast")
            told = f"plain {lead:.2f}x" if lead else f"{path['fast_seconds']:.2f} s"
            print(f"bench     {name}: {told} on {path['machine']['device']}")
        for log in sorted(self.into.glob("cells-*.log")):
            print("".join(f"cells     {line}\n" for line in log.read_text(errors="replace").splitlines()), end="")
        print(f"results   {self.into / RESULTS}; unpacked, `gauntlet merge {PACKED}` takes its records")
        return int("FAILED" in outcomes or "ERROR" in outcomes)

    # -- children ------------------------------------------------------------------------------------------------------
    def child(self, name: str, line: Sequence[str], seconds: float) -> int | None:
        """Run Python with ``line`` for at most ``seconds``; return its exit code, None if it was ended before."""
        print(f"{name}: at most {max(0.0, seconds):.0f} s", flush=True)
        if seconds <= 0:
            return None
        code = finish(self.start(name, line), seconds)
        if code:
            print(f"{name}: exit code {code}; see {self.into / name}.log", flush=True)
        return code

    def start(self, name: str, line: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.into / f"{name}.log").open("wb") as log:
            return subprocess.Popen(  # noqa: S603, the suite itself
                [sys.executable, *line],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                start_new_session=True,
            )

    def environment(self) -> Mapping[str, str]:
        """Return the environment of a child: the suite and the carried packages are found, and prints come at once."""
        path = [str(ROOT), str(self.into / SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
        data = {"GAUNTLET_DATA": str(self.data)} if self.data else {}
        fixed = {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        return os.environ | fixed | data


def finish(child: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Wait for ``child`` at most ``seconds`` and return its exit code; else end its process group and return None."""
    try:
        return child.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return None


def read_tests(log: str) -> tuple[dict[str, str], dict[str, tuple[int, float]]]:
    """Return the outcome of each test in a log of ``pytest -v``, and the waits that tests printed."""
    outcomes: dict[str, str] = {}
    waits: dict[str, tuple[int, float]] = {}
    test = ""
    for line in log.splitlines():
        if found := WAITS.search(line):
            waits[found["work"].strip()] = int(found["kernels"]), float(found["waits"])
        if found := ENDED.fullmatch(line.strip()):
            outcomes[(found["test"] or test).strip()] = found["outcome"]
        elif line.startswith("tests/") and "::" in line:
            test = line
    return outcomes, waits
