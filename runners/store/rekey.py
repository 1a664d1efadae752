"""Give every record of a store its key of schema 2, once: ``python -m runners.store.rekey results``.

Records of schema 1 hold import paths, of modules that have moved since. What a record measured stays as it is; its
``config`` becomes the identity of its cell, its pictures follow the new key, and accepted numbers beside the store
(``baseline/``) the new names of their cells.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from runners.claims import baseline
from runners.config import catalogue
from runners.config.identity import MECHANICS, SINGLE, class_name, digest, labelled, provider
from runners.config.syntax import source_digest
from runners.store.records import SCHEMA
from runners.store.table import frame_of

OLD_LAYOUT = "f062ff8b"
"""The last commit in which the recorded paths exist."""
MEASURED = (
    *("status", "reason", "sweep", "seed", "facts", "utility", "risk", "cost", "diagnostics", "curves", "captions"),
    *("started", "seconds", "peak_memory_mb", "device", "data"),
)
Record = dict[str, Any]


# -- one record -------------------------------------------------------------------------------------------------------
def rekeyed(record: Record) -> Record:
    """Return ``record`` in schema 2, under its new key."""
    old = record["config"]
    config: Record = {group: _identity(old[group]) for group in SINGLE}
    config["defense"] = [_identity(node) for node in old["defense"]]
    config |= {"scale": old["scale"], "seed": old["seed"]}
    assert config.keys() == old.keys(), sorted(old)
    key = digest(config)
    components = {label: _component(label, node, record) for label, node in sorted(_old_nodes(old))}
    assert components.keys() == {label for label, _ in labelled(config)}
    media = {name: _picture(path, record["key"], key) for name, path in record["media"].items()}
    versions = record["versions"] | {"components": components}
    new = record | {"schema": SCHEMA, "key": key, "config": config, "media": media, "versions": versions}
    assert new.keys() == record.keys()
    return new


def _identity(node: Any) -> Any:
    """Return the identity of an old node, by what the record says of it alone."""
    if isinstance(node, list):
        return [_identity(item) for item in node]
    if not isinstance(node, dict):
        return node
    rest = {key: _identity(value) for key, value in node.items() if key not in (*MECHANICS, "name", "version")}
    if "_target_" not in node:
        return {key: _identity(value) for key, value in node.items()}
    assert "_args_" not in node
    target = node["_target_"]
    called = {"name": node["name"]} if "name" in node else {"class": class_name(target)}
    return {**called, "provider": provider(target), "version": node["version"], **rest}


def _old_nodes(config: Record) -> Iterator[tuple[str, Record]]:
    for label, node in [
        *((f"{group}/{config[group]['name']}", config[group]) for group in SINGLE),
        *((f"defense/{node['name']}", node) for node in config["defense"]),
    ]:
        yield label, node
        yield from ((class_name(inner["_target_"]), inner) for inner in _inner(list(node.values())))


def _inner(node: Any) -> Iterator[Record]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _inner(item)


def _component(label: str, node: Record, record: Record) -> dict[str, Any]:
    """Return version and digest; the digest only where the record's source is the last one of the old layout."""
    recorded = (record["versions"]["components"].get(node["_target_"]) or {}).get("source")
    same = recorded is not None and recorded == _old_source(node["_target_"])
    today = catalogue.target(label, provider(node["_target_"])) if same else None
    return {"version": node["version"], "digest": source_digest(today) if today else None}


@cache
def _old_source(target: str) -> str | None:
    parts = target.split(".")
    for depth in range(len(parts), 0, -1):
        for path in ("/".join(parts[:depth]) + ".py", "/".join(parts[:depth]) + "/__init__.py"):
            if path in _old_files():
                shown = subprocess.run(["git", "show", f"{OLD_LAYOUT}:{path}"], capture_output=True, check=True)
                return hashlib.sha256(shown.stdout).hexdigest()[:16]
    return None


@cache
def _old_files() -> frozenset[str]:
    listed = ["git", "ls-tree", "-r", "--name-only", OLD_LAYOUT]
    return frozenset(subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines())


def _picture(path: str, before: str, now: str) -> str:
    start = f"media/{before[:2]}/{before[:16]}-"
    assert path.startswith(start), path
    return f"media/{now[:2]}/{now[:16]}-{path.removeprefix(start)}"


# -- accepted numbers -------------------------------------------------------------------------------------------------
def old_name(config: Record) -> str:
    """Return what the cell group of an old ``config`` was called among the accepted numbers."""
    return digest_exactly(_unversioned({name: part for name, part in config.items() if name != "seed"}))[:16]


