"""Commands of submissions: ``gauntlet submit`` writes one, ``gauntlet verify`` plays a sample of its cells anew."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark.errors import GauntletError
from runners import __version__
from runners.cli.again import replay
from runners.cli.difference import change, shown
from runners.cli.explain import command
from runners.cli.problems import sentence
from runners.config.build import nearest
from runners.config.faces import Face, faces
from runners.config.gate import check_search_path, search_places, trusted_of
from runners.config.identity import canonical, module_file, module_of
from runners.config.remembered import ROOT
from runners.store import gate, submission
from runners.store.gate import visible
from runners.store.records import FINISHED, Store
from runners.store.submission import BadSubmission, Brought, Config, Group, Manifest, Record, Submission
from runners.sweep.membership import Options, members, options

OURS = "benchmark"
FINDING = ("hydra.searchpath=", "trusted=")
"""Begin the overrides by which a component from outside is found; others concern a run alone."""


# -- to submit --------------------------------------------------------------------------------------------------------
def submit(console: Console, board: str, store: Store, brought: Brought, to: Path, extra: Sequence[str]) -> int:
    """Write the records of ``store`` that bring an option to ``board``, and tell what is missing.

    Args:
        extra: overrides by which the option is found, ``hydra.searchpath=[...]`` and ``trusted=[...]``.

    Returns:
        0.

    Raises:
        GauntletError: there is no such board or option, or no such record.
    """
    check_search_path(extra)
    face, planned = _board(board)
    found = list(submission.belonging(store.all(), brought, planned))
    if not found:
        raise GauntletError(
            f"{store.root} has no record with {brought} that is a cell of the board {board} in everything else; play "
            f"them: gauntlet sweep sweep=boards/{board} {brought.options()[0][0]}={brought.options()[0][1]}."
        )
    parts = submission.components(found, brought, _release)
    with _options(brought, extra) as known:
        missing, refused = _lacking(found, brought, planned, known)
        files = _sources(found, brought, known, extra)
    manifest = Manifest(
        board=board,
        board_version=face.version,
        components=parts,
        suite=__version__,
        cells=len(found),
        failed=sum(record["status"] not in FINISHED for record in found),
        missing=missing,
        refused=refused,
        overrides=list(extra),
        commands=_commands(found, extra),
    )
    submission.write(to, manifest, found, files)
    _tell(console, manifest, found, missing, refused)
    sources = ", ".join(sorted(files)) or "no source of it was found"
    console.print(Text(visible(f"{to}: {len(found)} records, {sources}.")), soft_wrap=True)
    return 0


def _board(name: str) -> tuple[Face, list[Config]]:
    known = faces()
    if name not in known:
        raise GauntletError(f"There is no board {name!r}{nearest(name, known)}")
    return known[name], [member.config for member in members(name)]


@contextmanager
def _options(brought: Brought, extra: Sequence[str]) -> Iterator[Options]:
    """Give the options of the suite and of ``extra``; say what may be lacking where the brought one is not found."""
    try:
        with options([line for line in extra if line.startswith(FINDING)]) as known:
            yield known
    except HydraException as error:
        raise GauntletError(
            f"The options of {brought} cannot be read: {str(sentence(error)).rstrip('.?')}. If they are not the "
            "suite's, say where they are: 'hydra.searchpath=[...]' 'trusted=[...]'."
        ) from error


def _lacking(
    records: Sequence[Record], brought: Brought, planned: Sequence[Config], known: Options
) -> tuple[list[Group], list[Group]]:
    """Return the cells that are missing, and those of pairs that are refused."""
    judged = [(config, known.refusal(config)) for config in submission.lacking(records, brought, planned)]
    missing = submission.grouped(pair for pair in judged if not pair[1])
    return missing, submission.grouped(pair for pair in judged if pair[1])


def _commands(records: Iterable[Record], extra: Sequence[str]) -> dict[str, str]:
    """Return the shell command of each record; those that differ in the seed alone are composed once."""
    found, known = {}, dict[str, str]()
    for record in records:
        config = {**record["config"], "seed": 0}
        if (text := canonical(config)) not in known:
            known[text] = command(config, extra, record["facts"].get("data_path"))[0]
        found[record["key"]] = known[text].replace(" seed=0", f" seed={int(record['seed'])}", 1)
    return found


def _sources(records: Sequence[Record], brought: Brought, known: Options, extra: Sequence[str]) -> dict[str, bytes]:
    """Return the YAML and Python file of each brought option, as far as they can be found; nothing is run."""
    found: dict[str, bytes] = {}
    for group, option in brought.options():
        config = next(record["config"] for record in records if group in brought.groups(record["config"]))
        target = known.targets(config).get("threat" if group == "threat" else f"defense.{option}")
        options_of_it = [folder / group / f"{option}.yaml" for folder in _folders(extra)]
        code = module_file(target) if target else None
        for path in (*[path for path in options_of_it if path.is_file()][:1], *([code] if code else [])):
            if path.stat().st_size <= gate.LARGEST:
                found[f"{group}/{path.name}"] = path.read_bytes()
    return found


def _folders(extra: Sequence[str]) -> list[Path]:
    """Return the folders in which Hydra looks for options, in its order: the suite's and those of the search path."""
    found = [ROOT / "conf"]
    for place in search_places(extra):
        scheme, _, rest = place.rpartition("://")
        if scheme == "pkg":
            module = module_of(rest)
            found += [module[1].parent] if module and module[0] == rest else []
        else:
            found.append(Path(rest))
    return found


