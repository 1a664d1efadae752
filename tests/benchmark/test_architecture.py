"""The layers of ``benchmark``, held on its sources: which package may import which, and how much one class may do."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = (
    {"clock", "errors", "libraries", "seeds", "outcome", "parameters"},
    {"data", "models", "metrics", "precision", "rendezvous"},
    {"training", "crypto"},
    {"settings"},
    {"defenses", "threats"},
    {"cell", "compatibility"},
)
"""From the bottom up. A package imports from layers below its own, and within a layer as ``BESIDE`` says."""
BESIDE = {
    ("libraries", "errors"),
    ("parameters", "errors"),
    ("parameters", "libraries"),
    ("data", "seeds"),
    ("models", "data"),
    ("models", "seeds"),
    ("cell", "compatibility"),
}
FORBIDDEN = {"hydra", "omegaconf", "wandb", "runners", "rich", "argparse"}
MOST_METHODS = 20

Graph = dict[str, set[str]]


def modules(root: Path) -> dict[str, ast.Module]:
    """Return the syntax tree of every file of ``root/benchmark``, by the name of the module."""
    found = {}
    for path in sorted((root / "benchmark").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield every dotted name that is imported anywhere in the file: also in functions and under ``TYPE_CHECKING``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not followed"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def graph(trees: dict[str, ast.Module]) -> Graph:
    """Return for each module the modules of ``benchmark`` that it imports."""
    arrows: Graph = {}
    for name, tree in trees.items():
        found = (target if target in trees else target.rpartition(".")[0] for target in imported(tree))
        arrows[name] = {target for target in found if target in trees and target != "benchmark"}
    return arrows


def of_packages(arrows: Graph) -> Graph:
    """Return the arrows of a graph between packages and single modules directly under ``benchmark``."""
    found: Graph = defaultdict(set)
    for source, targets in arrows.items():
        for target in targets:
            one, other = source.split(".")[1:2], target.split(".")[1:2]
            if one and other and one != other:
                found[one[0]].add(other[0])
    return found


def cycle(arrows: Graph) -> list[str]:
    """Return one cycle, or nothing."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def upward(arrows: Graph) -> set[tuple[str, str]]:
    """Return the arrows (package, package) that the layers do not allow."""
    height = {package: number for number, layer in enumerate(LAYERS) for package in layer}
    return {
        (source, target)
        for source, targets in of_packages(arrows).items()
        for target in targets
        if height[target] >= height[source] and (source, target) not in BESIDE
    }


def late_imports(trees: dict[str, ast.Module]) -> set[str]:
    """Return the modules that import ``benchmark`` elsewhere than at their top."""
    found = set()
    for name, tree in trees.items():
        top = {id(node) for node in tree.body}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("benchmark") and id(node) not in top:
                found.add(name)
    return found


def methods(trees: dict[str, ast.Module]) -> dict[str, int]:
    """Return by class how many public methods and properties it defines itself."""
    return {
        f"{name}.{node.name}": sum(
            isinstance(part, ast.FunctionDef) and not part.name.startswith("_") for part in node.body
        )
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }


def foreign(trees: dict[str, ast.Module]) -> set[str]:
    """Return the imports of packages that ``benchmark`` must not use."""
    return {target for tree in trees.values() for target in imported(tree) if target.split(".")[0] in FORBIDDEN}


def prints(trees: dict[str, ast.Module]) -> set[str]:
    """Return the modules that print."""
    return {
        name
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return modules(ROOT)


def test_no_module_imports_itself_by_a_detour(trees: dict[str, ast.Module]) -> None:
    assert cycle(graph(trees)) == []


def test_no_package_imports_itself_by_a_detour(trees: dict[str, ast.Module]) -> None:
    assert cycle(of_packages(graph(trees))) == []


def test_packages_import_downward_only(trees: dict[str, ast.Module]) -> None:
    assert upward(graph(trees)) == set()


def test_the_suite_is_imported_at_the_top_of_a_module(trees: dict[str, ast.Module]) -> None:
    assert late_imports(trees) == set()


def test_no_class_has_too_many_public_methods(trees: dict[str, ast.Module]) -> None:
    assert {name: count for name, count in methods(trees).items() if count > MOST_METHODS} == {}


def test_the_science_knows_nothing_of_the_machine_room(trees: dict[str, ast.Module]) -> None:
    assert foreign(trees) == set()
    assert prints(trees) == set()


# -- the checks themselves --------------------------------------------------------------------------------------------
def planted(trees: dict[str, ast.Module], name: str, text: str) -> dict[str, ast.Module]:
    """Return a copy of the syntax trees in which ``text`` is added to the module ``name``."""
    source = ast.unparse(trees[name])
    return {**trees, name: ast.parse(source + text)}


@pytest.mark.parametrize(
    ("name", "text", "arrow"),
    [
        ("benchmark.training.loop", "\nfrom benchmark.settings.threat import Threat\n", ("training", "settings")),
        ("benchmark.defenses.none", "\nfrom benchmark.threats.proxies import rows\n", ("defenses", "threats")),
        ("benchmark.threats.proxies", "\ndef late():\n    import benchmark.defenses.none\n", ("threats", "defenses")),
        ("benchmark.metrics.images", "\nfrom benchmark.training import loop\n", ("metrics", "training")),
        (
            "benchmark.settings.threat",
            "\nif TYPE_CHECKING:\n    from benchmark.threats.proxies import rows\n",
            ("settings", "threats"),
        ),
    ],
)
def test_a_planted_arrow_upward_is_seen(
    trees: dict[str, ast.Module], name: str, text: str, arrow: tuple[str, str]
) -> None:
    arrows = graph(planted(trees, name, text))
    assert upward(arrows) == {arrow}
    if arrow not in {
        ("defenses", "threats"),
        ("threats", "defenses"),
    }:
        assert cycle(of_packages(arrows))


def test_a_planted_detour_between_modules_is_seen(trees: dict[str, ast.Module]) -> None:
    text = "\ndef late():\n    from benchmark.settings.collaboration.setting import Collaboration\n"
    changed = planted(trees, "benchmark.settings.collaboration.games.uploads", text)
    assert "benchmark.settings.collaboration.setting" in cycle(graph(changed))
    assert late_imports(changed) == {"benchmark.settings.collaboration.games.uploads"}
    assert cycle(of_packages(graph(changed))) == []


def test_a_planted_class_that_does_too_much_is_seen(trees: dict[str, ast.Module]) -> None:
    body = "".join(f"    def method_{number}(self): ...\n" for number in range(MOST_METHODS + 1))
    counts = methods(planted(trees, "benchmark.seeds", f"\nclass Everything:\n{body}"))
    assert counts["benchmark.seeds.Everything"] == MOST_METHODS + 1


@pytest.mark.parametrize("name", ["hydra", "omegaconf.dictconfig", "runners.config"])
def test_a_planted_import_of_the_machine_room_is_seen(trees: dict[str, ast.Module], name: str) -> None:
    changed = planted(trees, "benchmark.cell", f"\ndef late():\n    import {name}\n    print()\n")
    assert foreign(changed) == {name}
    assert prints(changed) == {"benchmark.cell"}
