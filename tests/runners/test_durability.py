"""Tests of writers killed with SIGKILL at random instants; ``test_sweep`` kills whole sweeps."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runners.config.identity import digest
from runners.store.records import Store
from tests.runners.conftest import ROOT, records
from tests.runners.synthetic import record

CONFIGS = [record(seed=number, threat_parameters={"text": "x" * 20000})["config"] for number in range(400)]
KEYS = sorted(map(digest, CONFIGS))

WRITER = """
import sys
from pathlib import Path
from runners.store.records import Record, Store
from tests.runners.synthetic import record
from tests.runners.test_durability import CONFIGS, digest
store = Store(Path(sys.argv[1]))
sound = {name: value for name, value in record().items() if name not in ("key", "config", "seed")}
print("begun", flush=True)
for config in CONFIGS:
    key = digest(config)
    with store.claim(key):
        if not store.finished(key):
            store.write(Record(key=key, config=config, seed=config["seed"], **sound))
"""


def writer(store: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, store], cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("pairs", [pytest.param(3, marks=pytest.mark.ci), pytest.param(10, marks=pytest.mark.slow)])
def test_writers_killed_at_random_instants_leave_whole_records_and_no_locks(pairs: int, tmp_path: Path) -> None:
    chance, store, before = random.Random(0), Store(tmp_path), {}
    for _ in range(pairs):
        pair = [writer(tmp_path), writer(tmp_path)]  # on one store at once
        for process in pair:
            assert process.stdout and process.stdout.readline() == "begun\n"
        time.sleep(chance.random() * 0.05)
        for process in pair:
            process.kill()
            process.communicate()
        assert {record["config"]["threat"]["text"] for record in records(tmp_path)} <= {"x" * 20000}, "each is whole"
        now = {record["key"]: store.stamp(record["key"]) for record in records(tmp_path)}
        assert {key: now[key] for key in before} == before, "none is written twice"
        before = now
    last = writer(tmp_path)
    last.communicate()
    assert last.returncode == 0
    assert [record["key"] for record in records(tmp_path)] == KEYS
    assert {key: store.stamp(key) for key in before} == before
