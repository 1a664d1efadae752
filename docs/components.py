"""Options of ``conf/`` and the classes that they name, read as text: nothing is imported, so torch is not loaded."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
GROUPS = ("dataset", "model", "setting", "threat", "defense", "scale", "sweep")


# -- Python, as text --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Class:
    """A class statement and the module that holds it."""

    module: str
    node: ast.ClassDef

    @property
    def path(self) -> Path:
        return module_path(self.module)

    @property
    def docstring(self) -> str:
        return inspect.cleandoc(ast.get_docstring(self.node) or "")

    @cached_property
    def lineage(self) -> tuple[Class, ...]:
        """Return this class, its bases, their bases and so on, without repeats, the nearest first."""
        found = [self]
        for base in self.node.bases:
            parent = find_class(self.module, ast.unparse(base).split("[")[0])
            found += [c for c in (parent.lineage if parent else ()) if c.node not in [f.node for f in found]]
        return tuple(found)

    def attribute(self, name: str) -> ast.expr | None:
        """Return the expression assigned to a class attribute, by this class or the nearest base."""
        return next((value for cls in self.lineage if (value := assigned(cls.node.body, name)) is not None), None)

    def names(self, name: str) -> frozenset[str]:
        """Return the strings that a class attribute holds, see :func:`names_in`."""
        owner = next((cls for cls in self.lineage if assigned(cls.node.body, name) is not None), self)
        return names_in(owner.attribute(name), owner.module)

    def method(self, name: str) -> ast.FunctionDef | None:
        return next((n for n in self.node.body if isinstance(n, ast.FunctionDef) and n.name == name), None)


@cache
def module_path(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def parsed(module: str) -> ast.Module | None:
    path = module_path(module)
    return ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else None


def assigned(body: Iterable[ast.stmt], name: str) -> ast.expr | None:
    for statement in body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            if statement.target.id == name and statement.value is not None:
                return statement.value
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                pairs = [(target, statement.value)]
                if isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
                    pairs = list(zip(target.elts, statement.value.elts, strict=False))
                for one, value in pairs:
                    if isinstance(one, ast.Name) and one.id == name:
                        return value
    return None


def origin(module: str, name: str) -> str | None:
    """Return the module from which ``module`` imports ``name``."""
    for statement in (parsed(module) or ast.Module([], [])).body:
        if isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    return statement.module
    return None


@cache
def find_class(module: str, name: str) -> Class | None:
    """Return the class ``name`` as ``module`` knows it, following imports inside the suite."""
    for statement in (parsed(module) or ast.Module([], [])).body:
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return Class(module, statement)
    imported = origin(module, name)
    return find_class(imported, name) if imported and imported != module else None


def names_in(node: ast.expr | None, module: str) -> frozenset[str]:
    """Return the strings that a set expression holds: literals, unions, constants of modules and of classes."""
    found: set[str] = set()
    for part in ast.walk(node) if node is not None else ():
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            found.add(part.value)
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            if owner_class := find_class(module, part.value.id):
                found |= owner_class.names(part.attr)
        elif isinstance(part, ast.Name) and part.id not in {"frozenset", "set", "self"}:
            owner: str | None = module
            while owner and (value := assigned((parsed(owner) or ast.Module([], [])).body, part.id)) is None:
                owner = origin(owner, part.id)
            if owner:
                found |= names_in(value, owner)
    return frozenset(found)


@cache
def declared_hooks() -> dict[str, tuple[str, ...]]:
    """Return the hooks that each kind of defense declares, by the kind's class name."""
    kinds: dict[str, tuple[str, ...]] = {}
    for path in sorted((ROOT / "benchmark" / "settings").glob("*/defense.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                hooks = [
                    method.name
                    for method in node.body
                    if isinstance(method, ast.FunctionDef)
                    and any(ast.unparse(d).startswith("hook") for d in method.decorator_list)
                ]
                if hooks:
                    kinds[node.name] = tuple(hooks)
    return kinds


@cache
def surface_hooks() -> dict[tuple[str, str], frozenset[str]]:
    """Return the hooks that act on each (setting, surface)."""
    acting: dict[tuple[str, str], frozenset[str]] = {}
    for path in sorted((ROOT / "benchmark" / "settings").glob("*/setting.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef):
                continue
            setting = literal(assigned(node.body, "name"))
            games = assigned(node.body, "games")
            if isinstance(games, ast.Tuple):
                for game in games.elts:
                    if cls := find_class(module, ast.unparse(game)):
                        acting[setting, literal(cls.attribute("surface"))] = cls.names("hooks")
    return acting


def literal(node: ast.expr | None) -> Any:
    try:
        return ast.literal_eval(node) if node is not None else None
    except ValueError:
        return None


# -- options ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Option:
    """One YAML file of ``conf/``, with the class that it names."""

    group: str
    name: str
    path: Path
    data: dict[str, Any] = field(repr=False)

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def description(self) -> str:
        """Return the leading comment of the file, without Hydra's package directive."""
        lines = []
        for line in self.text.splitlines():
            if not line.startswith("#"):
                break
            if not line.startswith("# @package"):
                lines.append(line.lstrip("# ").rstrip())
        return " ".join(lines)

    @cached_property
    def target(self) -> Class | None:
        """Return the class named by ``_target_``, here or in the option that this one builds on."""
        if dotted := self.data.get("_target_"):
            module, _, name = dotted.rpartition(".")
            return find_class(module, name)
        return read(self.group, CONF / self.group / f"{self.bases[0]}.yaml").target if self.bases else None

    @property
    def bases(self) -> list[str]:
        """Return the options of the same group that this one builds on."""
        named = [base for base in self.data.get("defaults", []) if isinstance(base, str)]
        return [base for base in named if (CONF / self.group / f"{base}.yaml").is_file()]

    @property
    def parameters(self) -> dict[str, Any]:
        return {key: value for key, value in self.data.items() if key not in {"defaults", "_target_", "_partial_"}}

    @property
    def comments(self) -> dict[str, str]:
        """Return the trailing comment of each parameter."""
        pairs = re.findall(r"^(\w+):(?:.*?)\s#\s+(.*)$", self.text, re.MULTILINE)
        return dict(pairs)


@cache
def read(group: str, path: Path) -> Option:
    name = path.relative_to(CONF / group).with_suffix("").as_posix()
    return Option(group, name, path, yaml.safe_load(path.read_text(encoding="utf-8")) or {})


@cache
def options(group: str) -> tuple[Option, ...]:
    return tuple(read(group, path) for path in sorted((CONF / group).rglob("*.yaml")))


@cache
def kinds(option: Option) -> tuple[str, ...]:
    """Return the kinds of defense that an option is, by class name; a stack of two settings is two."""
    return tuple(
        c.node.name for c in (option.target.lineage if option.target else ()) if c.node.name in declared_hooks()
    )


def overridden(option: Option) -> tuple[str, ...]:
    """Return the hooks that a defense overrides, in the order of their declaration."""
    own = {
        method.name
        for cls in (option.target.lineage if option.target else ())
        if cls.node.name not in declared_hooks()
        for method in cls.node.body
        if isinstance(method, ast.FunctionDef)
    }
    return tuple(h for kind in kinds(option) for h in declared_hooks()[kind] if h in own)


def met_by(defense: Option, setting: str, surface: str) -> bool:
    acting = surface_hooks().get((setting, surface), frozenset())
    return defense.name != "none" and bool(acting & set(overridden(defense)))
