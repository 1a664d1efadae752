"""Tests of keys and digests: which changes alter them and, in copies of the package, which do not."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import ConfigError
from runners.config import catalogue
from runners.config.identity import canonical, class_name, described, digest, labelled, module_file, version
from runners.config.syntax import source_digest
from tests.runners.conftest import FAKE_CELL, ROOT, composed

NOISY = (*FAKE_CELL, "defense=[gradient_noise,gradient_clipping]")


# -- keys -------------------------------------------------------------------------------------------------------------
def test_order_of_parameters_does_not_matter() -> None:
    assert digest({"a": 1, "b": {"c": 0.1, "d": None}}) == digest({"b": {"d": None, "c": 0.1}, "a": 1})


def test_a_whole_number_is_one_number_however_it_is_written() -> None:
    assert (
        composed(*NOISY, "defense.gradient_noise.std=1").key == composed(*NOISY, "defense.gradient_noise.std=1.0").key
    )
    assert canonical([1.0, -0.0, (2.5, {"a": 1e300})]) == '[1,0,[2.5,{"a":1e+300}]]'
    assert len({digest(value) for value in (1, True, "1", "1.0", None, [1])}) == 6


def test_nan_has_no_key() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        canonical({"a": float("nan")})


@pytest.mark.parametrize(
    "override", ["store=elsewhere", "device=cuda", "threads=2", "data.root=/data", "cache=false", "time_limit=3"]
)
def test_the_machine_is_not_in_the_key(override: str) -> None:
    assert composed(*NOISY, override).key == composed(*NOISY).key


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "scale=cpu",
        "precision=bf16",
        "precision=tf32",
        "threat.risk=0.25",
        "threat.adaptive=true",
        "dataset.sizes.owner=3",
        "model.width=3",
        "defense.gradient_noise.std=0.2",
        "+setting.story=another",
    ],
)
def test_every_parameter_is_in_the_key(override: str) -> None:
    assert composed(*NOISY, override).key != composed(*NOISY).key


def test_full_precision_has_the_keys_of_before_there_was_another() -> None:
    plain, said, half = (composed(*NOISY, *line) for line in ((), ("precision=full",), ("precision=bf16",)))
    assert said.key == plain.key == digest(plain.config) and "precision" not in plain.config
    assert half.config == {**plain.config, "precision": "bf16"} and half.key == digest(half.config)
    assert composed(*NOISY, "precision=tf32").key not in (plain.key, half.key)
    assert half.label == plain.label.replace(", seed", " in bf16, seed")


@pytest.mark.parametrize("value", ["fp16", "null", "16", "true", "[bf16]", "BF16"])
def test_an_unknown_precision_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="precision must be full, tf32 or bf16, got"):
        composed(*NOISY, f"precision={value}")


def test_the_order_of_a_stack_is_in_the_key() -> None:
    turned = composed(*FAKE_CELL, "defense=[gradient_clipping,gradient_noise]")
    assert [part["name"] for part in turned.config["defense"]] == ["gradient_clipping", "gradient_noise"]
    assert turned.key != composed(*NOISY).key


def test_a_new_version_or_another_provider_is_a_new_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    keys = []
    for package, module, number in (("one", "a", 1), ("one", "b", 1), ("one", "c", 2), ("two", "a", 1)):
        file = tmp_path / package / f"{module}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"VERSION = {number}\n")
        importlib.invalidate_caches()  # the folder may have been listed in the same tick of its clock
        cell = composed(*FAKE_CELL, f"threat._target_={package}.{module}.X")
        keys.append(cell.key)
        assert (cell.config["threat"]["provider"], cell.config["threat"]["version"]) == (package, number)
    assert keys[0] == keys[1], "the module is not in the key"
    assert len(set(keys)) == 3


def test_a_nested_component_is_called_by_its_class() -> None:
    inner = {"_target_": "benchmark.data.digits.Digits", "sizes": {}, "download": True}
    node = {"_target_": "benchmark.data.mirrored.Mirrored", "_partial_": True, "_args_": [3], "of": [inner]}
    assert described("digits_mirrored", node) == {
        "name": "digits_mirrored",
        "provider": "benchmark",
        "version": version("benchmark.data.mirrored.Mirrored"),
        "args": [3],
        "of": [
            {
                "class": "Digits",
                "provider": "benchmark",
                "version": version("benchmark.data.digits.Digits"),
                "sizes": {},
                "download": True,
            }
        ],
    }
    with pytest.raises(ConfigError, match="parameter 'version'"):
        described("odd", {"_target_": "benchmark.data.mirrored.Mirrored", "version": 3})


def test_labels_of_a_record_and_of_its_targets_are_the_same() -> None:
    cell = composed("threat=attribute_strongest", "setting=release_scenarios", "dataset=digits_mirrored", "model=mlp")
    assert {label for label, _ in labelled(cell.config)} == cell.targets().keys()
    assert {"setting/release_scenarios", "Scenarios", "Digits"} <= cell.targets().keys()
    for label, target in cell.targets().items():
        assert catalogue.target(label, "benchmark") == target


def test_no_two_classes_that_are_nested_bear_one_name() -> None:
    texts = [path.read_text() for group in catalogue.GROUPS for path in (catalogue.CONF / group).rglob("*.yaml")]
    nested = {target for text in texts for target in re.findall(r"^ .*_target_: *([\w.]+)", text, flags=re.MULTILINE)}
    assert nested
    for target in nested:
        assert catalogue.target(class_name(target), "benchmark") == target


def test_a_version_is_read_without_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "hidden_package" / "inner"
    folder.mkdir(parents=True)
    (folder / "module.py").write_text("VERSION = 7\nraise RuntimeError('imported')\n")
    assert version("hidden_package.inner.module.Class.method") == 7
    assert source_digest("hidden_package.inner.module.Class.method") is not None
    assert "hidden_package" not in sys.modules
    assert module_file("no_such_package.module.Class") is None


def test_how_data_are_come_by_is_not_in_the_key() -> None:
    assert composed("dataset=mnist").key == composed("dataset=mnist", "dataset.download=true").key


# -- digests of small modules -----------------------------------------------------------------------------------------
PLAIN = """\
from math import floor, sqrt
from typing import TYPE_CHECKING

