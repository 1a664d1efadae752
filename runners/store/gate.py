"""The one gate for records: what a record must be, whoever wrote it, before any command looks at it.

A store may come from a stranger. A record that does not pass is *damaged*: reading commands leave it out and name it
once (:func:`tell`), a sweep plays its cell again, and a command about that very record refuses it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from runners.config.identity import SINGLE, canonical
from runners.store.errors import StoreError

SCHEMA = 2
KEY = re.compile(r"[0-9a-f]{64}")
OPTION = re.compile(r"(?!\.+$)[\w.-]{1,100}", flags=re.ASCII)
"""Name of an option, and of each key of a component's parameters."""
LARGEST = 4 << 20  # bytes of a loose record; published ones have at most 10 kB
LARGEST_PICTURE = 64 << 20
DEEPEST = 24  # levels of nesting; published ones have 4
STATUSES = ("ok", "failed", "timeout", "diverged")
TOLD_AT_ONCE = 50

Record = Mapping[str, Any]


class Fault(NamedTuple):
    """A damaged record: its file, or table and key, and what is wrong with it."""

    place: str
    reason: str


# -- types ------------------------------------------------------------------------------------------------------------
Finite = Annotated[float, AllowInfNan(False)]
Number = Finite | None
"""A whole number passes as well."""
Count = Annotated[Finite, Field(ge=0)]
Short = Annotated[str, StringConstraints(max_length=200)]


class _Fields(TypedDict, total=False):
    """Every field of a record but the nested ones that many records share."""

    __pydantic_config__ = ConfigDict(strict=True, extra="ignore")  # type: ignore[misc]

    schema: Literal[2]
    key: Annotated[str, StringConstraints(pattern=f"^{KEY.pattern}$")]
    sweep: Short | None
    status: Literal["ok", "failed", "timeout", "diverged"]
    reason: str
    utility: dict[Short, Number]
    risk: dict[Short, Number]
    cost: dict[Short, Number]
    diagnostics: dict[Short, Any]
    curves: dict[Short, list[Number]]
    media: dict[Short, Short]
    captions: dict[Short, list[str]]
    seed: int
    started: Short
    seconds: Count
    peak_memory_mb: Count | None
    device: Short
    data: Short | None


class _Component(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}$")]
    provider: Annotated[str, StringConstraints(pattern=r"^\w{1,100}$")]
    version: int | None


class _Scale(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}$")]