def digest_exactly(value: Any) -> str:
    """Return the digest as keys of schema 1 took it, in which 1 and 1.0 are two numbers."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _unversioned(node: Any) -> Any:
    if isinstance(node, list):
        return [_unversioned(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {name: _unversioned(item) for name, item in node.items() if name != "version" or "_target_" not in node}


def accepted(folder: Path, records: list[tuple[Record, Record]]) -> str:
    """Rename the cells of the accepted numbers in ``folder``; says how many there are.

    Labels stay, but those of cells with a parameter ``target``: each showed the import path as a second value of it.
    """
    names = {old_name(old["config"]): baseline.name_of(new["config"]) for old, new in records}
    assert len(set(names.values())) == len(names), "two cell groups have one new name"
    numbers = baseline.read(folder)
    lost = sorted({number.label for number in numbers if number.cell not in names})
    table, configs = frame_of([new for _, new in records]), {new["key"]: new["config"] for _, new in records}
    labels = {number.cell: number.label for number in baseline.numbers(table, configs)}
    renamed = [replace(number, cell=names.get(number.cell, number.cell)) for number in numbers]
    renamed = [
        replace(number, label=labels[number.cell]) if "target=benchmark." in number.label else number
        for number in renamed
    ]
    relabelled = sum(one.label != other.label for one, other in zip(numbers, renamed, strict=True))
    assert len({(number.cell, number.metric) for number in renamed}) == len(numbers)
    baseline.write(folder, renamed, None)
    return (
        f"{len(numbers)} accepted numbers, {relabelled} of them relabelled; cell groups without a record: {len(lost)}"
    )


# -- the whole store --------------------------------------------------------------------------------------------------
def run(store: Path) -> None:
    """Re-key ``store`` in place, after all of it was checked in memory."""
    paths = sorted(store.glob("records/*/*.json"))
    old = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    assert all(record["schema"] == 1 for record in old), "it was re-keyed already"
    assert all(
        digest_exactly(record["config"]) == record["key"] == path.stem for record, path in zip(old, paths, strict=True)
    )
    pairs = [(record, rekeyed(record)) for record in old]
    new = [record for _, record in pairs]
    assert len({record["key"] for record in new}) == len(old), "two records have one key"
    assert len({record["key"][:16] for record in new}) == len(old), "two records' pictures have one name"
    for before, now in pairs:
        assert all(json.dumps(before[name]) == json.dumps(now[name]) for name in MEASURED)
    pictures = [
        (store / a, store / b) for x, y in pairs for a, b in zip(x["media"].values(), y["media"].values(), strict=True)
    ]
    missing = [source for source, _ in pictures if not source.is_file()]
    assert not missing, missing
    present = {path for path in store.glob("media/*/*") if path.is_file()}
    unreferenced = present - {source for source, _ in pictures}
    assert not unreferenced, sorted(unreferenced)
    assert not {place for _, place in pictures} & present, "a picture's new name is another one's old name"

    for record in new:
        place = store / "records" / record["key"][:2] / f"{record['key']}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        assert not place.exists()
        place.write_text(json.dumps(record, allow_nan=False, indent=1), encoding="utf-8")
    for source, place in pictures:
        place.parent.mkdir(parents=True, exist_ok=True)
        source.rename(place)
    for path in paths:
        path.unlink()
    told(old, [json.loads(path.read_text(encoding="utf-8")) for path in sorted(store.glob("records/*/*.json"))])
    print(f"{len(pictures)} pictures renamed")
    if (store / "baseline").is_dir():
        print(accepted(store / "baseline", pairs))


def told(old: list[Record], new: list[Record]) -> None:
    """Print counts by sweep before and after, and how many components have a digest."""
    before, after = (Counter(str(record["sweep"]) for record in records) for records in (old, new))
    assert before == after
    measured = [
        Counter(json.dumps([record[name] for name in MEASURED]) for record in records) for records in (old, new)
    ]
    assert measured[0] == measured[1]
    print(f"{'sweep':32}{'before':>8}{'after':>8}")
    for sweep in sorted(before):
        print(f"{sweep:32}{before[sweep]:8}{after[sweep]:8}")
    print(f"{'all':32}{len(old):8}{len(new):8}; measured parts of all records equal, no two keys equal")
    components = [part for record in new for part in record["versions"]["components"].values()]
    print(
        f"digests: {sum(part['digest'] is not None for part in components)} of {len(components)} components;", end=" "
    )
    whole = sum(all(part["digest"] for part in record["versions"]["components"].values()) for record in new)
    print(f"{whole} of {len(new)} records have all of theirs")


if __name__ == "__main__":
    run(Path(sys.argv[1]))