def _release(package: str) -> str | None:
    """Return the installed version of ``package``, or None where it is not known."""
    if package == OURS:
        return __version__
    for distribution in packages_distributions().get(package, ()):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None


# -- to verify --------------------------------------------------------------------------------------------------------
def verify(console: Console, path: Path, sample: int, tolerance: float, extra: Sequence[str]) -> int:
    """Check a submission, play ``sample`` of its cells anew, and print both results.

    Args:
        tolerance: by how much utility and headline risk may differ.
        extra: overrides that change no number, and those by which the option is found.

    Returns:
        0, or 1 where a number differs by more.

    Raises:
        GauntletError: it is no submission to a board of today, or its package is not installed or not trusted.
    """
    check_search_path(extra)
    found = submission.read(path)
    face, planned = _checked(found)
    records = list(found.records.values())
    _refuse_absent(found, extra)
    with _options(found.manifest.brought, extra) as known:
        missing, refused = _lacking(records, found.manifest.brought, planned, known)
    _tell(console, found.manifest, records, missing, refused)
    drawn = found.sample(sample)
    if not drawn:
        raise BadSubmission(f"{path} has no finished cell that could be played anew.")
    rows, edited = [], dict[str, None]()
    for record in drawn:
        played, _ = replay(console, record, extra)
        rows += compared(record, played, face)
        edited |= dict.fromkeys(_changed_code(record, played))
    fine = _show(console, rows, tolerance)
    if edited:
        console.print(Text(visible(f"Source other than that of the records: {', '.join(edited)}.")), soft_wrap=True)
    end = "the numbers agree" if fine else "some numbers differ"
    console.print(f"{len(drawn)} of {len(records)} cells played anew: {end}.", highlight=False)
    return 0 if fine else 1


def _checked(found: Submission) -> tuple[Face, list[Config]]:
    """Return face and cells of the submission's board, of which each record is one but for what is brought.

    Raises:
        BadSubmission: the board is unknown or has changed, or a record is no cell of it.
    """
    manifest = found.manifest
    try:
        face, planned = _board(manifest.board)
    except GauntletError as error:
        raise BadSubmission(str(error)) from error
    if manifest.board_version != face.version:
        raise BadSubmission(
            f"It was made for version {manifest.board_version} of the board {manifest.board}, which has version "
            f"{face.version} here."
        )
    there = {record["key"] for record in submission.belonging(found.records.values(), manifest.brought, planned)}
    if strange := sorted(found.records.keys() - there):
        raise BadSubmission(
            f"The record {strange[0][:16]} is no cell of the board {manifest.board} with {manifest.brought}"
            + (f", and {len(strange) - 1} others are none." if strange[1:] else ".")
        )
    return face, planned