class _Floor(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")
    metric: Short
    at_least: Finite


class _Facts(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")
    family: Short | None = None
    setting: Short | None = None
    surface: Short | None = None
    headline: Short | None = None
    control: Short | None = None
    floor: _Floor | None = None
    adaptive: bool = False
    data_path: Annotated[str, StringConstraints(max_length=4096)] | None = None


class _Code(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")
    version: int | None = None
    digest: Short | None = None


class _Versions(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")
    components: dict[Short, _Code] = {}


_FIELDS = TypeAdapter(_Fields)
KNOWN = _Fields.__annotations__.keys() | {"config"}
NEEDED = frozenset(KNOWN | {"facts", "versions"})
"""Fields of every record: readers ask for any of them."""
_SHARED: dict[str, TypeAdapter[Any]] = {
    **dict.fromkeys(SINGLE, TypeAdapter(_Component)),
    "defense": TypeAdapter(Annotated[list[_Component], Field(max_length=50)]),
    "scale": TypeAdapter(_Scale),
    "precision": TypeAdapter(Literal["tf32", "bf16"]),
    "facts": TypeAdapter(_Facts),
    "versions": TypeAdapter(_Versions),
}


# -- ranges -----------------------------------------------------------------------------------------------------------
SLACK = 1e-5
"""Excess that rounding in 32 bits may add to a share or a similarity."""
SHARES = re.compile(
    r"(.*_)?(accuracy|auc|asr|error_rate|identification_rate|sensitivity|specificity)"
    r"|attack_success|worst_case_success|success_within_radius|tpr_at_\w+|reidentified_at_\w+|recovered_share|values_recovered"
)


@cache
def bounds(section: str, metric: str) -> tuple[float, float] | None:
    """Return the least and the largest value that ``metric`` of ``section`` can have, or None where any will do."""
    if section == "cost":
        return 0.0, math.inf
    if metric == "ssim":
        return -1.0, 1.0
    return (0.0, 1.0) if SHARES.fullmatch(metric) else None


def _out_of_range(record: Record) -> str | None:
    for section in ("utility", "risk", "cost"):
        for name, value in record.get(section, NOTHING).items():
            limits = bounds(section, name)
            if limits and value is not None and not limits[0] - SLACK <= value <= limits[1] + SLACK:
                return f"{section}.{name} is {value}, which is not between {limits[0]:g} and {limits[1]:g}"
    for name, value in record.get("diagnostics", NOTHING).items():
        kind = type(value)
        if kind is float and not math.isfinite(value):
            return f"diagnostics.{name} is {value}"
        if kind not in (float, int, str, bool, NoneType):
            return f"diagnostics.{name} is neither a number nor a text"
    return None


NOTHING: dict[str, Any] = {}


# -- a record ---------------------------------------------------------------------------------------------------------
class Gate:
    """Finder of faults in records; parts of several records that are one object are looked at once."""

    def __init__(self) -> None:
        # Both keep the objects, so that no other one gets their identity.
        self.parts: dict[tuple[str, int], tuple[str | None, str, Any]] = {}
        self.cells: dict[tuple[int, ...], tuple[str | None, str, str, Any]] = {}

    def fault(self, record: Any, key: str, *, whole: bool = True) -> str | None:
        """Return what is wrong with ``record``, or None.

        Args:
            key: the key by which it was found, e.g. its file's name.
            whole: it must have every field (:data:`NEEDED`); else the fields that it has are held against the schema.
                Where it has its ``config``, the key must be the digest of it.
        """
        try:
            return self._fault(record, key, whole)
        except ValidationError as error:
            return _first(error)
        except (ValueError, TypeError, RecursionError, AttributeError) as error:
            return str(error) or type(error).__name__

    def _fault(self, record: Any, key: str, whole: bool) -> str | None:
        if not isinstance(record, dict):
            return "it is no mapping"
        if whole and not record.keys() >= NEEDED:
            return f"it lacks {', '.join(sorted(NEEDED - record.keys()))}"
        if "schema" in record and record["schema"] != SCHEMA:
            return f"schema is {record['schema']!r}, not {SCHEMA}"
        _FIELDS.validate_python(record)
        for name in record.keys() - KNOWN:
            if fault := self._shared(name, record[name])[0]:
                return fault
        if record["key"] != key:
            return f"it has the key {record['key'][:16]}"
        if "config" in record and (fault := self._config(record, key)):
            return fault
        return _out_of_range(record) or _foreign_picture(record, key)

    def _config(self, record: Record, key: str) -> str | None:
        config = record["config"]
        if not isinstance(config, dict):
            return "config is no mapping"
        place = tuple([id(part) for name, part in config.items() if name != "seed"])
        seed = config.get("seed")
        if type(seed) is not int:
            return "config.seed is no whole number"
        if record.get("seed", seed) != seed:
            return f"seed is {record['seed']} but config.seed is {seed}"
        known = self.cells.get(place)
        if known is None:
            known = self.cells[place] = (*self._spelled(config), config)
        fault, before, after, _ = known
        if fault:
            return fault
        if hashlib.sha256(f"{before}{seed}{after}".encode()).hexdigest() != key:
            return "its key is not the digest of its config"
        return None

    def _spelled(self, config: dict[str, Any]) -> tuple[str | None, str, str]:
        """Return what is wrong with a config, and its canonical text before and after the seed."""
        if missing := {*SINGLE, "defense", "scale", "seed"} - config.keys():
            return f"config lacks {', '.join(sorted(missing))}", "", ""
        texts = {}
        for name in sorted(config.keys() - {"seed"}):
            fault, texts[name] = self._shared(name, config[name])
            if fault:
                return fault, "", ""
        before = ",".join([f"{json.dumps(name)}:{text}" for name, text in texts.items() if name < "seed"])
        after = ",".join([f"{json.dumps(name)}:{text}" for name, text in texts.items() if name > "seed"])
        return None, f'{{{before},"seed":', f",{after}}}"

    def _shared(self, name: str, part: Any) -> tuple[str | None, str]:
        """Return what is wrong with a part that several records may share, and its canonical text."""
        found = self.parts.get((name, id(part)))
        if found is None:
            fault, text = _too_deep(part), ""
            try:
                if not fault and name in _SHARED:
                    _SHARED[name].validate_python(part)
                if not fault and name not in ("facts", "versions"):
                    fault, text = _unspeakable(part), canonical(part)
            except ValidationError as error:
                fault = _first(error, name)
            found = self.parts[name, id(part)] = (fault, text, part)
        return found[:2]


def _first(error: ValidationError, *place: str) -> str:
    found = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, (*place, *found['loc']))) or 'the record'}: {found['msg']}"


def _unspeakable(node: Any) -> str | None:
    """Return what an identity holds that no resolved config has: an interpolation, an odd name, a call."""
    if isinstance(node, str):
        return "config holds an interpolation" if "${" in node else None
    if isinstance(node, Mapping):
        for name, value in node.items():
            if not OPTION.fullmatch(name) or name.startswith("_"):
                return f"config has a parameter {name!r}"
            if fault := _unspeakable(value):
                return fault
    elif isinstance(node, list):
        return next((fault for item in node if (fault := _unspeakable(item))), None)
    return None


def _too_deep(node: Any) -> str | None:
    """Return whether ``node`` is nested too deeply."""
    level = [node]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, Mapping):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        if not inner:
            return None
        level = inner
    return f"it is nested more than {DEEPEST} levels deep"


