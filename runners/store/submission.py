"""Submissions: records of somebody else's defense or threat on a board, in one file that a reviewer can check.

A submission is a zip with ``manifest.json``, ``records/<key>.json`` and, to be read before it is trusted, the YAML and
Python file of each component in ``component/``. It holds no picture. Whoever opens one treats it as a stranger's file:
nothing is unpacked to disk, sizes and names are limited, and each record passes the gate (:mod:`runners.store.gate`).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from benchmark.errors import GauntletError
from runners.config.identity import canonical, digest
from runners.store import gate
from runners.store.errors import StoreError
from runners.store.gate import Gate, visible
from runners.store.records import FINISHED, write_atomically

Record = Mapping[str, Any]
Config = Mapping[str, Any]

LARGEST = 32 << 20
"""Bytes of a submission; one of 2,000 records has about 3 MB."""
LARGEST_IN_ALL = 256 << 20
MOST_FILES = 20_000
MANIFEST = "manifest.json"
FILE = re.compile(
    r"manifest\.json|records/[0-9a-f]{64}\.json|component/(defense|threat)/\w[\w.-]{0,99}\.(yaml|py)", flags=re.ASCII
)
ENTRY = b"PK\x01\x02"
"""Begins each file's entry in the directory of a zip."""
UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError)
"""Errors of the zip library on a file that is damaged, encrypted, or packed in a way that it does not know."""
EPOCH = (1980, 1, 1, 0, 0, 0)


class BadSubmission(GauntletError):
    """A file that is no submission, or whose content is not what it must be."""


# -- what belongs to a submission -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Brought:
    """Options that a submission brings to a board: a defense, a threat or both."""

    defense: str | None = None
    threat: str | None = None

    def __str__(self) -> str:
        return " and ".join(f"{kind}={option}" for kind, option in self.options())

    def options(self) -> list[tuple[Literal["defense", "threat"], str]]:
        """Return kind and name of each."""
        both: list[tuple[Literal["defense", "threat"], str | None]] = [
            ("defense", self.defense),
            ("threat", self.threat),
        ]
        return [(kind, name) for kind, name in both if name]

    def groups(self, config: Config) -> tuple[str, ...]:
        """Return the groups in which a cell has one of them; a stack of defenses may hold others beside it."""
        defense = any(node["name"] == self.defense for node in config["defense"])
        threat = config["threat"]["name"] == self.threat
        return tuple(group for group, has in (("defense", defense), ("threat", threat)) if has)


def belonging(records: Iterable[Record], brought: Brought, planned: Sequence[Config]) -> Iterator[Record]:
    """Yield those of ``records`` that have a brought option and are a planned cell in everything else."""
    known: dict[tuple[str, ...], set[str]] = {}
    for record in records:
        if groups := brought.groups(record["config"]):
            if groups not in known:
                known[groups] = {_without(config, *groups) for config in planned}
            if _without(record["config"], *groups) in known[groups]:
                yield record


def lacking(records: Sequence[Record], brought: Brought, planned: Sequence[Config]) -> list[Config]:
    """Return the cells that a full submission would hold beside ``records``.

    A defense, in each form in which it was played, has to meet what ``none`` meets on the board; a threat has to attack
    every planned cell.
    """
    there = {record["key"] for record in records}
    found: dict[str, Config] = {}
    for group, _ in brought.options():
        bare = [config for config in planned if group == "threat" or _names(config) == ["none"]]
        for form in _forms(records, brought, group):
            for config in bare:
                wanted = {**config, group: form}
                if (key := digest(wanted)) not in there:
                    found[key] = wanted
    return list(found.values())


def _forms(records: Iterable[Record], brought: Brought, group: str) -> list[Any]:
    """Return the identities of a brought option, or of the stacks that hold it, as the records have them."""
    own = [record["config"][group] for record in records if group in brought.groups(record["config"])]
    return [*{canonical(form): form for form in own}.values()]


def _without(config: Config, *groups: str) -> str:
    return canonical({name: part for name, part in config.items() if name not in groups})


def _names(config: Config) -> list[str]:
    return [node["name"] for node in config["defense"]]


# -- the manifest -----------------------------------------------------------------------------------------------------
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}$")]
Text = Annotated[str, StringConstraints(max_length=2_000)]
Key = Annotated[str, StringConstraints(pattern=f"^{gate.KEY.pattern}$")]
STRICT = ConfigDict(strict=True, extra="forbid")


class Component(BaseModel):
    """A brought option: its parameters in each form that was played, and the package that it comes from."""

    model_config = STRICT
    kind: Literal["defense", "threat"]
    option: Name
    parameters: list[Any]
    provider: Annotated[str, StringConstraints(pattern=r"^\w{1,100}$")]
    release: Text | None


class Group(BaseModel):
    """Cells that differ in the seed alone. ``reason``: why the two do not meet, for a pair that is refused."""

    model_config = STRICT
    threat: Text
    defense: Text
    place: Text
    seeds: list[int]
    reason: Text | None = None


class Manifest(BaseModel):
    """Description of a submission by itself; its records tell all of it anew but ``commands`` and ``overrides``."""

    model_config = STRICT
    form: Literal[1] = 1
    board: Name
    board_version: int
    components: Annotated[list[Component], Field(min_length=1, max_length=2)]
    suite: Text
    cells: int
    failed: int
    missing: list[Group]
    refused: list[Group]
    overrides: list[Text]
    commands: dict[Key, Annotated[str, StringConstraints(max_length=20_000)]]

    @property
    def brought(self) -> Brought:
        return Brought(**{part.kind: part.option for part in self.components})


