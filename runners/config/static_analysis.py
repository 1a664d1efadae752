"""What a class says of itself, read from its source without importing it (importing would load torch)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from typing import Any

from benchmark.errors import ConfigError
from runners.config.identity import module_file

MISSING = object()


@cache
def _module(name: str) -> ast.Module | None:
    path = module_file(name)
    return ast.parse(path.read_text(encoding="utf-8")) if path else None


@cache
def lineage(target: str) -> tuple[str, ...]:
    """Dotted names of ``target`` (``package.module.Class``) and its bases, in the order of inheritance.

    A base whose source is not Python (``abc.ABC`` is, a builtin is not) ends its branch.
    """
    target = _canonical(target)
    found = [target]
    for base in _class(target).bases:
        name = _resolve(base, target)
        if name and _find(name) is not None:
            found += [line for line in lineage(name) if line not in found]
    return tuple(found)


def attribute(target: str, name: str) -> Any:
    """The value of the class attribute ``name``, inherited or own; :data:`MISSING` where none is assigned.

    Raises:
        ConfigError: it is not made of literals, constants of modules, ``frozenset`` and ``|``.
    """
    for owner in lineage(target):
        for statement in _class(owner).body:
            if (value := _assigned(statement, name)) is not None:
                return _value(value, owner)
    return MISSING


def overridden(target: str, names: frozenset[str], base: str) -> frozenset[str]:
    """Those of ``names`` that ``target`` or a class between it and ``base`` defines or assigns."""
    own = lineage(target)
    nearer = own[: own.index(base)] if base in own else own
    return names & {name for owner in nearer for name in _defined(_class(owner))}


def constant(target: str) -> Any:
    """The value of a module's constant, ``package.module.NAME``."""
    module, _, name = target.rpartition(".")
    tree = _module(module)
    for statement in tree.body if tree else []:
        if (value := _assigned(statement, name)) is not None:
            return _value(value, target)
    origin = _resolve(ast.Name(name), target)
    if origin and origin != target:
        return constant(origin)
    raise ConfigError(f"{target} is not a constant that can be read without importing it.")


# -- where names lead -------------------------------------------------------------------------------------------------
def _find(target: str) -> ast.ClassDef | None:
    """The class statement, also where ``target``'s module only imports it."""
    module, _, name = target.rpartition(".")
    tree = _module(module)
    if tree is None:
        return None
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return statement
    origin = _resolve(ast.Name(name), target)
    return _find(origin) if origin and origin != target else None


def _class(target: str) -> ast.ClassDef:
    found = _find(target)
    if found is None:
        raise ConfigError(f"There is no source of a class {target}.")
    return found


def _canonical(target: str) -> str:
    """``target`` under the module that defines it."""
    module, _, name = target.rpartition(".")
    tree = _module(module)
    if tree and any(isinstance(s, ast.ClassDef) and s.name == name for s in tree.body):
        return target
    origin = _resolve(ast.Name(name), target)
    return _canonical(origin) if origin and origin != target else target


def _resolve(node: ast.expr, within: str) -> str | None:
    """The dotted name that ``node`` stands for in the module of ``within``."""
    if isinstance(node, ast.Subscript):  # Generic[T]
        return _resolve(node.value, within)
    if isinstance(node, ast.Attribute):
        owner = _resolve(node.value, within)
        return f"{owner}.{node.attr}" if owner else None
    if not isinstance(node, ast.Name):
        return None
    module = within.rpartition(".")[0]
    tree = _module(module)
    for bound, origin in _imports(tree) if tree else ():
        if bound == node.id:
            return origin
    return f"{module}.{node.id}"


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            for alias in statement.names:
                yield alias.asname or alias.name, f"{statement.module}.{alias.name}"
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2


# -- what statements say ----------------------------------------------------------------------------------------------
def _targets(statement: ast.stmt) -> Iterator[tuple[ast.expr, ast.expr]]:
    """(target, value) of every name that the statement assigns; tuples are taken apart."""
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        yield statement.target, statement.value
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
                yield from zip(target.elts, statement.value.elts, strict=True)
            else:
                yield target, statement.value


def _assigned(statement: ast.stmt, name: str) -> ast.expr | None:
    return next((v for t, v in _targets(statement) if isinstance(t, ast.Name) and t.id == name), None)


def _defined(body: ast.ClassDef) -> Iterator[str]:
    for statement in body.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement.name
        yield from (target.id for target, _ in _targets(statement) if isinstance(target, ast.Name))


def _value(node: ast.expr, within: str) -> Any:
    """Evaluate literals, constants, ``frozenset(...)``, ``{**a}`` and unions; see :func:`attribute`."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(value for item in items for value in _items(item, within))
        case ast.Set(elts=items):
            return frozenset(value for item in items for value in _items(item, within))
        case ast.Dict():
            pairs = zip(node.keys, node.values, strict=True)
            merged: dict[Any, Any] = {}
            for key, item in pairs:
                merged.update(_value(item, within) if key is None else {_value(key, within): _value(item, within)})
            return merged
        case ast.Call(func=ast.Name(id="frozenset" | "set" | "tuple"), args=arguments):
            return frozenset(_value(arguments[0], within)) if arguments else frozenset()
        case ast.BinOp(op=ast.BitOr()):
            return _value(node.left, within) | _value(node.right, within)
        case ast.Name() if name := _resolve(node, within):
            return constant(name)
    raise ConfigError(f"{ast.unparse(node)} in {within} cannot be read without importing it.")


def _items(node: ast.expr, within: str) -> tuple[Any, ...]:
    if isinstance(node, ast.Starred):
        return tuple(_value(node.value, within))
    return (_value(node, within),)