VERSION = 1


class Field:
    size: int = 3

    def root(self, x: float) -> float:
        y: float = sqrt(x)
        return floor(y) * self.size
"""
FRESH = itertools.count()
"""Numbers of packages: what is known of a module is kept by its name."""


@pytest.fixture
def digest_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return ``digest_of(text)``: the digest of the class ``Field`` in a module with this text."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def digest_of(text: str) -> str:
        package = tmp_path / f"package_{next(FRESH)}"
        package.mkdir()
        (package / "module.py").write_text(text)
        found = source_digest(f"{package.name}.module.Field")
        assert found is not None
        return found

    return digest_of


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("class Field:\n", 'class Field:\n    """A field."""\n\n'),
        ("VERSION = 1\n", 'VERSION = 2\n"""Of the module."""\n'),
        ("x: float) -> float", "x: int) -> int"),
        ("size: int", "size: float"),
        ("y: float = sqrt", "y = sqrt"),
        ("from math import floor, sqrt\n", "from math import sqrt\nfrom math import ceil, floor\n"),
        ("VERSION", "if TYPE_CHECKING:\n    from json import loads\n\nVERSION"),
        ("        y: float", "        from math import sqrt\n\n        y: float"),
        ("        return", "        # a comment\n        return"),
    ],
)
def test_what_changes_no_number_changes_no_digest(digest_of: Callable[[str], str], before: str, after: str) -> None:
    assert before in PLAIN
    assert digest_of(PLAIN.replace(before, after)) == digest_of(PLAIN)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("size: int = 3", "size: int = 4"),
        ("size: int = 3", "size: int = 3.0"),
        ("size: int = 3", "size = 3"),  # no field of a data class any more
        ("floor, sqrt", "ceil as floor, sqrt"),
        ("from math import floor, sqrt", "from cmath import sqrt\nfrom math import floor"),
        ("floor(y) * self.size", "floor(y) + self.size"),
        ("        return", "        del x\n        return"),
        ("return floor(y) * self.size", "return 'floor(y) * self.size'"),
    ],
)
def test_what_may_change_a_number_changes_the_digest(digest_of: Callable[[str], str], before: str, after: str) -> None:
    assert before in PLAIN
    assert digest_of(PLAIN.replace(before, after)) != digest_of(PLAIN)


@pytest.mark.parametrize("line", ["from {0}.helper import f", "from {0} import helper", "from .helper import f"])
@pytest.mark.parametrize("indented", [False, True])
def test_a_helper_of_the_package_counts_however_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, indented: bool
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for body in ("return 1", "return 2", '"""Return 1."""\n    return 1'):
        package = tmp_path / f"package_{next(FRESH)}"
        package.mkdir()
        (package / "helper.py").write_text(f"def f():\n    {body}\n")
        imported = line.format(package.name)
        method = f"    def g(self):\n        {imported}\n" if indented else f"    pass\n\n\n{imported}\n"
        (package / "module.py").write_text(f"class Field:\n{method}")
        found.append(source_digest(f"{package.name}.module.Field"))
    assert found[0] == found[2] != found[1]


def test_a_library_is_told_by_its_release() -> None:
    assert source_digest("torch.optim.Adam") is None
    assert catalogue.target("Adam", "torch") is None


# -- copies of the suite ----------------------------------------------------------------------------------------------
TOLD = """
import json, sys
from runners.config import catalogue
from runners.config.compose import register, cell_of
from runners.config.syntax import source_digest
from runners.store.staleness import edited, moved_on
from hydra import compose, initialize_config_module

