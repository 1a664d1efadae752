"""The command ``gauntlet new``: its files fit together and to the suite's style, and nothing of the user's is lost."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml

from runners.cli import main as cli
from runners.cli import new
from runners.cli.new_components import SETTINGS
from runners.cli.new_threats import SURFACES
from tests.runners.conftest import ROOT
from tests.test_catalogue import parameters
from tests.test_extension import Copy

EXAMPLES = ("sign_upload", "step_back", "wine_cultivars")

KINDS = [
    *(("threat", f"new_{surface}", "--surface", surface) for surface in SURFACES),
    *(("defense", f"guard_{setting}", "--setting", setting) for setting in SETTINGS),
    ("dataset", "patterns"),
    ("model", "little"),
]


def call(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["gauntlet", "new", *arguments])
    return cli.main()


def style(folder: Path, *paths: Path) -> str:
    """Return what ruff says of the style of these files, and of their format."""
    words = [sys.executable, "-m", "ruff"]
    checks = (["check", "--no-cache", "--quiet"], ["format", "--no-cache", "--check", "--quiet"])
    runs = [subprocess.run([*words, *check, *paths], cwd=folder, capture_output=True, text=True) for check in checks]
    return "".join(run.stdout + run.stderr for run in runs)


def test_every_beginning_fits_its_option_and_the_style(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    package = tmp_path / "my_beginnings"
    for line in KINDS:
        assert call(*line, "--package", str(package), monkeypatch=monkeypatch) == 0, line
    printed = capsys.readouterr().out
    assert printed.count("play     gauntlet run") == len(KINDS) == printed.count(f"install  pip install -e {package}")
    assert style(package, package) == ""
    monkeypatch.syspath_prepend(package)
    options = sorted(package.rglob("conf/*/*.yaml"))
    assert len(options) == len(KINDS) == len(list(package.glob("tests/test_*.py")))
    for path in options:
        text, (kind, option) = path.read_text(), (path.parent.name, path.stem)
        node = yaml.safe_load(text)
        module, _, name = node["_target_"].rpartition(".")
        component = getattr(importlib.import_module(module), name)
        listed = {key for key in node if not key.startswith("_") and key != "defaults"}
        unlisted = {"model": {"shape", "num_classes"}, "threat": {"adaptive", "follows_exchange"}}.get(kind, set())
        assert listed <= parameters(component) and parameters(component) - listed <= unlisted
        if kind == "threat":
            overridden = {"release": "release", "service": "service", "deployment": "deployment"}
            assert f"setting: {overridden.get(component.setting, '')}" in text or component.setting == "collaboration"
            assert component.surface == option.partition("_new_")[2]
        assert text.startswith(f"# @package defense.{option}\n" if kind == "defense" else "# ")


def test_in_a_checkout_the_files_lie_where_the_suite_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for folder in ("benchmark", "conf", "tests"):
        (tmp_path / folder).mkdir()
    own = '[tool.ruff.lint]\nisort.known-first-party = ["benchmark", "gauntlet"]\n'  # which are not all there
    settings = (ROOT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(settings.replace("[tool.ruff.lint]\n", own))
    monkeypatch.setattr("runners.config.remembered.ROOT", tmp_path)
    for line in KINDS:
        assert call(*line, monkeypatch=monkeypatch) == 0
    assert call("threat", "leakage_mine", monkeypatch=monkeypatch) == 0, "a prefix is not given twice"
    made = capsys.readouterr().out
    for path in (
        "benchmark/threats/gradient_leakage/mine.py",
        "conf/threat/leakage_mine.yaml",
        "tests/benchmark/threats/test_mine.py",
    ):
        assert f"wrote    {path}\n" in made and (tmp_path / path).is_file()
    assert "play     gauntlet run threat=leakage_mine\n" in made
    assert "test     pytest tests/benchmark/threats/test_mine.py tests/test_catalogue.py\n" in made
    assert style(tmp_path, *tmp_path.rglob("*.py")) == ""
    assert not list(tmp_path.glob("my_*"))


def test_nothing_is_overwritten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    package = tmp_path / "mine"
    (package / "tests").mkdir(parents=True)
    (package / "pyproject.toml").write_text("# as it was\n")
    (package / "tests" / "test_patterns.py").write_text("# as it was\n")
    assert call("dataset", "patterns", "--package", str(package), monkeypatch=monkeypatch) == 2
    assert capsys.readouterr().err == (
        f"{package}/tests/test_patterns.py exists, and nothing is overwritten; choose another name, or move the file.\n"
    )
    assert sorted(path.name for path in package.rglob("*") if path.is_file()) == ["pyproject.toml", "test_patterns.py"]
    assert call("dataset", "other", "--package", str(package), monkeypatch=monkeypatch) == 0
    assert (package / "pyproject.toml").read_text() == "# as it was\n"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (("threat", "My-Attack"), "must be lower-case words"),
        (("threat", "../mine"), "must be lower-case words"),
        (("threat", "lambda"), "no word of Python"),
        (("threat", "x" * 31), "30 characters"),
        (("model", "mine", "--package", "My Nets"), "The package 'My Nets' must be lower-case"),
        (("threat", "dlg"), "threat=leakage_dlg is an option of the suite already"),
        (("defense", "federated_defense"), "FederatedDefense would be the name of the class"),
        (("threat", "mine", "--surface", "upload"), "no beginning of a threat for the surface 'upload'"),
        (("threat", "mine", "--setting", "release"), "A threat takes no --setting; it takes --surface"),
        (("defense", "mine", "--surface", "uploads"), "A defense takes no --surface; it takes --setting"),
        (("model", "mine", "--surface", "uploads"), "A model takes no --surface or --setting"),
        (("defense", "mine"), "installed without its sources; give a package of your own"),
    ],
)
def test_a_mistake_is_told_and_nothing_written(
    line: tuple[str, ...],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("runners.config.remembered.ROOT", tmp_path)
    assert call(*line, monkeypatch=monkeypatch) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("answer", "place"), [("", "uploads"), ("members", "members")])
def test_a_terminal_is_asked(answer: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = []
    monkeypatch.setattr("builtins.input", lambda question: questions.append(question) or answer)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert new.asked("threat", None, None) == place
    assert len(questions) == 1 and "[uploads]" in questions[0]
    assert new.asked("threat", "inputs", None) == "inputs" and new.asked("model", None, None) == ""
    assert len(questions) == 1, "what is given, or has no choice, is not asked"


# -- slow: all of them played -----------------------------------------------------------------------------------------
@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    if not shutil.which("git") or subprocess.run(["git", "rev-parse"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("this is no checkout of git, so nobody can tell which files are the suite's")
    return Copy(tmp_path / "suite")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_beginning_passes_its_own_test_and_the_catalogues_in_a_checkout(copy: Copy) -> None:
    for line in KINDS:
        ran = copy.python("-m", "runners.cli.main", "new", *line)
        assert ran.returncode == 0, ran.stderr
    made = [line[3:] for line in copy.git("status", "--porcelain", "--untracked-files=all").splitlines()]
    assert len(made) == 3 * len(KINDS), "and no other file has changed"
    assert style(copy.root, *(copy.root / name for name in made if name.endswith(".py"))) == ""
    tests = [name for name in made if name.startswith("tests/")]
    names = " or ".join(Path(name).stem for name in made if name.startswith("conf/"))
    ran = copy.pytest(*tests, "tests/test_catalogue.py", "-k", f"{names} or test_new or test_guard or patterns")
    assert ran.returncode == 0, ran.stdout[-5000:]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_packages_of_ones_own_and_the_examples_play_from_wheels_outside_any_checkout(
    copy: Copy, tmp_path: Path
) -> None:
    pytest.importorskip("setuptools")
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")

    def ran(*words: object, cwd: Path = home) -> str:
        done = subprocess.run(list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    for package in (copy.root, *(copy.root / "examples" / name for name in EXAMPLES)):
        ran(sys.executable, "-c", build, tmp_path, cwd=package)
    shutil.rmtree(copy.root)
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    # What the suite needs is found where this interpreter has it; the suite itself is not, for its .pth is not read.
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(others))
    install = (python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    ran(*install, *tmp_path.glob("gauntlet*.whl"))
    gauntlet = tmp_path / "venv" / "bin" / "gauntlet"
    for kind, name in (("threat", "leakage_mine"), ("defense", "guard"), ("dataset", "patterns"), ("model", "little")):
        ran(gauntlet, "new", kind, name, "--package", "ours")
    ran(sys.executable, "-c", build, tmp_path, cwd=home / "ours")
    ran(*install, *tmp_path.glob("ours-*.whl"))
    shutil.rmtree(home / "ours")
    packages_of_it = ", ".join(("benchmark", "conf", "ours", *EXAMPLES))
    where = ran(python, "-c", f"import {packages_of_it}; print(*(it.__file__ for it in ({packages_of_it})))")
    assert all(path.startswith(str(packages)) for path in where.split())

    def record(name: str, *chosen: str) -> str:
        search = ",".join(f"pkg://{package}.conf" for package in ("ours", *EXAMPLES))
        trusted = ",".join(f"{package}." for package in ("ours", *EXAMPLES))
        told = ran(gauntlet, "run", *chosen, f"hydra.searchpath=[{search}]", f"trusted=[{trusted}]", f"store={name}")
        assert len(list((home / name).glob("records/*/*.json"))) == 1
        return told

    told = record("ours", "threat=leakage_mine", "defense=guard", "dataset=patterns", "model=little")
    assert "leakage_mine vs guard on patterns/little/smoke" in told and "ssim" in told
    told = record("examples", "threat=poison_step_back", "defense=sign_upload", "dataset=wine_cultivars", "model=mlp")
    assert "poison_step_back vs sign_upload on wine_cultivars/mlp/smoke" in told and "accuracy_drop" in told