def components(records: Sequence[Record], brought: Brought, release: Callable[[str], str | None]) -> list[Component]:
    """Return the brought options as the records tell them.

    Args:
        release: package -> its installed version, or None.
    """
    found = []
    for kind, option in brought.options():
        forms = _forms(records, brought, kind)
        nodes = [node for form in forms for node in (form if kind == "defense" else [form]) if node["name"] == option]
        if not nodes:
            raise GauntletError(f"No record of a cell of the board has {kind}={option}; play some first.")
        provider = nodes[0]["provider"]
        found.append(
            Component(kind=kind, option=option, parameters=forms, provider=provider, release=release(provider))
        )
    return found


def grouped(cells: Iterable[tuple[Config, str | None]]) -> list[Group]:
    """Return cells, each with the reason why it is refused or None, with those that differ in the seed as one."""
    found: dict[str, Group] = {}
    for config, reason in cells:
        group = found.get(text := _without(config, "seed"))
        if group is None:
            adaptive = " (adaptive)" if config["threat"].get("adaptive") is True else ""
            group = found[text] = Group(
                threat=config["threat"]["name"] + adaptive,
                defense="+".join(_names(config)),
                place="/".join(config[part]["name"] for part in ("dataset", "model", "setting", "scale")),
                seeds=[],
                reason=reason,
            )
        group.seeds.append(int(config["seed"]))
    return list(found.values())


# -- the file ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Submission:
    """A submission as read.

    Attributes:
        records: by key.
        files: name -> content, of the components' sources.
    """

    manifest: Manifest
    records: dict[str, Record]
    files: dict[str, bytes]

    def sample(self, count: int) -> list[Record]:
        """Return ``count`` finished records, drawn by a digest of all records and so the same ones for everybody."""
        whole = digest([self.records[key] for key in sorted(self.records)])
        finished = [key for key, record in self.records.items() if record["status"] in FINISHED]
        order = sorted(finished, key=lambda key: hashlib.sha256(f"{whole} {key}".encode()).hexdigest())
        return [self.records[key] for key in order[:count]]


def write(path: Path, manifest: Manifest, records: Iterable[Record], files: Mapping[str, bytes]) -> None:
    """Write a submission, the same bytes for the same content; pictures are left out of the records.

    Raises:
        BadSubmission: nobody could read it, because it is too large.
    """
    content = {f"component/{name}": file for name, file in files.items()}
    for record in records:
        plain = {**record, "media": {}, "captions": {}}
        content[f"records/{record['key']}.json"] = json.dumps(plain, allow_nan=False, indent=1).encode()
    content[MANIFEST] = manifest.model_dump_json(indent=1).encode()
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as file:
        for name in sorted(content):
            file.writestr(zipfile.ZipInfo(name, EPOCH), content[name], zipfile.ZIP_DEFLATED)
    _read(whole.getvalue(), path)
    write_atomically(path, whole.getvalue())


def read(path: Path) -> Submission:
    """Read a submission.

    Raises:
        BadSubmission: it is none, or damaged, or larger than :data:`LARGEST`, or a record does not pass the gate.
    """
    try:
        return _read(gate.read_file(path, LARGEST), path)
    except StoreError as error:
        raise BadSubmission(str(error)) from error


def _read(content: bytes, path: Path) -> Submission:
    try:
        files = dict(_files(content))
    except UNREADABLE as error:
        raise BadSubmission(f"{path} is no submission, or damaged: {visible(str(error))}.") from error
    if MANIFEST not in files:
        raise BadSubmission(f"{path} is no submission: it has no {MANIFEST}.")
    manifest = _manifest(files.pop(MANIFEST), path)
    records, judge = {}, Gate()
    for name, text in files.items():
        if name.startswith("records/"):
            key = Path(name).stem
            records[key] = _record(text, key, judge, path)
    if len(records) != manifest.cells:
        raise BadSubmission(f"{path} holds {len(records)} records, but its manifest tells of {manifest.cells}.")
    return Submission(manifest, records, {name: text for name, text in files.items() if name.startswith("component/")})


def _files(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file of a zip, none of which is unpacked before all are allowed."""
    if content.count(ENTRY) > MOST_FILES:
        raise ValueError(f"it has more than {MOST_FILES} files")
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        entries = file.infolist()
        names = [entry.filename for entry in entries]
        if strange := [name for name in names if not FILE.fullmatch(name)]:
            raise ValueError(f"it has a file {strange[0][:100]!r}, which no submission has")
        if len(set(names)) < len(names):
            raise ValueError("it has two files of one name")
        if any(stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG) for entry in entries):
            raise ValueError("it has a link")
        sizes = [entry.file_size for entry in entries]
        if sum(sizes) > LARGEST_IN_ALL or max(sizes, default=0) > gate.LARGEST:
            raise ValueError(f"it unpacks to more than {gate.LARGEST} bytes a file or {LARGEST_IN_ALL} in all")
        for entry in entries:
            with file.open(entry) as part:
                yield entry.filename, part.read(entry.file_size + 1)  # so that an entry that lies ends in an error


def _manifest(text: bytes, path: Path) -> Manifest:
    try:
        return Manifest.model_validate(gate.parse(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        told = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise BadSubmission(f"The manifest of {path} cannot be read ({visible(told)}).") from error
    except ValueError as error:
        raise BadSubmission(f"The manifest of {path} cannot be read ({visible(str(error))}).") from error


def _record(text: bytes, key: str, judge: Gate, path: Path) -> Record:
    try:
        record: Record = gate.parse(text)
        fault = judge.fault(record, key)
    except ValueError as error:
        fault = str(error)
    if fault:
        raise BadSubmission(f"The record {key[:16]} of {path} cannot be read ({visible(fault)}).")
    return record