register()
with initialize_config_module("conf", version_base="1.3"):
    config = compose("config", json.loads(sys.argv[1]), return_hydra_config=True)
cell = cell_of(config, config.hydra.runtime.choices)
every = {}
for group in ("dataset", "model", "setting", "threat", "defense"):
    for option in catalogue.options(group):
        target = catalogue.target(f"{group}/{option.name}", "benchmark")
        every[f"{group}/{option.name}"] = source_digest(target)
record = json.loads(sys.argv[2])
print(json.dumps({
    "key": cell.key, "config": cell.config, "every": every, "targets": cell.targets(), "torch": "torch" in sys.modules,
    "edited": [name for name, _, _ in edited(record)] if record else [],
    "moved_on": [name for name, _, _ in moved_on(record["config"])] if record else [],
}))
"""
CELL = ["threat=poison_ipm", "defense=krum", "model=mlp"]
KRUM = "benchmark/defenses/collaboration/aggregation/krum.py"
ROUNDS = "benchmark/settings/collaboration/rounds.py"
Copy = Callable[..., dict[str, Any]]


def told(tree: Path, *overrides: str, record: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return facts of the suite in ``tree`` on its components, on a cell and on a record."""
    line = [sys.executable, "-c", TOLD, json.dumps([*CELL, *overrides]), json.dumps(record)]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    run = subprocess.run(line, cwd=tree, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    assert not found["torch"], "digests cost no import"
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for package in ("benchmark", "runners", "conf", "hydra_plugins"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def recorded(before: dict[str, Any]) -> dict[str, Any]:
    """Return a record of the cell with the code as it was then, with the digests of every component of the suite."""
    parts = {label: {"version": node["version"], "digest": before["every"].get(label)} for label, node in _tops(before)}
    return {"config": before["config"], "versions": {"components": parts}}


def _tops(before: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(label, node) for label, node in labelled(before["config"]) if "/" in label]


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text, before
    path.write_text(text.replace(before, after, 1))


@pytest.mark.ci
def test_a_module_that_moves_keeps_keys_and_digests(tree: Path) -> None:
    before = told(tree)
    new = tree / "benchmark" / "threats" / "elsewhere" / "selection.py"
    new.parent.mkdir()
    (new.parent / "__init__.py").write_text('"""Somewhere else."""\n')
    (tree / KRUM).rename(new)
    old_name, new_name = KRUM.removesuffix(".py").replace("/", "."), "benchmark.threats.elsewhere.selection"
    for path in [*tree.rglob("*.py"), *tree.rglob("*.yaml")]:
        text = path.read_text()
        if old_name in text:
            path.write_text(re.sub(rf"\b{re.escape(old_name)}\b", new_name, text))
    after = told(tree, record=recorded(before))
    assert after["targets"]["defense/krum"] == f"{new_name}.Krum" != before["targets"]["defense/krum"]
    assert after["key"] == before["key"]
    assert after["every"] == before["every"]
    assert after["edited"] == after["moved_on"] == []


@pytest.mark.ci
def test_a_parameter_and_a_version_make_another_key(tree: Path) -> None:
    before = told(tree)
    assert told(tree, "setting.rounds=3")["key"] != before["key"]
    path = tree / KRUM
    path.write_text(re.sub(r"^VERSION = \d+", "VERSION = 99", path.read_text(), flags=re.MULTILINE))
    raised = told(tree, record=recorded(before))
    assert raised["key"] != before["key"]
    assert (raised["moved_on"], raised["edited"]) == (["defense/krum"], [])
    assert raised["every"] == before["every"], "a VERSION alone is no edit"


@pytest.mark.ci
def test_an_edit_below_a_component_is_told_of_all_that_use_it(tree: Path) -> None:
    before = told(tree)
    edit(tree / ROUNDS, "from __future__ import annotations\n", "from __future__ import annotations\n\nROUNDING = 2\n")
    after = told(tree, record=recorded(before))
    changed = {label for label in after["every"] if after["every"][label] != before["every"][label]}
    users = {label for label in before["every"] if _reaches(tree, catalogue.target(label, "benchmark"), ROUNDS)}
    assert changed == users >= {"setting/collaboration"}
    assert "model/mlp" not in changed and "dataset/digits" not in changed
    assert set(after["edited"]) == {label for label, _ in _tops(before)} & users != set()


def _reaches(tree: Path, target: str | None, goal: str) -> bool:
    """Return whether importing the module of ``target`` imports the file ``goal``, by a search of import lines."""
    assert target is not None
    waiting, seen = [_file(tree, target)], set[Path]()
    while waiting:
        path = waiting.pop()
        if path is None or path in seen:
            continue
        seen.add(path)
        text = re.sub(r"^if TYPE_CHECKING:\n(?:    .*\n|\n)+", "", path.read_text(), flags=re.MULTILINE)
        for module, names in re.findall(r"^ *from (benchmark[\w.]*) import (\([^)]*\)|.*)$", text, flags=re.MULTILINE):
            waiting += [_file(tree, f"{module}.{name}") for name in re.findall(r"\w+", names)]
    return tree / goal in seen


def _file(tree: Path, name: str) -> Path | None:
    parts = name.split(".")
    for depth in range(len(parts), 1, -1):
        for path in (tree.joinpath(*parts[:depth]).with_suffix(".py"), tree.joinpath(*parts[:depth], "__init__.py")):
            if path.is_file():
                return path
    return None


@pytest.mark.ci
def test_prose_and_types_are_no_edit(tree: Path) -> None:
    before = told(tree)
    edit(tree / ROUNDS, '"""', '"""Another first line.\n\n')
    edit(tree / ROUNDS, "from __future__ import annotations\n", "from __future__ import annotations\n\n# a comment\n")
    text = (tree / ROUNDS).read_text()
    typed = re.sub(r"(\w+): (Tensor|int|float)(?=[,)])", r"\1: object", text)
    assert typed != text
    (tree / ROUNDS).write_text(typed)
    after = told(tree, record=recorded(before))
    assert after["every"] == before["every"]
    assert after["edited"] == []