def is_picture(path: Any, key: str) -> bool:
    """Return whether ``path``, relative to a store, is where a picture of the record ``key`` lies."""
    start = f"media/{key[:2]}/{key[:16]}-"
    return isinstance(path, str) and path.startswith(start) and bool(PICTURE.fullmatch(path, len(start)))


PICTURE = re.compile(r"[\w.-]{1,150}\.png", flags=re.ASCII)


def _foreign_picture(record: Record, key: str) -> str | None:
    for name, path in record.get("media", NOTHING).items():
        if not is_picture(path, key):
            return f"media.{name} is {path!r}, which is no picture of its own (media/{key[:2]}/{key[:16]}-NAME.png)"
    return None


# -- files ------------------------------------------------------------------------------------------------------------
def read_file(path: Path, largest: int) -> bytes:
    """Return the content of a regular file that is no link, without ever waiting for it.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it is a link, a pipe, a device or a folder, or larger than ``largest`` bytes.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        why = "it is a link" if path.is_symlink() else error.strerror
        raise StoreError(f"{path} cannot be read: {why}.") from error
    with os.fdopen(handle, "rb") as file:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise StoreError(f"{path} cannot be read: it is no regular file.")
        if state.st_size > largest:
            raise StoreError(f"{path} cannot be read: it has {state.st_size} bytes, more than {largest}.")
        return file.read(largest + 1)


def is_inside(root: Path, path: Path) -> bool:
    """Return whether ``path`` lies below ``root`` and neither it nor a folder on the way is a link."""
    try:
        parts = path.relative_to(root).parts
    except ValueError:
        return False
    return (
        bool(parts)
        and ".." not in parts
        and not any(root.joinpath(*parts[: depth + 1]).is_symlink() for depth in range(len(parts)))
    )


def parse(content: bytes | str) -> Any:
    """Return the JSON document ``content``; NaN, infinity and halves of characters are refused.

    Raises:
        ValueError: it is not JSON, or nested too deeply to be parsed.
    """

    def refuse(name: str) -> None:
        raise ValueError(f"it holds {name}")

    try:
        found = json.loads(content, parse_constant=refuse)
        if (b"\\u" if isinstance(content, bytes) else "\\u") in content:  # type: ignore[operator]
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half of a character") from None
    return found


# -- what is told -----------------------------------------------------------------------------------------------------
_told: set[Fault] = set()


def tell(root: Path, faults: Iterable[Fault]) -> None:
    """Name damaged records on stderr, in one message, those that this process has not named yet."""
    new = [fault for fault in dict.fromkeys(faults) if fault not in _told]
    if not new:
        return
    _told.update(new)
    lines = [f"  {visible(place)}: {visible(reason)}" for place, reason in new[:TOLD_AT_ONCE]]
    if len(new) > TOLD_AT_ONCE:
        lines.append(f"  and {len(new) - TOLD_AT_ONCE} more")
    many = f"{len(new)} records are damaged and were" if len(new) > 1 else "One record is damaged and was"
    head = f"{many} left out of {visible(str(root))}; delete what is named here, or run its sweep again:"
    print("\n".join([head, *lines]), file=sys.stderr)


def forget() -> None:
    """Forget what was told, so that it is told again."""
    _told.clear()


def visible(text: str) -> str:
    r"""Return ``text`` with control characters spelled out (``\x1b``), so that a terminal shows and does not obey them.

    Line ends are spelled out as well: what is one cell of a table stays one.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
