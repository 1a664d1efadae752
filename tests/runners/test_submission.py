"""Tests of submissions: what belongs to one, what is missing, what is no submission, and numbers that do not return."""

from __future__ import annotations

import io
import json
import stat
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import GauntletError
from runners.cli import main as cli
from runners.cli import submission as commands
from runners.config.faces import Face
from runners.config.identity import digest
from runners.store import gate, submission
from runners.store.submission import BadSubmission, Brought
from runners.sweep.membership import Member
from tests.runners.synthetic import keyed, noise, record, store

FACE = Face("Leaks", "Who sees what?", 3, "ssim", "test_accuracy", "two", "Digits.")
MINE = {"name": "gradient_noise", "provider": "d", "version": 1, "std": 0.5}
BROUGHT = Brought(defense="gradient_noise")
SEEDS = (0, 1)

Files = dict[str, bytes]


def planned() -> list[dict[str, Any]]:
    """Return the configs of a board: two attacks and one of another setting undefended, one against two defenses."""
    cells = [record(threat, seed=seed) for threat in ("leakage_dlg", "leakage_idlg", "evasion_jsma") for seed in SEEDS]
    cells += [record(defense=defense, seed=seed) for defense in ("dp_sgd", "fedavg") for seed in SEEDS]
    return [cell["config"] for cell in cells]


def played() -> list[dict[str, Any]]:
    """Return records with the brought defense: all but one of two attacks, a failed one among them."""
    dlg = [record(defense=[MINE], seed=seed, risk=0.3) for seed in SEEDS]
    return [*dlg, record("leakage_idlg", [MINE], status="failed")]


@pytest.fixture(autouse=True)
def board(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the suite have one board, ``toy``."""
    cells = [Member(digest(config), config["seed"], config) for config in planned()]
    monkeypatch.setattr(commands, "faces", lambda: {"toy": FACE})
    monkeypatch.setattr(commands, "members", lambda name: cells)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Return ``call(*words)`` -> exit code and all that was printed."""

    def called(*words: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["gauntlet", *map(str, words)])
        code = cli.main()
        return code, "".join(capsys.readouterr())

    return called


def keys(records: Iterator[Any]) -> list[str]:
    return [one["key"] for one in records]


def test_a_record_belongs_if_it_differs_from_a_planned_cell_in_what_is_brought_alone() -> None:
    stack = record(defense=[{"name": "clip", "provider": "d", "version": 1}, noise(0.1)])
    strangers = [
        *(record(), record(defense="dp_sgd"), record(defense=[MINE], model="mlp"), record(defense=[MINE], seed=7)),
        *(record(defense=[MINE], setting={"parties": 3}), record("mine", [MINE])),
    ]
    assert keys(submission.belonging([*strangers, *played(), stack], BROUGHT, planned())) == [
        one["key"] for one in (*played(), stack)
    ]
    against = [record("mine", defense, seed=1) for defense in ("none", "dp_sgd", "krum")]
    both = Brought("gradient_noise", "mine")
    assert keys(submission.belonging(against, Brought(threat="mine"), planned())) == [one["key"] for one in against[:2]]
    assert strangers[-1]["key"] in keys(submission.belonging(strangers, both, planned()))


def test_what_is_missing_is_told_for_each_form() -> None:
    half = record(defense=[{**MINE, "std": 0.25}])
    lacking = submission.lacking([*played(), half], BROUGHT, planned())
    groups = {(group.threat, *group.seeds) for group in submission.grouped((config, None) for config in lacking)}
    assert len(lacking) == 2 * 6 - 4 and ("leakage_idlg", 1) in groups and ("leakage_dlg", 1) in groups
    mine = [record("mine"), record("mine", "dp_sgd")]
    cells = [(config["defense"][0]["name"], config["seed"]) for config in lacking_of_threat(mine)]
    assert sorted(cells) == [("dp_sgd", 1), ("fedavg", 0), ("fedavg", 1), ("none", 1)]


def lacking_of_threat(records: list[dict[str, Any]]) -> list[submission.Config]:
    return submission.lacking(records, Brought(threat="mine"), planned())


def manifest(**others: Any) -> submission.Manifest:
    brought = submission.components(played(), BROUGHT, lambda _: None)
    found: dict[str, Any] = {"board": "toy", "board_version": 3, "components": brought, "suite": "1", "cells": 3}
    rest: dict[str, Any] = {"failed": 1, "missing": [], "refused": [], "overrides": [], "commands": {}}
    return submission.Manifest(**{**found, **rest, **others})


def files(path: Path) -> Files:
    with zipfile.ZipFile(path) as whole:
        return {name: whole.read(name) for name in whole.namelist()}


def zipped(content: Files) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in content.items():
            file.writestr(name, text)
    return whole.getvalue()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.zip"
    submission.write(path, manifest(), played(), {"defense/mine.yaml": b"# mine\n"})
    return path


@pytest.mark.ci
def test_submit_bundles_failed_cells_and_names_missing_and_refused_ones(
    call: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    mine = store(tmp_path / "mine", [*played(), record(defense=[MINE], model="mlp")])
    words = ("submit", "toy", "--store", mine, "--defense", "gradient_noise", "--to", tmp_path / "a.zip")
    code, printed = call(*words)
    assert code == 0, printed
    assert "3 cells, 1 of them failed" in printed and "1 cells missing:\n  leakage_idlg vs gradient_noise" in printed
    found = submission.read(tmp_path / "a.zip")
    assert set(found.records) == {one["key"] for one in played()}
    assert [(group.threat, group.seeds) for group in found.manifest.refused] == [("evasion_jsma", [0, 1])]
    assert "JSMA lives in setting=deployment" in str(found.manifest.refused[0].reason)
    seeds = {key: found.records[key]["seed"] for key in found.records}
    assert all(f" seed={seeds[key]} " in line + " " for key, line in found.manifest.commands.items())
    assert set(found.files) == {"component/defense/gradient_noise.yaml", "component/defense/gradient_noise.py"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("submit", "toy", "--defense", "krum"), "no record with defense=krum that is a cell of the board toy"),
        (("submit", "tyo", "--defense", "krum"), "There is no board 'tyo'; did you mean toy?"),
        (("submit", "toy"), "--defense NAME, --threat NAME, or both"),
        (("verify", "nothing.zip"), "nothing.zip"),
    ],
)
def test_a_mistake_is_told(call: Callable[..., tuple[int, str]], tmp_path: Path, words: Any, told: str) -> None:
    place = ("--store", store(tmp_path, played())) if words[0] == "submit" else ()
    code, printed = call(*words, *place)
    assert code == 2 and told in printed and "Traceback" not in printed


