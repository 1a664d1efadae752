"""Digests of the code that a component uses: its module and all modules of its package and of the suite behind it.

A digest is taken over syntax trees, read without importing anything. It does not change with docstrings, comments,
annotations, the order of imports, or with the place of a module; it does with every other edit of any of the modules.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from runners.config.identity import module_of, provider

SUITE = "benchmark"
LIBRARIES = ("torch", "torchvision")
"""Providers whose code is identified by their release."""
UNSEEN = frozenset({"annotation", "returns", "type_comment", "type_params", "kind", "ctx", "simple"})
"""Fields of nodes that say nothing of what is computed; ``ctx`` follows from the place."""
HEX = 16


@dataclass(frozen=True)
class Module:
    """A module of a provider.

    Attributes:
        digest: SHA-256 over its syntax alone.
        uses: names of the modules of the same provider and of the suite that it imports, at any depth of its code.
    """

    digest: str
    uses: frozenset[str]


@cache
def source_digest(target: str) -> str | None:
    """Return the digest of the code behind the class ``target``, 16 hex digits.

    None where there is no Python source, or where the class is of a library that its release identifies.
    """
    found = None if provider(target) in LIBRARIES else module_of(target)
    if found is None:
        return None
    behind = sorted({_module(name).digest for name in _closure(found[0])})
    return hashlib.sha256(" ".join([_module(found[0]).digest, *behind]).encode()).hexdigest()[:HEX]


def _closure(name: str) -> set[str]:
    """Return ``name`` and every module that it uses, directly or not."""
    found, waiting = {name}, [name]
    while waiting:
        new = _module(waiting.pop()).uses - found
        found |= new
        waiting += new
    return found


@cache
def _module(name: str) -> Module:
    found = module_of(name)
    assert found is not None and found[0] == name, name
    tree = ast.parse(found[1].read_bytes())
    reader = _Reader()
    reader.statements(tree.body, outermost=True)
    package = name if found[1].name == "__init__.py" else name.rpartition(".")[0]
    own = {provider(name), SUITE}
    uses, bound = set[str](), set[str]()
    for statement in reader.imports:
        origin = _origin(statement, package)
        for alias in statement.names:
            here = origin if isinstance(statement, ast.ImportFrom) else alias.name
            ours = provider(here) in own
            if ours:
                uses |= _leads_to(here, alias.name if isinstance(statement, ast.ImportFrom) else None)
            called = alias.asname or alias.name
            if called.partition(".")[0] in reader.names:  # the place of a module must not change digests
                bound.add(f"{'' if ours else origin} {alias.name} {called}")
    text = "\n".join([*sorted(bound), *reader.parts])
    return Module(hashlib.sha256(text.encode()).hexdigest(), frozenset(uses - {name}))


def _origin(statement: ast.Import | ast.ImportFrom, package: str) -> str:
    """Return the dotted name that the imported names are read from; empty for ``import a.b``."""
    if isinstance(statement, ast.Import):
        return ""
    if not statement.level:
        return statement.module or ""
    above = package.split(".")[: len(package.split(".")) - statement.level + 1]
    return ".".join([*above, *([statement.module] if statement.module else [])])


@cache
def _leads_to(origin: str, name: str | None) -> frozenset[str]:
    """Return the module that ``from origin import name`` or ``import origin`` reads, if it has a source."""
    found = module_of(f"{origin}.{name}" if name else origin)
    return frozenset({found[0]}) if found else frozenset()


class _Reader:
    """Reader that turns statements into text without what does not change their effect, and collects imports.

    Attributes:
        parts: the text so far. names: every identifier in it. imports: the import statements.
    """

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.names: set[str] = set()
        self.imports: list[ast.Import | ast.ImportFrom] = []

    def statements(self, body: Iterable[ast.stmt], *, outermost: bool = False, of_class: bool = False) -> None:
        """Read a list of statements; assignments with an annotation make the fields of a data class, so they stay."""
        for statement in self._effective(body, outermost):
            if isinstance(statement, ast.AnnAssign) and not of_class:
                if statement.value is not None:
                    self.node(ast.Assign(targets=[statement.target], value=statement.value))
            else:
                self.node(statement)

    def _effective(self, body: Iterable[ast.stmt], outermost: bool) -> Iterator[ast.stmt]:
        for statement in body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                self.imports.append(statement)
            elif isinstance(statement, ast.If) and _for_type_checkers(statement.test):
                yield from self._effective(statement.orelse, outermost)
            elif isinstance(statement, ast.Pass) or (outermost and _is_version(statement)):
                continue
            elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):  # a docstring
                yield statement

    def node(self, node: ast.AST) -> None:
        """Read one node with all that is below it."""
        kind = node.__class__
        if kind is ast.Name:
            self.names.add(node.id)  # type: ignore[attr-defined]
            self.parts.append(node.id)  # type: ignore[attr-defined]
            return
        if kind is ast.Constant:
            self.parts.append(repr(node.value))  # type: ignore[attr-defined]
            return
        self.parts.append(f"{kind.__name__}(")
        for field in kind._fields:
            value = getattr(node, field, None)
            if value is None or value == [] or field in UNSEEN:
                continue
            self.parts.append(field)
            self._field(value, kind)
        self.parts.append(")")

    def _field(self, value: Any, kind: type[ast.AST]) -> None:
        if isinstance(value, ast.AST):
            self.node(value)
        elif not isinstance(value, list):
            self.parts.append(repr(value))
        else:
            self.parts.append("[")
            if isinstance(value[0], ast.stmt):
                self.statements(value, of_class=kind is ast.ClassDef)
            else:
                for item in value:
                    self._field(item, kind)
            self.parts.append("]")


def _for_type_checkers(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _is_version(statement: ast.stmt) -> bool:
    """Return whether this is the line ``VERSION = ...``, which records hold beside the digest."""
    return isinstance(statement, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "VERSION" for target in statement.targets
    )
