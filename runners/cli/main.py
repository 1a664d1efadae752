"""The command ``gauntlet``: its line, read by argparse or handed to Hydra, and its exit code."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from runners.cli import streams
from runners.cli.commands import (
    again,
    audit,
    bench,
    board,
    cache,
    check,
    diff,
    explain,
    leaderboard,
    list_options,
    matrix,
    merge,
    new,
    pack,
    plan,
    run,
    show,
    site,
    submit,
    sweep,
    table,
    verify,
)
from runners.config import catalogue

Action = Callable[[argparse.Namespace], int | None]

HYDRA = {
    "run": "play one cell: gauntlet run threat=leakage_dlg defense=gradient_noise seed=1",
    "sweep": "play a set of cells, skipping finished ones: gauntlet sweep sweep=demo",
    "plan": "print what a sweep would do: gauntlet plan sweep=demo [--json]",
}
AUDIT = "audit"


def _paths() -> str:
    """Return the list of hot paths, each with the first line of its docstring."""
    from runners.bench import HOT_PATHS

    width = max(map(len, HOT_PATHS))
    rows = (f"  {name:{width}}  {(build.__doc__ or '').splitlines()[0]}" for name, build in HOT_PATHS.items())
    return "\n".join(["paths:", *rows])


def parser() -> argparse.ArgumentParser:
    """Return the parser of all sub-commands; those that read the command line themselves are there for ``--help``."""
    top = argparse.ArgumentParser(
        prog="gauntlet", description="Which defense survives which threat, and what does it cost?"
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in HYDRA.items():
        commands.add_parser(name, help=text, add_help=False)
    commands.add_parser(
        AUDIT,
        help="attack your own data for some minutes, and write a report: gauntlet audit dataset=digits",
        add_help=False,
    )
    groups = sorted({*catalogue.GROUPS, *(f"{group}s" for group in catalogue.GROUPS)})
    listing = _command(commands, "list", list_options, "the options of every group, with a line on each", store=False)
    listing.add_argument("group", nargs="?", choices=groups, metavar="GROUP", help=", ".join(catalogue.GROUPS))
    for name, action, text in (
        ("show", show, "print a record"),
        ("explain", explain, "the command and code behind a record"),
    ):
        _command(commands, name, action, text).add_argument("key", help="the record's key or how it begins")
    repeated = _command(commands, "again", again, "play a record's cell once more and print both results side by side")
    repeated.add_argument("key", help="the record's key or how it begins")
    repeated.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="e.g. device=cuda")
    bundled = _command(commands, "submit", submit, "bundle your records of a board for a reviewer")
    bundled.add_argument("name", metavar="BOARD", help="e.g. leakage_cifar")
    bundled.add_argument("--defense", metavar="NAME", help="your defense")
    bundled.add_argument("--threat", metavar="NAME", help="your threat")
    bundled.add_argument("--to", type=Path, metavar="PATH", help="the file (default: BOARD-NAME.zip)")
    bundled.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="e.g. hydra.searchpath=[file:///my/conf]")
    checked = _command(
        commands, "verify", verify, "check a submission and play a sample of its cells anew", store=False
    )
    checked.add_argument("bundle", type=Path, metavar="BUNDLE", help="file that gauntlet submit wrote")
    checked.add_argument("--sample", type=_count, default=3, metavar="N", help="how many cells to play (default: 3)")
    checked.add_argument(
        "--tolerance",
        type=_tolerance,
        default=0.02,
        metavar="X",
        help="by how much utility and headline risk may differ (default: 0.02)",
    )
    checked.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="e.g. trusted=[their_package.] device=cuda")
    compared = _command(commands, "diff", diff, "what two records do not share: cell, code and numbers")
    compared.add_argument("key", metavar="A", help="a record's key or how it begins")
    compared.add_argument("other", metavar="B", help="another's")
    paired = _command(commands, "matrix", matrix, "which threat meets which defense, and why not", store=False)
    paired.add_argument("--json", action="store_true", help="every pair with its reason")
    merging = _command(commands, "merge", merge, "take in the records and pictures of a store made elsewhere")
    merging.add_argument("other", type=_store, metavar="OTHER_STORE", help="the folder; it stays as it is")
    packing = _command(commands, "pack", pack, "move finished records into one table a sweep", store=False)
    packing.description = (
        "Move the finished records (ok, diverged) of STORE into INTO/records/<sweep>.parquet, one row a cell; STORE "
        "and INTO may be the same folder. Failed ones stay, and so does a record that is published already with other "
        "numbers. Pictures are not taken unless --pictures says so, and a packed record names only pictures that lie "
        "in INTO."
    )
    packing.add_argument("source", type=_store, metavar="STORE", help="folder of records")
    packing.add_argument("--into", type=_store, default=Path("results"), help="the published store (default: results)")
    packing.add_argument(
        "--pictures",
        action="append",
        default=[],
        metavar="SWEEP",
        help="take the pictures of these sweeps too (a name or a pattern), of the lowest seed of each cell",
    )
    cached = _command(commands, "cache", cache, "what the artifact cache holds")
    cached.add_argument("--prune", action="store_true", help="remove what no record of the store was made from")
    cached.add_argument("--days", type=float, metavar="N", help="remove what was not used for N days")
    tabled = _command(commands, "table", table, "all records as one table")
    tabled.add_argument("--query", help="rows to keep, in pandas' query language: \"threat == 'leakage_dlg'\"")
    tabled.add_argument("--csv", type=Path, metavar="PATH", help="write PATH as CSV instead of printing")
    tabled.add_argument("--parquet", type=Path, metavar="PATH", help="write PATH as Parquet instead of printing")
    tabled.add_argument("--write", type=Path, metavar="PATH", help="write both, PATH.csv and PATH.parquet")
    boards = _command(commands, "leaderboard", leaderboard, "write the boards as Markdown and CSV into the store")
    boards.add_argument(
        "--strip", action="append", metavar="BOARD", help="compose the picture strip of BOARD instead (all: of each)"
    )
    boards.add_argument("--into", type=_store, metavar="STORE", help="store that gets the strips (default: --store)")
    ranks = _command(commands, "board", board, "rank the defenses of a board by the threats that you face")
    ranks.set_defaults(store=Path("results"), reads=False)
    ranks.add_argument("name", nargs="?", metavar="NAME", help="e.g. leakage_cifar (default: list the boards)")
    ranks.add_argument("--threats", metavar="A,B", help="those that you face (default: all of the board)")
    ranks.add_argument(
        "--max-utility-loss",
        type=_loss,
        metavar="X",
        help="utility that you can lose, in the unit of the board's utility: 0.05 is five points of accuracy",
    )
    ranks.add_argument("--csv", action="store_true", help="print the ranking as CSV, with all digits")
    pages = _command(commands, "site", site, "build the web site of a store")
    pages.add_argument("--to", type=Path, metavar="PATH", help="folder of the site (default: site/ in the store)")
    checked = _command(commands, "check", check, "hold the store's numbers against the reported and the accepted ones")
    checked.add_argument("--reported", type=Path, default=Path("results/reported"), help="folder of the papers' claims")
    checked.add_argument("--system", metavar="NN", help="only the claims of this paper, e.g. 02")
    checked.add_argument(
        "--baseline", type=Path, default=Path("results/baseline"), help="folder of the accepted numbers"
    )
    checked.add_argument("--scale", choices=("smoke", "cpu", "full"), help="only cells of this scale")
    checked.add_argument("--update-baseline", action="store_true", help="accept the store's numbers, for review")
    timed = _command(commands, "bench", bench, "time each hot path against its plain oracle and a peer's library")
    timed.add_argument("names", nargs="*", metavar="NAME", help="which paths (default: all)")
    timed.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    held = timed.add_mutually_exclusive_group()
    held.add_argument("--check", action="store_true", help="hold the accepted paths against results/bench.json")
    held.add_argument("--accept", action="store_true", help="measure paths and accept their ratios, for review")
    begun = _command(commands, "new", new, "the files of a component of your own, which plays as it is", store=False)
    begun.add_argument(
        "kind",
        choices=("threat", "defense", "dataset", "model"),
        metavar="KIND",
        help="threat, defense, dataset, model",
    )
    begun.add_argument("name", metavar="NAME", help="of its option, e.g. my_attack")
    begun.add_argument("--surface", help="that a threat attacks (default: asked in a terminal, else uploads)")
    begun.add_argument("--setting", help="that a defense acts in (default: asked in a terminal, else collaboration)")
    begun.add_argument("--package", type=Path, metavar="FOLDER", help="of a package of its own, instead of the suite's")
    timed.formatter_class, timed.epilog = argparse.RawDescriptionHelpFormatter, _paths()
    return top


def _command(commands: Any, name: str, action: Action, text: str, store: bool = True) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    made.set_defaults(action=action)
    if store:
        made.add_argument("--store", type=_store, default=Path("outputs"), help="folder of records (default: outputs)")
        made.set_defaults(reads=name not in ("merge", "bench"))
    return made


def _loss(text: str) -> float:
    with suppress(ValueError):
        if math.isfinite(value := float(text)):
            return value
    raise argparse.ArgumentTypeError(f"must be a number, e.g. 0.05 for five points of accuracy, got {text!r}")


def _tolerance(text: str) -> float:
    if (value := _loss(text)) < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {text!r}")
    return value


def _count(text: str) -> int:
    if text.isdecimal() and 0 < int(text) < 1_000_000:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, got {text!r}")


def _store(text: str) -> Path:
    from runners.store.errors import StoreError
    from runners.store.place import place

    try:
        return place(text)
    except StoreError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main() -> int:
    """Run the command line and return the exit code."""
    streams.prepare()
    with streams.quiet_pipe():
        return _main()


def _main() -> int:
    command, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if command == "-sc":  # the shell asks for completions: answer for the sub-command that is being typed
        words = os.environ.get("COMP_LINE", "").split(maxsplit=2)
        command, arguments = (words[1] if words[1:] and words[1] in HYDRA else "run"), sys.argv[1:]
        os.environ["COMP_LINE"] = " ".join([*words[:1], *words[2:]])
    if any(word.partition("=")[0] == "trusted" for word in arguments):
        sys.path.append(str(Path.cwd()))  # a trusted package may lie where the command is typed; it hides nothing
    if command in HYDRA:
        return {"run": run, "sweep": sweep, "plan": plan}[command](arguments)
    if command == AUDIT:
        return audit(arguments)
    from benchmark.errors import GauntletError

    parsed = parse(sys.argv[1:])
    try:
        if getattr(parsed, "reads", False):
            from runners.store.place import existing

            existing(parsed.store)
        return parsed.action(parsed) or 0
    except BrokenPipeError:
        raise
    except (GauntletError, OSError) as error:
        from runners.cli.problems import of_the_system

        text = of_the_system(error) if isinstance(error, OSError) else str(error)
        if text is None:
            raise
        print(text, file=sys.stderr)
        return 2


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the parsed arguments; overrides may stand behind flags too, where argparse itself takes none."""
    top = parser()
    parsed, rest = top.parse_known_args(arguments)
    if rest and (not hasattr(parsed, "overrides") or any(word.startswith("-") for word in rest)):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        parsed.overrides += rest
    return parsed


if __name__ == "__main__":
    sys.exit(main())
