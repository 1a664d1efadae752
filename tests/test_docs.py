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
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from benchmark.cell import Cell, play
from benchmark.data.digits import Digits
from benchmark.models.lenet import LeNet
from benchmark.models.library_networks import TorchvisionNet
from benchmark.settings.collaboration.setting import Collaboration
from runners.cli import audit, main
from runners.store.records import Store
from runners.sweep.judge import Judge
from runners.sweep.plan import _in_grammar
from tests import prose
from tests.options import cell
from tests.test_sweeps import globbed, problems

ROOT = prose.ROOT


@pytest.mark.ci
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


@pytest.mark.ci
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
    "leakage_yours": "needs the files that `gauntlet new` writes",
    "my_package": "is a package of the reader's own",
    "mine.safetensors": "is a file of the reader's own",
    "trained.safetensors": "is a file of the reader's own",
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
        if not any(name in told for name in MADE_UP):
            assert not problems(block_of(arguments_of(words))), told
    elif command == "audit":
        options = audit.parser().parse_intermixed_args(arguments_of(words)[1:])
        assert any(name in told for name in MADE_UP) or not problems(block_of(options.overrides)), told
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


class Otherwise(NamedTuple):
    """A part of a command that a test cannot play as it is printed.

    Attributes:
        part: regular expression of it.
        instead: what is played in its place; None: the command is left out.
    """

    part: str
    instead: str | None
    because: str


OTHERWISE = (
    Otherwise(r"^(make|pytest) .*", None, "CI calls it, and other tests"),
    Otherwise(r"^git clone .*", None, "there is nothing to clone from"),
    Otherwise(r"^pip install (.*'&&' |.*)", "", "the environment stays as it is; what it lacks is refused"),
    Otherwise(r".* dataset\.download=true .*", None, "needs a network"),
    Otherwise(r".* hydra/launcher=submitit_slurm .*", None, "needs a cluster"),
    Otherwise(r".* (--device |device=)cuda.*", None, "needs a GPU"),
    Otherwise(r"^python -m runners\.device .*", None, "needs data sets; the tests of the device play it"),
    Otherwise(r".* FOUND/packed .*", None, "needs what a device has played; its tests do the same"),
    Otherwise(r".*pkg://my_package.conf.*", None, "is a package of the reader's own; the example's test plays one"),
    Otherwise(r"^GAUNTLET_DATA=\S+ ", "", "the plan of a sweep needs no data"),
    Otherwise(r"\bsweep sweep=(papers/\w+|catalogue)", r"plan sweep=\1", "takes hours"),
    Otherwise(r"pack outputs --into results", "pack outputs --into packed", "what is published was played elsewhere"),
    Otherwise(r"--minutes \d+", "--minutes 0.5", "shows as much"),
    Otherwise(r"range\(0,5\)", "range(0,2)", "shows as much"),
    Otherwise(r"jobs=8", "jobs=2", "there are two cores"),
)
NOT_INSTALLED = re.compile(r"which is not installed|No module named|Could not find|is not installed", re.IGNORECASE)


def adapted(words: list[str]) -> list[str]:
    """Return the words that are played for a command of the docs, none where it is left out."""
    told = shlex.join(words)
    for part, instead, _ in OTHERWISE:
        if instead is None and re.search(part, told):
            return []
        told = re.sub(part, instead or "", told)
    return shlex.split(told)


def test_every_exception_is_for_a_command_of_the_docs() -> None:
    every = [shlex.join(words) for page in READ for words in prose.commands(page)]
    assert [part for part, *_ in OTHERWISE if not any(re.search(part, told) for told in every)] == []