def linked(content: Files) -> bytes:
    whole = io.BytesIO(zipped(content))
    with zipfile.ZipFile(whole, "a") as file:
        entry = zipfile.ZipInfo("component/defense/mine.py")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(entry, "/etc/passwd")
    return whole.getvalue()


def lying(content: Files) -> bytes:
    """Return a zip with a file of a million zeros whose entry tells of ten."""
    size = struct.pack("<I", 1_000_000)
    return zipped({**content, "component/defense/bomb.py": bytes(1_000_000)}).replace(size, struct.pack("<I", 10))


def renamed(content: Files, **others: Any) -> bytes:
    """Return a zip in which the first record is another one under the same name."""
    name = next(name for name in content if name.startswith("records/"))
    return zipped({**content, name: json.dumps({**json.loads(content[name]), **others}).encode()})


def with_manifest(content: Files, **others: Any) -> bytes:
    told = {**json.loads(content["manifest.json"]), **others}
    return zipped({**content, "manifest.json": json.dumps(told).encode()})


def with_record(content: Files, one: dict[str, Any]) -> bytes:
    more = {**content, f"records/{one['key']}.json": json.dumps(one).encode()}
    return with_manifest(more, cells=len(played()) + 1)


BAD: dict[str, tuple[Callable[[Files], bytes], str]] = {
    "no zip": (lambda content: b"hello" * 99, "no submission, or damaged: File is not a zip"),
    "cut off": (lambda content: zipped(content)[:-200], "no submission, or damaged"),
    "empty": (lambda content: zipped({}), "it has no manifest.json"),
    "bomb": (
        lambda content: zipped({**content, "component/threat/a.py": bytes(gate.LARGEST + 1)}),
        "unpacks to more than",
    ),
    "lying bomb": (lying, "Bad CRC-32"),
    "many files": (
        lambda content: zipped({**content, **{f"component/threat/{i}.py": b"" for i in range(30)}}),
        "more than 20",
    ),
    "parent folder": (lambda content: zipped({**content, "../evil.py": b""}), "'../evil.py', which no submission has"),
    "absolute": (lambda content: zipped({**content, "/etc/evil.py": b""}), "which no submission has"),
    "hidden parent": (lambda content: zipped({**content, "records/../../x.json": b""}), "which no submission has"),
    "link": (linked, "it has a link"),
    "numbers of another": (lambda content: renamed(content, key="0" * 64), "it has the key 0000"),
    "edited config": (lambda content: renamed(content, config=record()["config"]), "not the digest of its config"),
    "accuracy of 2": (lambda content: renamed(content, utility={"test_accuracy": 2.0}), "not between 0 and 1"),
    "fewer records": (
        lambda content: with_manifest(content, cells=99),
        "holds 3 records, but its manifest tells of 99",
    ),
    "strange manifest": (lambda content: with_manifest(content, components=[]), "manifest of .* cannot be read"),
    "foreign board": (lambda content: with_manifest(content, board="toys"), "There is no board 'toys'"),
    "old board": (lambda content: with_manifest(content, board_version=2), "version 2 of the board toy, .* version 3"),
    "no cell of it": (
        lambda content: with_record(content, record(defense=[MINE], model="mlp")),
        "is no cell of the board",
    ),
    "another defense": (lambda content: with_record(content, record(defense="dp_sgd")), "is no cell of the board toy"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_submission_is_refused_before_anything_is_played(
    fault: str, good: Path, call: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "replay", lambda *_: pytest.fail("it was played"))
    monkeypatch.setattr(submission, "MOST_FILES", 20)
    make, told = BAD[fault]
    bad = good.with_name("bad.zip")
    bad.write_bytes(make(files(good)))
    code, printed = call("verify", bad)
    assert code == 2 and "Traceback" not in printed
    with pytest.raises(BadSubmission, match=told):
        commands._checked(submission.read(bad))
    assert sorted(path.name for path in good.parent.iterdir()) == ["bad.zip", "good.zip"], "nothing is unpacked"


@pytest.mark.parametrize(
    ("change", "flags", "code"),
    [
        ({}, (), 0),
        ({"risk": {"ssim": 0.315}}, (), 0),
        ({"risk": {"ssim": 0.35}}, (), 1),
        ({"risk": {"ssim": 0.35}}, ("--tolerance", "0.1"), 0),
        ({"utility": {"test_accuracy": 0.9}}, (), 1),
        ({"risk": {"ssim": None}}, (), 1),
        ({"status": "failed"}, (), 1),
        ({"risk": {"ssim": 0.3, "psnr_db": 0.0}}, (), 0),
    ],
)
def test_numbers_that_do_not_return_end_in_exit_code_1(
    change: dict[str, Any],
    flags: tuple[str, ...],
    code: int,
    good: Path,
    call: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[str] = []

    def replay(_: Any, one: dict[str, Any], __: Any) -> tuple[dict[str, Any], int]:
        drawn.append(one["key"])
        return {**one, **change}, 0

    monkeypatch.setattr(commands, "replay", replay)
    monkeypatch.setattr(commands, "_refuse_absent", lambda *_: None)
    monkeypatch.setattr(commands, "_options", lambda *_: nullcontext())
    monkeypatch.setattr(commands, "_lacking", lambda *_: ([], []))
    found, printed = call("verify", good, "--sample", "1", *flags, "device=cpu")
    assert (found, len(drawn)) == (code, 1), printed
    assert ("differs" in printed) == bool(code)


def test_the_sample_is_the_same_for_everybody_and_another_one_after_a_change(tmp_path: Path) -> None:
    records = [record(defense=[MINE], seed=seed) for seed in range(20)] + [played()[2]]
    firsts, whole = [], []
    for change in (0.0, 0.0, 0.001, 0.002, 0.003):
        records[0] = {**records[0], "risk": {"ssim": 0.5 + change}}
        submission.write(
            tmp_path / "a.zip", manifest(cells=21), reversed(records), {"defense/a.py": str(change).encode()}
        )
        whole.append((tmp_path / "a.zip").read_bytes())
        drawn = submission.read(tmp_path / "a.zip").sample(20)
        assert len(drawn) == 20 and all(one["status"] == "ok" for one in drawn)
        firsts.append([one["key"] for one in drawn[:3]])
    assert firsts[0] == firsts[1] and len(set(map(tuple, firsts))) == 4
    assert whole[0] == whole[1] and len(set(whole)) == 4


def test_code_that_is_not_there_or_not_trusted_is_told_with_the_remedy(good: Path, tmp_path: Path) -> None:
    for package, lacks in (("nowhere_at_all", "not installed"), ("hydra_plugins", "not trusted")):
        mine = keyed(record(defense=[{**MINE, "provider": package}]))
        told = manifest(cells=1, components=submission.components([mine], BROUGHT, lambda _: "1.2"))
        submission.write(tmp_path / "a.zip", told, [mine], {})
        with pytest.raises(GauntletError, match=rf"package {package} 1\.2, which is {lacks};.*trusted=\[{package}\.\]"):
            commands._refuse_absent(submission.read(tmp_path / "a.zip"), [])