def _refuse_absent(found: Submission, extra: Sequence[str]) -> None:
    """Raise GauntletError with the remedy where the package of a brought option is not installed or not trusted."""
    trusted = {prefix.partition(".")[0] for prefix in trusted_of(extra)}
    configs = [record["config"] for record in found.records.values()]
    nodes = [node for config in configs for node in (*config["defense"], config["threat"])]
    for part in found.manifest.components:
        for package in sorted({node["provider"] for node in nodes if node["name"] == part.option} - {OURS}):
            installed = _is_installed(package)
            if not installed or package not in trusted:
                release = f" {part.release}" if part.release else ""
                raise GauntletError(
                    f"{part.kind}={part.option} is code of the package {package}{visible(release)}, which is not "
                    f"{'trusted' if installed else 'installed'}; read component/ in the submission, install it, and "
                    f"say where its options are and that it may run: 'hydra.searchpath=[...]' 'trusted=[{package}.]'."
                )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a stranger's record may name what no package can be, __main__ for instance
        return False


Row = tuple[str, str, Any, Any]
"""A record's key, and a name with the submission's value and the new one."""


def compared(theirs: Record, ours: Record, face: Face) -> list[Row]:
    """Return what has to agree: the cell, its status, utility, and the risk by which its threat is judged."""
    key = str(theirs["key"])[:12]
    rows: list[Row] = [(key, "status", theirs["status"], ours["status"])]
    if theirs["key"] != ours["key"]:
        rows.append((key, "key", key, str(ours["key"])[:12]))
    if theirs["status"] == ours["status"] == "ok":
        known = ours["utility"].keys() | theirs["utility"].keys()
        utility = [face.utility] if face.utility in known else list(ours["utility"])[:1]
        risk = [ours["facts"]["headline"]] if ours["facts"].get("headline") else []
        names = [("utility", name) for name in utility] + [("risk", name) for name in risk]
        rows += [(key, f"{part}.{name}", theirs[part].get(name), ours[part].get(name)) for part, name in names]
    return rows


def agree(theirs: Any, ours: Any, tolerance: float) -> bool:
    """Return whether two values are equal, or numbers that differ by no more than ``tolerance``."""
    numbers = isinstance(theirs, int | float) and isinstance(ours, int | float)
    return abs(ours - theirs) <= tolerance if numbers else theirs == ours


def _changed_code(theirs: Record, ours: Record) -> list[str]:
    """Return the components whose source is not that of the record."""
    before, after = (record["versions"].get("components", {}) for record in (theirs, ours))
    return [label for label in after if before.get(label, {}).get("digest") != after[label].get("digest")]


# -- what is printed --------------------------------------------------------------------------------------------------
def _tell(
    console: Console, manifest: Manifest, records: Sequence[Record], missing: Sequence[Group], refused: Sequence[Group]
) -> None:
    """Print what a submission holds of its board and what it does not."""
    failed = sum(record["status"] not in FINISHED for record in records)
    head = f"{manifest.brought} on the board {manifest.board}: {len(records)} cells, {failed} of them failed"
    lines = [head, *_lines("missing", missing), *_lines("refused", refused)]
    console.print(Text("\n".join(map(visible, lines))), soft_wrap=True)


def _lines(word: str, groups: Sequence[Group]) -> list[str]:
    if not groups:
        return []
    cells = [
        f"  {group.threat} vs {group.defense} on {group.place}, seed {', '.join(map(str, sorted(group.seeds)))}"
        + (f": {group.reason}" if group.reason else "")
        for group in groups
    ]
    return [f"{sum(len(group.seeds) for group in groups)} cells {word}:", *cells]


def _show(console: Console, rows: Sequence[Row], tolerance: float) -> bool:
    """Print the submission's values beside the new ones; return whether all agree."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("record", "", "theirs", "ours", "ours - theirs", ""):
        table.add_column(head, overflow="fold")
    fine = True
    for key, name, theirs, ours in rows:
        agrees = agree(theirs, ours, tolerance)
        fine = fine and agrees
        cells = (key, name, shown(theirs), shown(ours), change(theirs, ours), "" if agrees else "differs")
        table.add_row(*(Text(visible(cell)) for cell in cells))
    console.print(table)
    return fine
