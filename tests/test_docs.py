"""Tests of the docs: links, names and words, the catalogue beside the classes, the example of an attack, commands."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString
from sklearn.datasets import load_digits

from benchmark.cell import Cell, play
from benchmark.data.digits import Digits
from benchmark.models.lenet import LeNet
from benchmark.settings.collaboration.setting import Collaboration
from runners.cli import audit, main
from runners.store.records import Store
from runners.sweep.plan import Judge, _in_grammar
from tests import prose
from tests.options import cell
from tests.test_sweeps import globbed, problems

ROOT = prose.ROOT


@pytest.mark.parametrize("name", prose.CHECKS)
def test_the_check_finds_nothing(name: str) -> None:
    faults = sorted(prose.CHECKS[name]())
    assert not faults, "\n".join(map(str, faults))


@pytest.mark.parametrize(
    ("line", "check", "fault"),
    [
        ("[a](nowhere.md)", prose.links, "no file nowhere.md"),
        ("[a](#nothing)", prose.links, "no anchor #nothing"),
        ("`benchmark/threats/nothing.py`", prose.names, "no path benchmark/threats/nothing.py"),
        ("`seeds_of_doubt.py`", prose.names, "no file is called seeds_of_doubt.py"),
        ("`benchmark.seeds.sow`", prose.names, "no benchmark.seeds.sow"),
        ("`gauntlet run threat=leakage_dlg,leakage_nothing`", prose.names, "no option threat=leakage_nothing"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, line: str, check: object, fault: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\n[here](#a-page), `benchmark/seeds.py`, `threat=leakage_dlg`\n{line}\n")
    found = [(f.line, f.text) for f in check((page,))]  # type: ignore[operator]
    assert len(found) == 1 and found[0][0] == 4 and found[0][1].startswith(fault)


@pytest.mark.parametrize(
    ("text", "is_outside"),
    [
        ("as DESIGN, section 3, says", True),
        ("(spec 08, row 2)", True),
        ("Carlini et al., 2022; M7", True),
        ("see issue 12", True),
        ("Zhu et al. 2019, section 5.2", False),
        ("a special case with 2.9 M weights", False),
    ],
)
def test_references_outside_the_repository_are_told_from_papers(text: str, is_outside: bool) -> None:
    assert bool(prose.OUTSIDE.search(text)) == is_outside


# -- the catalogue ----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def catalogue() -> ModuleType:
    return prose.generated()


def test_every_option_has_an_entry_with_its_parameters(catalogue: ModuleType) -> None:
    pages = catalogue.pages()
    for group in catalogue.GROUPS:
        for option in catalogue.options(group):
            page = pages[catalogue.location(option)]
            entry = page.partition(f"{{ #{catalogue.anchor(option.name)} }}")[2].partition("\n## ")[0]
            assert entry, f"{group}={option.name} is missing"
            if group in {"dataset", "model", "setting", "threat", "defense"}:
                assert option.target is not None, f"the class of {group}={option.name} was not found"
                assert all(f"| `{name}` |" in entry for name in option.parameters)


def test_hooks_and_surfaces_are_those_of_the_classes(catalogue: ModuleType) -> None:
    """Compare the pages, which read sources as text, with the classes themselves."""
    for option in catalogue.options("defense"):
        cls = getattr(importlib.import_module(option.target.module), option.target.node.name)
        assert set(catalogue.overridden(option)) == set(cls.hooks()), option.name
    acting = sys.modules["components"].surface_hooks()
    assert Collaboration.surfaces == {
        surface: hooks for (name, surface), hooks in acting.items() if name == "collaboration"
    }


def test_a_threat_says_what_it_attacks(catalogue: ModuleType) -> None:
    for option in catalogue.options("threat"):
        said = dict(catalogue.facts(option))
        cls = getattr(importlib.import_module(option.target.module), option.target.node.name)
        assert said["Setting, surface"] == f"`{cls.setting}`, `{cls.surface}`"
        assert said["Headline"] == f"`{cls.headline}`"
        assert ("Floor without a defense" in said) == (cls.floor is not None), option.name


def test_the_catalogue_is_made_without_torch() -> None:
    code = (
        "import sys; sys.path.insert(0, 'docs'); import catalogue; catalogue.pages(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_nobody(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings_handlers.python", reason="needs the extra [docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    fetched = re.compile(r"<(?:script|img|iframe)[^>]+src=\"?https?:|<link[^>]+href=\"?https?:[^>]+stylesheet")
    assert not [path for path in tmp_path.rglob("*.html") if fetched.search(path.read_text(encoding="utf-8"))]


# -- the example of an attack -----------------------------------------------------------------------------------------
def test_the_attack_of_the_docs_runs_and_fits_its_yaml_file(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "your-attack.md").read_text(encoding="utf-8")
    code, options = (re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)[1] for kind in ("python", "yaml"))  # type: ignore[index]
    path = tmp_path / "public_lookup.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location("public_lookup", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parameters = yaml.safe_load(options)
    assert parameters.pop("_target_").endswith("gradient_leakage.public_lookup.PublicLookup")
    assert set(parameters) == set(inspect.signature(module.PublicLookup).parameters)

    sizes = {"owner": 200, "attacker": 50, "public": 50, "calibration": 50, "test": 100}
    setting = Collaboration(
        parties=4,
        fraction=1.0,
        rounds=1,
        batch_size=4,
        local_steps=1,
        lr=0.1,
        victims=2,
        victim_batch_size=1,
        model_state="untrained",
    )
    model = partial(LeNet, activation="tanh", init="default", strides=None)
    outcome, _ = play(Cell(Digits(sizes=sizes), model, setting, module.PublicLookup(candidates=50), [], seed=0))
    assert outcome.risk["ssim"] > module.PublicLookup.floor.at_least


# -- files for people who look for them -------------------------------------------------------------------------------
def test_the_citation_can_be_read() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["authors"] == [{"name": "The Gauntlet developers"}]


def test_hooks_before_a_commit_need_no_network() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    assert all(hook["language"] == "system" for repo in config["repos"] for hook in repo["hooks"])


# -- every command of the docs ----------------------------------------------------------------------------------------
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
READ = [page for page in PAGES if page.parent.name != "systems" and page.name != "CONTRIBUTING.md"]
"""Pages that a reader follows command by command."""
HYDRA = ("run", "sweep", "plan")
OTHERS = {"git", "source", "export", "pip", "python", "pre-commit", "cd"}
REFUSED = "gauntlet run threat=evasion_jsma defense=krum"
"""Shown for being refused."""
MADE_UP = {
    "leakage_public_lookup": "needs the two files of the page",
    "leakage_mine": "needs the files that `gauntlet new` writes",
    "my_package": "is a package of the reader's own",
    "mine.safetensors": "is a file of the reader's own",
}
COMMANDS = [(page, words) for page in PAGES for words in prose.commands(page)]


def overrides_of(words: list[str]) -> list[str]:
    """Return the overrides of a command, without flags and what is not of the cell."""
    return [word for word in words if "=" in word and not word.startswith("-")]


def block_of(words: list[str]) -> dict[str, Any]:
    """Return the overrides as a block of a sweep; filters as what they filter, mappings as they are typed."""
    block: dict[str, Any] = {}
    for override in OverridesParser.create(config_loader=None).parse_overrides(overrides_of(words)):
        key = override.get_key_element().removeprefix("only.").lstrip("+")
        if isinstance(override.value(), dict):
            block[key] = [override.get_value_element_as_str()]
        elif not override.is_sweep_override():
            block[key] = [override.value()]
        elif isinstance(override.value(), ChoiceSweep):
            block[key] = [item.text if isinstance(item, QuotedString) else item for item in override.value().list]
        else:
            block[key] = override.input_line.partition("=")[2]
    return block


def arguments_of(words: list[str]) -> list[str]:
    """Return what follows ``gauntlet`` in a command, behind variables that it sets; nothing of another program."""
    program = next(number for number, word in enumerate(words) if not re.match(r"[A-Z_]+=", word))
    return words[program + 1 :] if words[program] == "gauntlet" else []


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{page.stem}-{n}" for n, (page, _) in enumerate(COMMANDS)])
def test_a_command_of_the_docs_parses_and_names_what_there_is(page: Path, words: list[str]) -> None:
    told = shlex.join(words)
    if "make" in words:
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert {word for word in words[words.index("make") + 1 :] if "=" not in word} <= set(targets), told
    elif "pytest" in words:
        assert all((ROOT / word).exists() for word in words if word.endswith(".py")), told
    elif not arguments_of(words):
        assert words[0] in OTHERS or words[0].startswith("GAUNTLET_"), f"{told}: nobody knows this program"
    elif (command := arguments_of(words)[0]) in HYDRA:
        if not MADE_UP.keys() & set(re.split(r"\W", told)):
            assert not problems(block_of(arguments_of(words))), told
    elif command == "audit":
        options = audit.parser().parse_intermixed_args(arguments_of(words)[1:])
        assert not problems(block_of(options.overrides)), told
    else:
        main.parse(arguments_of(words))


CELLS = [words for _, words in COMMANDS if arguments_of(words)[:1] == ["run"]]


def test_the_single_cells_of_the_docs_compose_and_bind() -> None:
    judge = Judge()
    for words in CELLS:
        lines = []
        for key, values in block_of(arguments_of(words)).items():
            first = globbed(key, values)[0] if isinstance(values, str) and "glob" in values else values[0]
            lines.append(f"{key}={_in_grammar(key, [first])}" if key != "seed" else "seed=0")
        if not any(name in line for name in MADE_UP for line in lines) and not any("path=" in line for line in lines):
            reason = judge.refusal(cell(*lines))
            if reason and "which is not installed" in reason:
                continue  # it names an extra, whose absence is a refusal of its own
            assert (reason is not None) == (shlex.join(words) == REFUSED), f"{shlex.join(words)}: {reason}"


def not_run(words: list[str]) -> str | None:
    """Return why a command is not run for real by the test below, or None."""
    told = shlex.join(words)
    if any(word.startswith("sweep=papers/") or word == "sweep=catalogue" for word in words):
        return "takes hours"
    if "submitit" in told and importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        return "needs the extra [slurm]"
    if "submitit_slurm" in told:
        return "needs a cluster"
    if not arguments_of(words):
        return "is not one of the suite's commands"
    return next((reason for name, reason in MADE_UP.items() if name in told), None)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A folder with what the docs speak of: published results, images of one's own, and another store."""
    for name in ("records", "baseline", "reported"):
        shutil.copytree(ROOT / "results" / name, tmp_path / "results" / name)
    x, y = load_digits(return_X_y=True)
    images = (x / 16).reshape(-1, 8, 8).astype("float32").repeat(2, axis=1).repeat(2, axis=2)
    np.savez(tmp_path / "my_images.npz", train_x=images[:1400], train_y=y[:1400], test_x=images[1400:], test_y=y[1400:])
    return tmp_path


