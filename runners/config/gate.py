"""The one gate for configs: what an option may be called, set and read, whoever wrote its file.

A folder of options may come from a stranger, and so may a record whose cell is composed again. Composing a cell
must therefore run nobody's code: options have plain names, set their own groups alone, read the environment nowhere,
and what is resolved once holds nothing that could be resolved again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from functools import cache, wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.defaults_list import Overrides
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException
from omegaconf import Container, Node, OmegaConf

from benchmark.errors import ConfigError
from runners.config.catalogue import GROUPS
from runners.config.yaml_limits import refuse_bomb

OPTION = re.compile(r"(?!\.+$)[\w.-]+", flags=re.ASCII)
OWN = frozenset({*GROUPS, "seed", "lists"})
"""Keys that an option of a search path may set; never ``hydra``, ``trusted``, ``store`` or the machine's other keys."""
TRUSTED = re.compile(r"(\w+\.)+", flags=re.ASCII)
ENVIRONMENT = ("data.root", "store")
"""The only keys that may be filled from the environment, which may hold secrets; they are in no record."""
PLAIN = (ValueError, TypeError, ArithmeticError, RecursionError, AssertionError)
"""Errors that Python raises within Hydra on values such as a number of 5,000 digits, without a name of Hydra's own."""

MOST_INTERPOLATIONS = 1_000
"""In one part of a cell, which has some dozens: a few lines that stand for each other twice over mean millions."""
_resolved: ContextVar[list[int] | None] = ContextVar("_resolved", default=None)


# -- names ------------------------------------------------------------------------------------------------------------
def option_name(name: str, what: str = "option") -> str:
    """Return ``name`` if it can be that of an option: ``krum``, or ``papers/gan`` in a folder of its group.

    Raises:
        ConfigError: it could lead to another folder.
    """
    if not all(OPTION.fullmatch(part) for part in name.split("/")):
        raise ConfigError(
            f"The {what} {name!r} is no name: an option is called by letters, digits, '_', '-' and '.', and stands in "
            "conf/ or in a folder of hydra.searchpath."
        )
    return name


def refuse_no_option(override: Override, repo: Any) -> None:
    """Raise ConfigError if an override gives a group anything but the name of an option or a list of names.

    Args:
        repo: Hydra's repository of options, which knows the groups.
    """
    group = override.key_or_group
    if override.is_sweep_override() or override.is_delete() or not repo.group_exists(group):
        return
    value = override.value()
    if not isinstance(value, str | list | dict):  # a mapping sets the group's entries
        raise ConfigError(
            f"{override.input_line} names no option of {group}; write {group}=NAME, or leave it out for the default."
        )


# -- values -----------------------------------------------------------------------------------------------------------
def refuse_interpolations(node: Any, path: str) -> None:
    """Raise ConfigError if the resolved ``node`` holds ``${``, which would be resolved again when it is built."""
    if isinstance(node, str):
        if "${" in node:
            raise ConfigError(f"{path} holds an interpolation after all were resolved: {node!r}; give its value.")
    elif isinstance(node, Mapping):
        for name, value in node.items():
            refuse_interpolations(name, path)
            refuse_interpolations(value, f"{path}.{name}")
    elif isinstance(node, list | tuple):
        for index, item in enumerate(node):
            refuse_interpolations(item, f"{path}[{index}]")


def resolved(node: Any) -> Any:
    """Return ``node`` as plain data with its interpolations resolved, once each and not endlessly many.

    Raises:
        ConfigError: there are more than :data:`MOST_INTERPOLATIONS`, because some stand for others, many times over.
        OmegaConfBaseException: one cannot be resolved, or a value is missing.
    """
    token = _resolved.set([0])
    try:
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    finally:
        _resolved.reset(token)


def environment(name: str, *default: Any, _node_: Node, _parent_: Container) -> Any:
    """The resolver ``${oc.env:NAME,DEFAULT}``, in :data:`ENVIRONMENT` and Hydra's own settings only."""
    place = str(_node_._get_full_key(""))
    if place not in ENVIRONMENT and not place.startswith("hydra."):
        raise ConfigError(
            f"{place} reads the environment variable {name}; only {' and '.join(ENVIRONMENT)} may. Give its value."
        )
    if name in os.environ or not default:
        try:
            return os.environ[name]
        except KeyError:
            raise ConfigError(f"{place} needs the environment variable {name}, which is not set.") from None
    return None if default[0] is None else str(default[0])


def trusted_prefixes(value: Any) -> tuple[str, ...]:
    """Return the package prefixes of ``trusted=[my_package.]``.

    Raises:
        ConfigError: it is no list, or one of its items does not end in a dot.
    """
    given = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    if not isinstance(given, list | tuple) or not all(isinstance(p, str) and TRUSTED.fullmatch(p) for p in given):
        raise ConfigError(
            f"trusted must be a list of package names that end in a dot, e.g. trusted=[my_package.], got {given!r}."
        )
    return tuple(given)


