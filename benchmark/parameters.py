"""Types of parameters with their bounds, and the one check of a component's parameters against its constructor.

A constructor says what it takes by annotations: ``iterations: Count``, ``loss: Literal["ce", "hinge"]``. The runners
read them before they build a component, a class that derives from :class:`Checked` when it is built by hand, and the
documentation shows them. Bounds that depend on data or on other parameters stay in the constructor.
"""

from __future__ import annotations

import functools
import inspect
import math
import types
import typing
from collections import abc
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from annotated_types import BaseMetadata, Ge, Gt, Interval, Le, Lt
from pydantic import ConfigDict, TypeAdapter, ValidationError

from benchmark.errors import ConfigError
from benchmark.libraries import Library

Count = Annotated[int, Ge(1)]
CountOrZero = Annotated[int, Ge(0)]
AtLeastTwo = Annotated[int, Ge(2)]
Index = Annotated[int, Ge(0)]
"""Of a class, a column or a party."""
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Gt(0), Le(1)]
Fraction = Annotated[float, Ge(0), Le(1)]
BelowOne = Annotated[float, Ge(0), Lt(1)]
Rate = Annotated[float, Gt(0), Lt(1)]
Sizes = Mapping[str, CountOrZero | None]
"""Samples of each split; None takes what the others leave."""
Arguments = Mapping[str, float | bool | str | None]
"""Parameters of a class of another library, which is asked for their names."""

_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_RULES = ConfigDict(strict=True, allow_inf_nan=False)
_SEQUENCES, _MAPPINGS = (abc.Sequence, list), (abc.Mapping, dict)


