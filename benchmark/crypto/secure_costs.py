"""Costs of collaborative learning inside multi-party computation, measured with a real engine.

The engine is SPU with ABY3 (three parties, semi-honest: the class of protocols of SafeNet's three-party experiments).
It runs in a subprocess, under the interpreter that the environment variable ``GAUNTLET_MPC_PYTHON`` names or else this
one: its wheels pin older libraries than the suite uses. Parties are threads of that process, so seconds are those of
computing and copying, without a network; the time on a network is modelled and labelled so.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

WORKER = Path(__file__).with_name("spu_worker.py")
SECURITY = "3 parties, semi-honest, one may be corrupted"
LINK = re.compile(r"Link details: total send bytes (\d+), .*?send actions (\d+)")
NETWORKS = {"lan": (0.0005, 1e9 / 8), "wan": (0.04, 1e8 / 8)}
"""Name -> (round trip in seconds, bytes per second)."""
FEW_STEPS, MORE_STEPS = 5, 10
"""Measured training steps: their ratio shows whether the cost is linear."""
BATCH_SIZE = 100
"""Inputs of one measured prediction."""


@dataclass(frozen=True)
class Cost:
    """Cost of one job.

    Attributes:
        seconds: wall time.
        bytes_sent, messages: of all parties together.
        rounds: largest number of messages that one party sent, which bounds the rounds of the protocol.
        difference: largest deviation from the result in the clear.
    """

    seconds: float
    bytes_sent: float
    messages: float
    rounds: float
    difference: float

    def times(self, factor: float) -> Cost:
        """Return the cost of ``factor`` such jobs."""
        return Cost(
            factor * self.seconds,
            factor * self.bytes_sent,
            factor * self.messages,
            factor * self.rounds,
            self.difference,
        )

    def modelled(self, network: str) -> float:
        """Return modelled seconds on a network: computing + rounds x round trip + one party's bytes / bandwidth."""
        round_trip, bandwidth = NETWORKS[network]
        return self.seconds + self.rounds * round_trip + self.bytes_sent / 3 / bandwidth


class Unavailable(RuntimeError):
    """Error: there is no engine, or it cannot run this job; the message gives the reason."""


def widths(module: nn.Module) -> list[int]:
    """Return inputs, hidden widths and classes of a fully connected network with ReLU.

    Raises:
        Unavailable: it has other layers.
    """
    found: list[int] = []
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            found = [*(found or [layer.in_features]), layer.out_features]
        elif not list(layer.children()) and not isinstance(layer, (nn.Flatten, nn.ReLU, nn.Sequential)):
            raise Unavailable(
                f"costs are measured for fully connected networks with ReLU only, not {type(layer).__name__}"
            )
    return found


def measure(jobs: Sequence[dict[str, Any]]) -> tuple[str, str, list[Cost]]:
    """Return engine, protocol and the cost of each job, by ``spu_worker.py``.

    Raises:
        Unavailable: the engine is not installed, or failed.
    """
    python = os.environ.get("GAUNTLET_MPC_PYTHON") or sys.executable
    request = json.dumps({"jobs": list(jobs)})
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    try:
        done = subprocess.run(  # noqa: S603 - our own worker, no shell
            [python, str(WORKER)], input=request, capture_output=True, text=True, env=environment, check=False
        )
    except OSError as error:
        raise Unavailable(f"GAUNTLET_MPC_PYTHON names no interpreter: {error}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        if "No module named 'spu'" in lines[-1] or "No module named 'jax'" in lines[-1]:
            raise Unavailable(
                "the engine is not installed: pip install spu, and name its python in GAUNTLET_MPC_PYTHON"
            )
        raise Unavailable(f"the engine failed: {lines[-1]}")
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    costs = []
    for number, answers in enumerate(answer["jobs"]):
        log = done.stdout.split(f"job {number} begins")[1].split(f"job {number} ends")[0]
        sent = [(int(size), int(actions)) for size, actions in LINK.findall(log)]
        if not sent:
            raise Unavailable("the engine reported no traffic")
        sizes, actions = zip(*sent, strict=True)
        costs.append(Cost(answers["seconds"], sum(sizes), sum(actions), max(actions), answers["largest_difference"]))
    return answer["engine"], answer["protocol"], costs


def ensemble_costs(module: nn.Module, *, owners: int, validation: int, threshold: float) -> dict[str, float | str]:
    """Return measured costs of SafeNet: validation of all models once, and the vote for every prediction."""
    shape: dict[str, Any] = {"widths": widths(module), "owners": owners}
    jobs = [
        {"kind": "validate", **shape, "rows": validation, "threshold": threshold},
        {"kind": "vote", **shape, "rows": BATCH_SIZE},
    ]
    engine, protocol, (filtering, vote) = measure(jobs)
    return {
        **_engine_columns(engine, protocol, "no: measured"),
        **_cost_columns("training", filtering),
        **_cost_columns("prediction", vote),
    }


def pooled_costs(module: nn.Module, *, batch_size: int, steps: int, lr: float) -> dict[str, float | str]:
    """Return the costs of training inside, extrapolated from a few measured steps, and of prediction, measured."""
    shape: dict[str, Any] = {"widths": widths(module)}
    train = {"kind": "train", **shape, "rows": batch_size, "lr": lr}
    jobs = [
        {**train, "steps": FEW_STEPS},
        {**train, "steps": MORE_STEPS},
        {"kind": "predict", **shape, "rows": BATCH_SIZE},
    ]
    engine, protocol, (few, more, prediction) = measure(jobs)
    whole = more.times(steps / MORE_STEPS)
    about = _engine_columns(engine, protocol, f"yes: {MORE_STEPS} steps of {steps} measured")
    linear = {
        f"mpc_{what}_of_{MORE_STEPS}_steps_over_{FEW_STEPS}": getattr(more, what) / getattr(few, what)
        for what in ("seconds", "bytes_sent", "messages")
    }
    return {**about, **_cost_columns("training", whole), **_cost_columns("prediction", prediction), **linear}


def _engine_columns(engine: str, protocol: str, extrapolated: str) -> dict[str, float | str]:
    return {
        "mpc_engine": engine,
        "mpc_protocol": protocol,
        "mpc_security": SECURITY,
        "mpc_training_extrapolated": extrapolated,
        "mpc_prediction_batch": BATCH_SIZE,
    }


def _cost_columns(phase: str, cost: Cost) -> dict[str, float | str]:
    return {
        f"mpc_{phase}_seconds": cost.seconds,
        f"mpc_{phase}_bytes_sent": cost.bytes_sent,
        f"mpc_{phase}_messages": cost.messages,
        f"mpc_{phase}_difference": cost.difference,
        **{f"mpc_{phase}_seconds_modelled_{network}": cost.modelled(network) for network in NETWORKS},
    }