def quick(store: Store) -> list[str]:
    """Return the keys of records that are played again in no time, or of all where none is known to be."""
    names = ("key", "threat", "dataset", "status")
    found = store.columns(*names)
    every = sorted(zip(*(found[name] for name in names), strict=True))
    fast = [key for key, *kind in every if kind == ["leakage_analytic", "digits", "ok"]]
    return fast or [key for key, *_ in every]


def played(folder: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GAUNTLET_DATA": str(folder)}
    command = [sys.executable, "-m", "runners.cli.main", *arguments_of(words)]
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", READ, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_in_order(page: Path, scratch: Path) -> None:
    """Play every command; an audit for half a minute. KEY, A and B become keys of the store, OTHER_STORE a store."""
    done = 0
    for number, words in enumerate(prose.commands(page)):
        if not_run(words) is not None:
            continue
        store = scratch / ("results" if "results" in words and "pack" not in words else "outputs")
        if {"KEY", "A", "B"} & set(words):
            if not (store / "records").is_dir():
                played(scratch, shlex.split("gauntlet run threat=leakage_idlg"))
            keys = quick(Store(store))
            words = [dict(KEY=keys[0], A=keys[0], B=keys[-1]).get(word, word) for word in words]
        if "OTHER_STORE" in words or ("pack" in words and not store.is_dir()):
            played(scratch, shlex.split("gauntlet run threat=leakage_idlg seed=7 store=OTHER_STORE"))
            played(scratch, shlex.split("gauntlet run threat=leakage_idlg"))
        if "--minutes" in words:
            words = [*words, "--minutes", "0.5"]
        ended = played(scratch, words)
        wanted = 2 if shlex.join(words) == REFUSED else 0
        assert ended.returncode == wanted, f"{page.name}, {number}: {shlex.join(words)}\n{ended.stdout}{ended.stderr}"
        assert "Traceback" not in ended.stderr
        done += 1
    if not done:
        pytest.skip("has no command that can be run here")