# -- search paths -----------------------------------------------------------------------------------------------------
def check_search_path(arguments: Sequence[str]) -> None:
    """Raise ConfigError if the command line names a folder of options that does not exist or whose code it distrusts.

    Hydra imports the package of ``pkg://name``; the options of ``file:///folder`` are read and nothing is run.
    """
    places, prefixes = search_places(arguments), trusted_of(arguments)
    for place in places:
        scheme, _, rest = place.rpartition("://")
        top = rest.partition(".")[0]
        if scheme == "pkg" and not f"{rest}.".startswith(prefixes or ("/",)):
            raise ConfigError(f"{place} imports the package {top}; if you trust it, say so: trusted=[{top}.].")
        if scheme == "pkg" and find_spec(top) is None:
            raise ConfigError(f"{place}: no package {top} is installed here; install it, e.g. pip install -e {top}.")
        if scheme in ("", "file") and not Path(rest).is_dir():
            raise ConfigError(f"The folder {rest} of hydra.searchpath does not exist.")


def search_places(arguments: Sequence[str]) -> list[str]:
    """Return the entries of ``hydra.searchpath`` on the command line.

    Raises:
        ConfigError: it is no list.
    """
    places = _given(arguments, "hydra.searchpath", None) or []
    if not isinstance(places, list):
        raise ConfigError(f"hydra.searchpath must be a list, e.g. hydra.searchpath=[file:///my/conf], got {places!r}.")
    return [str(place) for place in places]


def trusted_of(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the package prefixes of ``trusted`` on the command line; see :func:`trusted_prefixes`."""
    return trusted_prefixes(_given(arguments, "trusted", ()))


def _given(arguments: Sequence[str], key: str, default: Any) -> Any:
    """Return the value of the last override of ``key``, or ``default`` without one."""
    lines = [line for line in arguments if line.lstrip("+").partition("=")[0] == key]
    given = OverridesParser.create().parse_overrides(lines)
    return given[-1].value() if given else default


@cache
def install() -> None:
    """Put the gate between Hydra and the files that it reads, in this process. Harmless when repeated."""
    OmegaConf.register_new_resolver("oc.env", environment, replace=True)
    load, embed = ConfigRepository.load_config, ConfigLoaderImpl._load_single_config
    choose, resolve = Overrides.__init__, Container.resolve_parse_tree
    parse, compose = OverridesParser.parse_rule, ConfigLoaderImpl.load_configuration

    @wraps(parse)
    def parse_rule(self: OverridesParser, s: str, rule_name: str) -> Any:
        try:
            return parse(self, s, rule_name)
        except PLAIN as error:
            raise OverrideParseException(override=s, message=str(error)) from error

    @wraps(compose)
    def load_configuration(self: ConfigLoaderImpl, *given: Any, **named: Any) -> Any:
        try:
            return compose(self, *given, **named)
        except PLAIN as error:
            told = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(f"The options cannot be composed: {told}.") from error

    @wraps(load)
    def load_config(self: ConfigRepository, config_path: str) -> Any:
        option_name(config_path.removesuffix(".yaml"))
        source = self._find_object_source(config_path=config_path, object_type=ObjectType.CONFIG)
        if source is not None and source.scheme() == "file":  # a package is imported, and so trusted with more
            refuse_bomb(Path(source.path) / f"{config_path.removesuffix('.yaml')}.yaml")
        return load(self, config_path)

    @wraps(resolve)
    def resolve_parse_tree(self: Container, *args: Any, **kwargs: Any) -> Any:
        if count := _resolved.get():
            count[0] += 1
            if count[0] > MOST_INTERPOLATIONS:
                raise ConfigError(f"The options hold more than {MOST_INTERPOLATIONS} interpolations; give values.")
        return resolve(self, *args, **kwargs)

    @wraps(choose)
    def choose_options(self: Overrides, repo: Any, overrides_list: list[Any]) -> None:
        for override in overrides_list:
            refuse_no_option(override, repo)
        choose(self, repo=repo, overrides_list=overrides_list)

    @wraps(embed)
    def load_single_config(self: ConfigLoaderImpl, default: Any, repo: Any) -> Any:
        found = embed(self, default, repo)
        path, package = str(default.config_path), str(default.package or "")
        strange = str(found.provider).startswith(("hydra.searchpath", "command-line"))
        misplaced = package.split(".")[0] == "hydra" and not path.startswith("hydra/")
        own = set(map(str, found.config)) if OmegaConf.is_dict(found.config) else set()
        if misplaced or (strange and own - OWN):
            taken = min(own - OWN, default="hydra")
            raise ConfigError(
                f"The option {path} sets {taken!r}; an option may set its own group, not the machine room."
            )
        return found

    OverridesParser.parse_rule = parse_rule  # type: ignore[method-assign]
    ConfigLoaderImpl.load_configuration = load_configuration  # type: ignore[method-assign]
    ConfigRepository.load_config = load_config  # type: ignore[method-assign]
    Container.resolve_parse_tree = resolve_parse_tree  # type: ignore[method-assign]
    Overrides.__init__ = choose_options  # type: ignore[method-assign]
    ConfigLoaderImpl._load_single_config = load_single_config  # type: ignore[method-assign]