def files_of(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each file that the page shows: named before its block, or in its first line."""
    blocks = re.compile(r"((?:[^\n]+\n)+)\n```(python|yaml)\n(# [^\n]*\n)?(.*?)```", re.DOTALL)
    for before, kind, first, rest in blocks.findall(page.read_text(encoding="utf-8")):
        ends = kind.replace("python", "py")
        if named := re.search(rf"[\w/]+\.{ends}\b", (first or "") + before):
            yield named[0], first + rest


@pytest.fixture
def scratch(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with what the docs speak of: published results, files of one's own, files that the page shows."""
    folder = tmp_path / "here"
    for name in ("records", "baseline", "reported"):
        shutil.copytree(ROOT / "results" / name, folder / "results" / name)
    shutil.copy(ROOT / "results" / "bench.json", folder / "results")
    x, y = load_digits(return_X_y=True)
    images = (x / 16).reshape(-1, 8, 8).astype("float32")
    for name in ("my_images.npz", "my_data.npz"):
        np.savez(folder / name, x=images, y=y)
    household = np.arange(240) // 3
    people = {
        "income": y[:240] > 4,
        "sex": np.where(household % 2, "f", "m"),
        "age": x[:240, 20],
        "household": household,
    }
    notes = {"name": [f"N. {row}" for row in range(240)], "date": "2020-02-02"}
    pd.DataFrame(people | notes).to_csv(folder / "people.csv", index=False)
    page = request.getfixturevalue("page")
    if page.name == "your-attack.md":  # it is played in a checkout
        for name in ("benchmark", "conf", "gauntlet", "hydra_plugins", "runners", "tests", "pyproject.toml"):
            place = ROOT / name
            (shutil.copytree if place.is_dir() else shutil.copy)(place, folder / name)
    shown = dict(files_of(ROOT / "docs" / "your-model.md"))
    shown |= dict(files_of(page)) if page.name in ("your-data.md", "your-attack.md") else {}
    for path, text in shown.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    own: dict[str, Any] = {}
    exec(shown["my_package/nets.py"], own)
    save_file(own["make"](shape=(1, 8, 8), num_classes=10).state_dict(), folder / "trained.safetensors")
    network = TorchvisionNet(shape=(1, 8, 8), num_classes=10, net="resnet18", norm="own", stem="own")
    save_file(network.state_dict(), folder / "mine.safetensors")
    return folder


def quick(store: Store) -> list[str]:
    """Return the keys of records that are played again in no time, or of all where none is known to be."""
    names = ("key", "threat", "dataset", "status")
    found = store.columns(*names)
    every = sorted(zip(*(found[name] for name in names), strict=True))
    fast = [key for key, *kind in every if kind == ["leakage_analytic", "digits", "ok"]]
    return fast or [key for key, *_ in every]


def played(folder: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in ``folder``, with the packages that lie there in the place of installed ones."""
    packages = [folder, folder / "my_attacks", ROOT]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, packages)), "GAUNTLET_DATA": str(folder)}
    program = [sys.executable] if words[0] == "python" else [sys.executable, "-m", "runners.cli.main"]
    return subprocess.run([*program, *words[1:]], cwd=folder, env=environment, text=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("page", READ, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_in_order(page: Path, scratch: Path) -> None:
    """Play every command. KEY, A and B become keys of the store that is named, OTHER_STORE a store with a record."""
    done = 0
    for number, words in enumerate(map(adapted, prose.commands(page))):
        if not words:
            continue
        store = scratch / ("results" if "results" in words and "pack" not in words else "outputs")
        if {"KEY", "A", "B"} & set(words):
            if not (store / "records").is_dir():
                played(scratch, shlex.split("gauntlet run threat=leakage_idlg"))
            keys = quick(Store(store))
            words = [dict(KEY=keys[0], A=keys[0], B=keys[-1]).get(word, word) for word in words]
        if "OTHER_STORE" in words and not (scratch / "OTHER_STORE").is_dir():
            played(scratch, shlex.split("gauntlet run threat=leakage_idlg seed=7 store=OTHER_STORE"))
        if words[1] in ("merge", "pack") and not store.is_dir():
            played(scratch, shlex.split("gauntlet run threat=leakage_idlg"))
        ended = played(scratch, words)
        told = f"{page.name}, {number}: {shlex.join(words)}\n{ended.stdout}{ended.stderr}"
        lacking = ended.returncode == 2 and NOT_INSTALLED.search(ended.stderr)
        assert lacking or ended.returncode == (2 if shlex.join(words) == REFUSED else 0), told
        assert "Traceback" not in ended.stderr, told
        done += 1
    if not done:
        pytest.skip("has no command that can be run here")
