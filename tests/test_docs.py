"""Tests of the docs: links, names and words, agreement of the catalogue with the classes, the example of an attack."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from benchmark.cell import Cell, play
from benchmark.data.digits import Digits
from benchmark.models.lenet import LeNet
from benchmark.settings.collaboration.setting import Collaboration
from tests import prose

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
