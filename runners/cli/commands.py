"""Sub-commands of ``gauntlet``. Imports stay inside, so that none pays for another's."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runners.cli import streams
from runners.config import catalogue


def run(arguments: list[str]) -> int:
    from runners.run import main

    return _hand_over("run", arguments, main)


def sweep(arguments: list[str]) -> int:
    from runners.sweep.sweep import main

    return _hand_over("sweep", arguments, main)


def plan(arguments: list[str]) -> int:
    kind = "json" if "--json" in arguments else "text"
    return sweep([*(a for a in arguments if a != "--json"), f"hydra.sweeper.plan_only={kind}"])


def audit(arguments: list[str]) -> int:
    from runners.cli.audit import main

    return main(arguments)


def _hand_over(command: str, arguments: list[str], main: Callable[[], int]) -> int:
    """Run a Hydra application, which reads the command line itself."""
    sys.argv = ["gauntlet" if "-sc" in arguments else f"gauntlet {command}", *arguments]
    return main()


def list_options(arguments: argparse.Namespace) -> None:
    groups = [arguments.group.rstrip("s")] if arguments.group else catalogue.GROUPS
    for group in groups:
        found = catalogue.options(group)
        width = max(len(option.name) for option in found)
        print(f"{group}=")
        for option in found:
            print(f"  {option.name:{width}}  {option.description}")


def show(arguments: argparse.Namespace) -> None:
    from runners.store.records import Store

    print(json.dumps(Store(arguments.store).find(arguments.key), indent=1))


def explain(arguments: argparse.Namespace) -> None:
    from runners.cli.explain import command
    from runners.config.brought import lost
    from runners.store.gate import visible
    from runners.store.records import Store

    record = Store(arguments.store).find(arguments.key)
    shell, changed = command(record["config"], data_path=record["facts"].get("data_path"))
    versions = {name: value for name, value in record["versions"].items() if name != "components"}
    reason = (record["reason"].splitlines() or [""])[-1]
    lines = [f"cell      {record['key']}", f"status    {record['status']} {reason}".rstrip(), f"command   {shell}"]
    lines += [f"changed   {change}; the command plays a different cell now" for change in changed]
    lines += [f"data      {told}" for told in [lost(record)] if told]
    lines.append(f"started   {record['started']} on {record['device']}, took {record['seconds']} s")
    lines.append(f"versions  {', '.join(f'{name} {value}' for name, value in versions.items())}")
    for label, component in record["versions"].get("components", {}).items():
        told = component.get("digest") or "source not known"
        lines.append(f"          {label} {component.get('version')} ({told})")
    lines += [f"picture   {arguments.store / path}" for path in record["media"].values()]
    print("\n".join(map(visible, lines)))


def again(arguments: argparse.Namespace) -> int:
    from runners.cli.again import again as played
    from runners.store.records import Store

    return played(streams.console(), Store(arguments.store), arguments.key, arguments.overrides)


def submit(arguments: argparse.Namespace) -> int:
    from benchmark.errors import ConfigError
    from runners.cli import submission
    from runners.store.records import Store
    from runners.store.submission import Brought

    brought = Brought(arguments.defense, arguments.threat)
    if not brought.options():
        raise ConfigError("Say what you bring to the board: --defense NAME, --threat NAME, or both.")
    named = "-".join([arguments.name, *(option for _, option in brought.options())])
    to = arguments.to or Path(f"{named}.zip")
    return submission.submit(
        streams.console(), arguments.name, Store(arguments.store), brought, to, arguments.overrides
    )


def verify(arguments: argparse.Namespace) -> int:
    from runners.cli import submission

    path = arguments.bundle.expanduser().resolve()
    return submission.verify(streams.console(), path, arguments.sample, arguments.tolerance, arguments.overrides)


def diff(arguments: argparse.Namespace) -> None:
    from runners.cli import difference
    from runners.store.records import Store

    store = Store(arguments.store)
    difference.show(streams.console(), store.find(arguments.key), store.find(arguments.other))


def matrix(arguments: argparse.Namespace) -> None:
    from runners.config import pairs as matrices

    derived = matrices.derive()
    if arguments.json:
        print(json.dumps(derived.summary(), indent=1))
        return
    matrices.show(streams.console(), derived)


def merge(arguments: argparse.Namespace) -> int:
    from runners.store.merge import merge as merged
    from runners.store.records import Store

    result = merged(Store(arguments.store), Store(arguments.other))
    print(f"{len(result.added)} added, {len(result.replaced)} replaced (unfinished here), {len(result.kept)} kept.")
    for key, fields in result.conflicts.items():
        print(f"conflict {key[:16]}: {', '.join(fields)} differ; ours was kept")
    return 1 if result.conflicts else 0


def pack(arguments: argparse.Namespace) -> int:
    from runners.store.pack import pack as packed
    from runners.store.records import Store

    result = packed(Store(arguments.source), Store(arguments.into), arguments.pictures)
    print(
        f"{len(result.added)} added, {len(result.replaced)} replaced, {len(result.kept)} packed before, "
        f"{len(result.unfinished)} unfinished left where they are."
    )
    print("\n".join(str(path) for path in result.tables), end="\n" if result.tables else "")
    for key, fields in result.conflicts.items():
        print(f"conflict {key[:16]}: {', '.join(fields)} differ; the published one was kept, the other left loose")
    return 1 if result.conflicts else 0


def cache(arguments: argparse.Namespace) -> None:
    from runners.store import cache_admin
    from runners.store.records import Store

    store = Store(arguments.store)
    if arguments.days is not None or arguments.prune:
        removed, left = cache_admin.prune(store, arguments.days)
        print(f"{len(removed)} removed ({_megabytes(removed)}).")
    else:
        left = list(cache_admin.entries(store.root))
    for artifact in sorted({entry.artifact for entry in left}):
        of_it = [entry for entry in left if entry.artifact == artifact]
        print(f"{len(of_it):6}  {_megabytes(of_it):>12}  {artifact}")
    print(f"{len(left):6}  {_megabytes(left):>12}  in all")


def _megabytes(entries: list[Any]) -> str:
    return f"{sum(entry.size for entry in entries) / 1e6:.1f} MB"


def table(arguments: argparse.Namespace) -> None:
    from runners.store import table as tables

    paths = {kind: getattr(arguments, kind) for kind in ("csv", "parquet") if getattr(arguments, kind)}
    if not (paths or arguments.query or arguments.write):
        _print_rows(tables.rows(arguments.store), arguments.store)
        return
    frame = tables.load(arguments.store)
    if arguments.query:
        frame = tables.select(frame, arguments.query)
    written = tables.write(frame, arguments.write) if arguments.write else []
    written += [tables.write_as(frame, kind, path) for kind, path in paths.items()]
    if written:
        print("\n".join(str(path) for path in written))
    else:
        _print_rows(frame[tables.TOLD].to_dict("records"), arguments.store)


def _print_rows(rows: Sequence[Mapping[Any, Any]], store: Path) -> None:
    """Print the columns that tell cells apart, aligned."""
    if not rows:
        print(f"No such records in {store}.")
        return
    from runners.store.gate import visible
    from runners.store.table import TOLD as columns

    lines = [columns, *([visible(str(row[name]))[: 8 if name == "key" else None] for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print("\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines))


def leaderboard(arguments: argparse.Namespace) -> int | None:
    from runners.report import leaderboard as boards

    if arguments.strip:
        return _strips(arguments)
    paths = boards.write(arguments.store)
    folder = arguments.store / boards.BOARDS
    print(f"{len(paths)} files in {folder} and {arguments.store / boards.CLAIMS}; begin at {folder / 'README.md'}.")
    return None


def board(arguments: argparse.Namespace) -> None:
    from runners.config.faces import faces
    from runners.report import boards, tables, terminal
    from runners.store.place import existing

    if arguments.name is None:
        terminal.show_faces(streams.console(), faces())
        return
    existing(arguments.store)
    shown = boards.named(arguments.name, arguments.store)
    threats = arguments.threats.split(",") if arguments.threats else None
    standings = boards.ranked(shown, threats, arguments.max_utility_loss)
    if arguments.csv:
        print(tables.ranking(standings), end="")
    else:
        terminal.show_ranking(streams.console(), shown, standings)


def _strips(arguments: argparse.Namespace) -> int:
    """Write the picture strips of the named boards; return 1 where a board has no picture."""
    from runners.report import boards, strips

    found = {board.name: board for board in boards.of_store(arguments.store)}
    into = arguments.into or arguments.store
    code = 0
    for name in sorted(found) if "all" in arguments.strip else arguments.strip:
        path = strips.write(found[name], arguments.store, into) if name in found else None
        if path:
            print(path)
        elif "all" not in arguments.strip:
            print(f"No picture was left by the board {name!r} of {arguments.store}.", file=sys.stderr)
            code = 1
    return code


def site(arguments: argparse.Namespace) -> None:
    from runners.report.site import build

    folder = arguments.to or arguments.store / build.FOLDER
    paths = build.write(arguments.store, folder)
    print(f"{len(paths)} files in {folder}; begin at {folder / 'index.html'}.")


def check(arguments: argparse.Namespace) -> int:
    from runners.claims import check as checks

    if arguments.update_baseline:
        return checks.update(arguments.store, arguments.baseline, scale=arguments.scale)
    return checks.run(
        arguments.store,
        reported=arguments.reported,
        baseline=arguments.baseline,
        scale=arguments.scale,
        system=arguments.system,
    )


def bench(arguments: argparse.Namespace) -> int:
    from runners import bench as timing

    if arguments.check:
        return timing.check(timing.HOT_PATHS)
    if arguments.accept:
        timing.accept(arguments.names or timing.QUICK, timing.HOT_PATHS)
    else:
        timing.run_all(arguments.names, timing.HOT_PATHS, arguments.store, arguments.device)
    return 0


def new(arguments: argparse.Namespace) -> None:
    from runners.cli import new as beginnings
    from runners.config.remembered import ROOT

    flags = [arguments.setting, arguments.surface][:: -1 if arguments.kind == "threat" else 1]
    place = beginnings.asked(arguments.kind, *flags)
    package = arguments.package.expanduser() if arguments.package else None
    written = beginnings.new(arguments.kind, arguments.name, place=place, package=package, root=ROOT)
    print("\n".join(beginnings.told(written, ROOT if package is None else Path())))
