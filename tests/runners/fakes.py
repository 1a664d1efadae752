"""Components that cost nothing, for tests of ``runners``; their YAML files are in ``tests/runners/conf``."""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.data.base import Source, Split
from benchmark.errors import ConfigError, Diverged
from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext, Setting
from benchmark.settings.threat import Floor, Guess, Surface, Threat

VERSION = 1


def _gpu_is_full() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def _memory_is_full() -> None:
    raise MemoryError


def _allocate_too_much() -> None:
    torch.empty(1 << 50)


def _allocate_all() -> None:
    """Take memory in small pieces, up to a limit slightly above the memory of the process.

    The limit ends with the cell, because the C library keeps address space, which costs no memory.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 28), before[1]))
    kept = []
    try:
        while True:
            kept.append(torch.ones(1 << 18))
    finally:
        kept.clear()
        resource.setrlimit(resource.RLIMIT_AS, before)


ENDS: dict[str, Callable[[], None]] = {
    "die": lambda: os._exit(9),
    "fill_gpu": _gpu_is_full,
    "fill_memory": _memory_is_full,
    "allocate_too_much": _allocate_too_much,
    "allocate_all": _allocate_all,
}


class FakeData(Source):
    def __init__(self, *, sizes: Mapping[str, int | None]) -> None:
        super().__init__(sizes=sizes)

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        pool = Split(torch.rand((20, 1, 8, 8), generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2)
        return pool, pool, 2


class FakeModel(nn.Module):
    first_layer = "linear"

    def __init__(self, *, shape: tuple[int, ...], num_classes: int, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def fake_network(*, shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), num_classes))


class FakeSetting(Setting):
    """Setting that trains nothing, but asks the cache for an artifact that depends on the defense."""

    name = "collaboration"
    surfaces = {"uploads": frozenset({"protect"}), "inputs": frozenset({"screen_inputs"})}

    def play(self, context: CellContext) -> Outcome:
        key = ("victim", "dataset", "model", "setting", "defense", "scale")
        victim = context.cache(key, lambda: {"weights": torch.rand(3, generator=context.rng("victim"))})
        guess = context.threat(Surface(), seed=context.seed)
        outcome = Outcome(utility={"test_accuracy": victim["weights"].mean().item()}, risk=guess.diagnostics)
        outcome.picture("images", {"original": context.data.owner.x})
        return outcome


class FakeThreat(Threat):
    """Threat that sleeps, fails, diverges, gives NaN, refuses its parameters, takes all memory or dies, as told."""

    family, setting, surface, headline = "gradient_leakage", "collaboration", "uploads", "ssim"
    floor = Floor("ssim", 0.1)

    def __init__(self, *, does: str, sleep: float, risk: float, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        if risk < 0:
            raise ConfigError(f"threat.risk must not be negative, got {risk}.")
        self.does, self.sleep, self.risk = does, sleep, risk

    def surface_for(self, victim: dict[str, Tensor]) -> Surface:
        return Surface()

    def attack(self, surface: object, rng: torch.Generator) -> Guess:
        if "FAKE_LOG" in os.environ:  # one line a play, to count them over processes
            with open(os.environ["FAKE_LOG"], "a") as log:
                log.write("played\n")
        deadline = time.monotonic() + self.sleep
        while time.monotonic() < deadline:
            time.sleep(0.01)
        if self.does == "fail":
            raise ZeroDivisionError("told to fail")
        if self.does == "diverge":
            raise Diverged("told to diverge")
        if self.does in ENDS:
            ENDS[self.does]()
        risk = float("nan") if self.does == "lose" else (self.risk + torch.rand((), generator=rng).item()) / 2
        return Guess(diagnostics={"ssim": risk})


class FakeInputThreat(FakeThreat):
    """Threat on a surface that no gradient defense acts on."""

    surface = "inputs"
