"""Tests that a new defense and a new threat are two files each: in a copy of the suite nothing else has to change.

One test runs there what looks at the whole catalogue, the other all default tests; both are slow.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runners.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")

DEFENSE = '''"""Uploads rounded to a grid."""

from __future__ import annotations

from torch import Tensor

from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


{code}'''

THREAT = '''"""Grey pictures for every victim, whatever was uploaded."""

from __future__ import annotations

import torch

from benchmark.settings.collaboration.games.uploads import UploadSurface, UploadThreat
from benchmark.settings.guesses import Reconstruction

VERSION = 1


class Grey(UploadThreat):
    """Negative control: the same grey picture for every victim."""

    family = "gradient_leakage"
    headline = "ssim"
    control = "negative"

    def attack(self, surface: UploadSurface, rng: torch.Generator) -> Reconstruction:
        shape = (surface.uploads.shape[1], surface.batch_size, *surface.shape)
        return Reconstruction(torch.full(shape, 0.5, device=surface.params.device))
'''

THREAT_YAML = """# A grey picture for every victim; an attack that learned anything beats it.
_target_: benchmark.threats.gradient_leakage.grey.Grey
adaptive: false
"""


def block(language: str, begins: str) -> str:
    """Return the code block of the README in ``language`` that begins with these words."""
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if text.startswith(begins)]
    return str(found)


NEW = {
    "benchmark/defenses/collaboration/clients/rounding.py": DEFENSE.format(code=block("python", "class Rounding")),
    "benchmark/threats/gradient_leakage/grey.py": THREAT,
    "conf/defense/rounding.yaml": block("yaml", "# @package defense.rounding"),
    "conf/threat/leakage_grey.yaml": THREAT_YAML,
}

CATALOGUE = (
    "tests/test_sweeps.py",
    "tests/runners/test_matrix.py",
    "tests/test_pairs.py::test_the_catalogue_sweep_lists_every_pair",
    *(
        f"tests/test_catalogue.py::test_a_component_can_be_built_from_its_file[{option}-{scale}]"
        for option in ("defense=rounding", "threat=leakage_grey")
        for scale in ("smoke", "cpu", "full")
    ),
    "tests/test_catalogue.py::test_a_threat_brings_the_setting_it_lives_in[leakage_grey]",
)


class Copy:
    """A copy of the suite's files, without records and pictures, under version control."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listed = self.git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
        for name in listed.split("\0"):
            path = Path(name)
            if (
                name
                and path.parts[:2] not in (("results", "records"), ("results", "media"))
                and (ROOT / path).is_file()
            ):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / path, root / path)
        self.git("init", "--quiet")
        self.git("add", "--all")
        self.git("-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "--message", "all")

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=cwd or self.root, check=True, capture_output=True, text=True
        ).stdout

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.root), "XDG_CACHE_HOME": str(self.root.parent / "cache")}
        environment.pop("PYTEST_ADDOPTS", None)
        line = [sys.executable, *arguments]
        return subprocess.run(line, cwd=self.root, env=environment, capture_output=True, text=True)

    def pytest(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)

    def matrix(self) -> dict[str, dict[str, list[str]]]:
        found: dict[str, dict[str, list[str]]] = json.loads(
            self.python("-m", "runners.cli.main", "matrix", "--json").stdout
        )
        return found


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    if not shutil.which("git") or subprocess.run(["git", "rev-parse"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("this is no checkout of git, so nobody can tell which files are the suite's")
    return Copy(tmp_path / "suite")


def add(copy: Copy) -> None:
    for name, text in NEW.items():
        (copy.root / name).write_text(text, encoding="utf-8")


def only_the_new_files(copy: Copy) -> None:
    assert sorted(copy.git("status", "--porcelain", "--untracked-files=all").splitlines()) == [
        f"?? {name}" for name in sorted(NEW)
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_new_defense_and_a_new_threat_are_two_files_each(copy: Copy) -> None:
    before = copy.matrix()
    add(copy)
    after = copy.matrix()
    assert set(after["defenses"]) - set(before["defenses"]) == {"rounding"}, "the classes are asked anew"
    assert set(after["threats"]) - set(before["threats"]) == {"leakage_grey"}
    ran = copy.pytest(*CATALOGUE)
    assert ran.returncode == 0, ran.stdout[-5000:]
    cell = ("threat=leakage_grey", "defense=rounding", "setting.rounds=1", "setting.victims=2")
    ran = copy.python("-m", "runners.run", *cell, f"store={copy.root.parent / 'store'}")
    assert ran.returncode == 0, ran.stderr
    only_the_new_files(copy)
    defense = copy.root / "benchmark/defenses/collaboration/clients/rounding.py"
    defense.write_text(defense.read_text().replace("def protect(self, updates", "def aggregate(self, updates"))
    assert copy.matrix()["defenses"]["rounding"] == ["aggregate"], "a changed class is asked anew"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_default_suite_passes_with_them(copy: Copy) -> None:
    add(copy)
    ran = copy.pytest("--deselect", "tests/test_extension.py", "--deselect", "tests/runners/test_published.py")
    assert ran.returncode == 0, ran.stdout[-5000:]
    only_the_new_files(copy)