# -- the check --------------------------------------------------------------------------------------------------------
def validated(target: Callable[..., Any], arguments: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return ``arguments`` as ``target`` takes them: a float with a whole value becomes an int where an int is asked.

    A bool is no number. Arguments that are no plain values (components, tensors) are not looked at, and neither are
    those without an annotation.

    Args:
        target: a class or a function.
        arguments: by name; missing and unknown ones are the call's own business.
        path: where ``target`` stands in a config (``threat``), for messages.

    Raises:
        ConfigError: an argument is of another type or out of its bounds.
    """
    wanted = constructor_hints(target)
    return {
        name: _checked(value, wanted[name], f"{path}.{name}") if name in wanted else value
        for name, value in arguments.items()
    }


@functools.cache
def constructor_hints(target: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the annotations of the parameters of ``target`` by name, with their bounds.

    They are empty where an annotation names something that is imported for type checkers only.
    """
    if not inspect.isclass(target):
        return _hints(target)
    found: dict[str, Any] = {}
    for owner in target.__mro__:  # a constructor that takes **options passes them on to its parent's
        if "__init__" in vars(owner):
            constructor = vars(owner)["__init__"]
            found = {**_hints(constructor), **found}
            if not _takes_any(constructor):
                break
    return found


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError:
        return {}
    return {name: hint for name, hint in hints.items() if name not in ("return", "self")}


def _takes_any(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # written in C, without a signature
        return False
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _checked(value: Any, annotation: Any, path: str) -> Any:
    if not _is_plain(annotation) or (isinstance(value, Mapping) and "_target_" in value):
        return value
    options = _options(annotation)
    if value is None and types.NoneType in options:
        return value
    nested = [option for option in options if get_origin(option) in (*_SEQUENCES, *_MAPPINGS)]
    if nested and not isinstance(value, str):
        inner = get_args(nested[0])
        if get_origin(nested[0]) in _MAPPINGS and isinstance(value, Mapping):
            return {key: _checked(item, inner[1], f"{path}.{key}") for key, item in value.items()}
        if get_origin(nested[0]) in _SEQUENCES and isinstance(value, list | tuple):
            items = [_checked(item, inner[0], f"{path}[{index}]") for index, item in enumerate(value)]
            return items if isinstance(value, list) else tuple(items)
    for attempt in (value, _whole(value)):
        try:
            _adapter(annotation).validate_python(attempt)
        except ValidationError:
            continue
        return attempt
    raise ConfigError(f"{path} must be {_sentence(annotation, value)}, got {value!r}.")


@functools.cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=_RULES)


def _whole(value: Any) -> Any:
    """Return an int for a float with a whole value and for another library's integer, else ``value``."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return value


def _is_plain(annotation: Any) -> bool:
    """Return whether ``annotation`` is made of numbers, texts, names and None, or of lists and mappings of them."""
    origin = get_origin(annotation)
    if origin is Literal:
        return True
    if origin is Annotated:
        return _is_plain(get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType, *_SEQUENCES, *_MAPPINGS):
        return all(_is_plain(option) for option in get_args(annotation))
    return annotation in _KINDS or annotation is types.NoneType


def _options(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (typing.Union, types.UnionType) else (annotation,)


# -- words ------------------------------------------------------------------------------------------------------------
def described(annotation: Any) -> str:
    """Return what ``annotation`` asks for as the end of "must be ..."; empty for a component."""
    if not _is_plain(annotation):
        return ""
    return _joined([_described(option) for option in _options(annotation) if option is not types.NoneType], annotation)


def _sentence(annotation: Any, value: Any) -> str:
    """Return :func:`described`, where a number meets bounds of a number without the word "number"."""
    options = [option for option in _options(annotation) if option is not types.NoneType]
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if number and len(options) == 1 and get_origin(options[0]) is Annotated and get_args(options[0])[0] is float:
        return _joined([_bounds(options[0])], annotation)
    return described(annotation)


def _joined(words: list[str], annotation: Any) -> str:
    return " or ".join([*words, *(["null"] if types.NoneType in _options(annotation) else [])])


def _described(option: Any) -> str:
    origin, inner = get_origin(option), get_args(option)
    if origin is Literal:
        return f"one of {', '.join(inner)}" if len(inner) > 2 else " or ".join(inner)
    if origin in _SEQUENCES:
        return f"a list (each item {described(inner[0])})"
    if origin in _MAPPINGS:
        return f"a mapping (each value {described(inner[1])})"
    if origin is Annotated:
        bounds = _bounds(option)
        between = " of " if bounds.startswith("at least") else " "
        return f"{_KINDS[inner[0]]}{between}{bounds}"
    return _KINDS[option]


def _bounds(annotation: Any) -> str:
    """Return the bounds of an annotated number: ``at least 1``, ``above 0``, ``in (0, 1]``."""
    low: tuple[str, Any] | None = None
    high: tuple[str, Any] | None = None
    for bound in _single(annotation.__metadata__):
        match bound:
            case Ge(ge=limit):
                low = ("[", limit)
            case Gt(gt=limit):
                low = ("(", limit)
            case Le(le=limit):
                high = ("]", limit)
            case Lt(lt=limit):
                high = (")", limit)
    if low and high:
        return f"in {low[0]}{low[1]}, {high[1]}{high[0]}"
    if low:
        return f"{'at least' if low[0] == '[' else 'above'} {low[1]}"
    return f"{'at most' if high[0] == ']' else 'below'} {high[1]}" if high else ""


def _single(metadata: tuple[Any, ...]) -> list[BaseMetadata]:
    """Return the bounds of ``metadata`` one by one; an :class:`annotated_types.Interval` holds several."""
    return [bound for item in metadata for bound in (item if isinstance(item, Interval) else [item])]


# -- classes that check themselves --------------------------------------------------------------------------------
class Checked:
    """A component that checks its parameters against its own constructor, before the constructor runs.

    Class attributes:
        place: where such a component stands in a config, for messages; ``{module}`` is the name of its module.
        library: that it adapts and cannot be built without.
    """

    place: ClassVar[str] = "{module}"
    library: ClassVar[Library | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _checking(cls.__init__)  # type: ignore[method-assign]


def _checking(constructor: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(constructor)
    def checking(self: Checked, *args: Any, **arguments: Any) -> None:
        kind = type(self)
        if kind.__init__ is checking:  # not a parent's constructor, called by a subclass that was checked
            if kind.library and (lacking := kind.library.missing()):
                raise ConfigError(f"{kind.__name__} {lacking}.")
            arguments = validated(kind, arguments, kind.place.format(module=kind.__module__.rpartition(".")[2]))
        constructor(self, *args, **arguments)

    return checking
