"""Construction of components from their configs: the only place that instantiates classes, and only allowed ones."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from benchmark.errors import ConfigError, GauntletError
from benchmark.parameters import validated
from runners.config.catalogue import components
from runners.config.gate import refuse_interpolations
from runners.config.identity import provider

CONTROL_KEYS = ("_target_", "_partial_", "_args_", "_convert_", "_recursive_")


def build(node: Mapping[str, Any], path: str, trusted: Iterable[str] = ()) -> Any:
    """Instantiate ``node``.

    Args:
        node: a resolved component config with a ``_target_``.
        path: where it stands in the config (``threat``), for messages.
        trusted: prefixes of packages whose classes are allowed beside the components of the catalogue.

    Raises:
        ConfigError: a target is missing or not allowed, or an argument is unknown, absent, of the wrong type or
            out of its bounds.
    """
    check(node, path, tuple(trusted))
    try:
        return instantiate(dict(node), _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, GauntletError):
            raise error.__cause__ from error
        if isinstance(error.__cause__, TypeError | ValueError):
            raise ConfigError(f"{path}: {error.__cause__}") from error
        raise error.__cause__ or error from error


def check(node: Any, path: str, trusted: tuple[str, ...]) -> None:
    """Raise ConfigError if ``node`` or anything nested in it must not be instantiated; see :func:`build`."""
    refuse_interpolations(node, path)
    _check(node, path, trusted)


def _check(node: Any, path: str, trusted: tuple[str, ...]) -> None:
    if isinstance(node, Mapping):
        target = locate(str(node["_target_"]), path, trusted) if "_target_" in node else None
        for key, value in node.items():
            _check(value, f"{path}.{key}", trusted)
        if target is not None:
            _check_call(node, path, target)
    elif isinstance(node, list):
        for index, item in enumerate(node):
            _check(item, f"{path}[{index}]", trusted)


def locate(target: str, path: str, trusted: tuple[str, ...] = ()) -> Any:
    """Return the class or function that ``target`` names, which is imported only if it is allowed.

    Raises:
        ConfigError: no option of the suite names it and it is not of a ``trusted`` package, or it does not exist.
    """
    theirs = target.startswith(trusted) if trusted else False
    if not theirs and target not in components():
        raise ConfigError(
            f"{path}._target_={target} is not allowed: it is the class of no option in conf/; add its package to "
            "`trusted` if it is yours, trusted=[my_package.]."
        )
    try:
        found = get_object(target)
    except Exception as error:  # an import may raise anything
        raise ConfigError(f"{path}._target_={target} cannot be imported: {error}") from error
    # A module reached through another one's imports (benchmark.seeds.random) is not the suite's own.
    origin = str(getattr(found, "__module__", ""))
    if not (origin.startswith(trusted) if theirs else provider(origin) == provider(target)):
        raise ConfigError(f"{path}._target_={target} is not allowed: it was defined in {origin or 'no module'}.")
    return found


def _check_call(node: Mapping[str, Any], path: str, target: Any) -> None:
    """Compare the node's arguments with the signature of ``target``: names first, then types and bounds."""
    signature = inspect.signature(target)
    given = {key: value for key, value in node.items() if key not in CONTROL_KEYS}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for name in given:
        if name not in signature.parameters and not takes_any:
            raise ConfigError(f"{path} has no parameter {name!r}{nearest(name, signature.parameters)}")
    try:
        (signature.bind_partial if node.get("_partial_") else signature.bind)(*node.get("_args_", ()), **given)
    except TypeError as error:
        raise ConfigError(f"{path}: {error}.") from error
    validated(target, given, path)


def nearest(name: str, options: Iterable[str]) -> str:
    """Return the end of a sentence on an unknown ``name``: ``; did you mean X?``, or ``; there is X, Y, Z.``"""
    options = [option for option in options if not option.startswith("_")]
    close = get_close_matches(name, options, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; there is {', '.join(options)}." if options else "."
