"""Costs inside multi-party computation: what is asked of the engine, what is told, and the engine itself if present."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from torch import nn

from benchmark.crypto import secure_costs
from benchmark.crypto.secure_costs import Cost, Unavailable, ensemble_costs, measure, pooled_costs, widths
from benchmark.models.mlp import MLP
from benchmark.threats.poisoning.badnets import BadNets
from benchmark.training.functional import Net
from tests.benchmark.defenses.test_safenet import BACKDOOR, architecture, safenet
from tests.benchmark.helpers import TinyNet, collaboration, context

NET = MLP(shape=(1, 2, 2), num_classes=3, hidden=[5], activation="relu")


@pytest.fixture
def engine(monkeypatch):
    """Return an engine that answers at once: job k sends k + 1 kilobytes from each of three parties."""
    asked = []

    def answer(line, *, input, **options):
        asked.extend(json.loads(input)["jobs"])
        log = ""
        for number in range(len(asked)):
            sent = "\n".join(
                f"Link details: total send bytes {1000 * (number + 1)}, recv bytes 1, send actions {10 + rank}, recv"
                for rank in range(3)
            )
            log += f"job {number} begins\n{sent}\njob {number} ends\n"
        told = [{"seconds": 2.0 * (number + 1), "largest_difference": 0.0} for number in range(len(asked))]
        log += json.dumps({"engine": "fake 1", "protocol": "none", "jobs": told})
        return subprocess.CompletedProcess(line, 0, stdout=log, stderr="")

    monkeypatch.setattr(secure_costs.subprocess, "run", answer)
    return asked


def test_widths_of_a_network():
    assert widths(NET) == [4, 5, 3]
    assert widths(nn.Linear(7, 2)) == [7, 2]
    with pytest.raises(Unavailable, match="not Conv2d"):
        widths(TinyNet())


def test_an_ensemble_is_validated_once_and_votes(engine):
    told = ensemble_costs(NET, owners=20, validation=400, threshold=0.3)
    assert [job["kind"] for job in engine] == ["validate", "vote"]
    assert engine[0] == {"kind": "validate", "widths": [4, 5, 3], "owners": 20, "rows": 400, "threshold": 0.3}
    assert (told["mpc_training_seconds"], told["mpc_training_bytes_sent"], told["mpc_training_messages"]) == (
        2,
        3000,
        33,
    )
    assert told["mpc_prediction_bytes_sent"] == 6000 and told["mpc_engine"] == "fake 1"
    assert told["mpc_training_extrapolated"].startswith("no")


def test_pooled_training_is_extrapolated_and_says_so(engine):
    told = pooled_costs(NET, batch_size=32, steps=500, lr=0.01)
    assert [job.get("steps") for job in engine] == [5, 10, None]
    assert told["mpc_training_seconds"] == 4.0 * 50 and told["mpc_training_bytes_sent"] == 6000 * 50
    assert told["mpc_training_extrapolated"] == "yes: 10 steps of 500 measured"
    assert told["mpc_bytes_sent_of_10_steps_over_5"] == 2


def test_a_network_is_modelled_by_rounds_and_bandwidth():
    cost = Cost(seconds=1.0, bytes_sent=3e8, messages=300, rounds=100, difference=0.0)
    assert cost.modelled("lan") == pytest.approx(1 + 100 * 0.0005 + 0.8)
    assert cost.modelled("wan") == pytest.approx(1 + 100 * 0.04 + 8)
    assert replace(cost, seconds=2.0) == Cost(2.0, 3e8, 300, 100, 0.0)


def test_a_cell_tells_its_measured_costs_apart(engine):
    outcome = collaboration(parties=8).play(context(BadNets(**BACKDOOR), safenet(mpc=True), architecture=architecture))
    assert outcome.cost["mpc_training_bytes_sent"] == 3000
    assert outcome.diagnostics["mpc_engine"] == "fake 1"
    assert "mpc_training_seconds_modelled_wan" in outcome.diagnostics, "a model is no measurement"


def test_without_an_engine_the_cell_says_why(monkeypatch):
    monkeypatch.setenv("GAUNTLET_MPC_PYTHON", "/no/such/python")
    play = context(BadNets(**BACKDOOR), safenet(mpc=True), architecture=architecture)
    outcome = collaboration(parties=8).play(play)
    assert outcome.diagnostics["mpc_skipped"].startswith("GAUNTLET_MPC_PYTHON names no interpreter")
    assert set(outcome.cost) == {"seconds"}
    with pytest.raises(Unavailable, match="only, not Conv2d"):
        safenet(mpc=True).secure_costs(Net(TinyNet()), 100, 4)


@pytest.mark.crosscheck
def test_the_engine_computes_what_is_computed_in_the_clear():
    python = os.environ.get("GAUNTLET_MPC_PYTHON") or sys.executable
    if subprocess.run([python, "-c", "import spu"], capture_output=True, check=False).returncode:
        pytest.skip("spu is not installed; name a python that has it in GAUNTLET_MPC_PYTHON")
    shape = {"widths": [64, 16, 10], "owners": 5, "rows": 20, "threshold": 0.3}
    jobs = [{"kind": kind, **shape} for kind in ("validate", "vote", "predict")]
    jobs.append({"kind": "train", "widths": [64, 16, 10], "rows": 16, "steps": 3, "lr": 0.1})
    name, protocol, costs = measure(jobs)
    assert name.startswith("spu ") and protocol.startswith("ABY3")
    assert [cost.difference for cost in costs[:3]] == [0, 0, 0]
    assert costs[3].difference < 1e-2
    assert all(cost.bytes_sent > 1000 and cost.rounds > 10 and cost.seconds > 0 for cost in costs)
