"""Web site of a store, in a folder that can be opened or published without the store."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from runners.config.catalogue import options
from runners.config.pairs import derive
from runners.report import latex, output, tables
from runners.report.leaderboard import Contents, contents
from runners.report.site import pages
from runners.report.site.model import Answered, Site, blocks

FOLDER = "site"
"""Where the site of a working store lies in it."""


def write(store: Path, folder: Path, shown: Contents | None = None) -> list[Path]:
    """Write the site of ``store`` into ``folder``, delete stale files of earlier runs, and return the paths.

    Pictures are copied, unless ``folder`` lies in the store: then the pages refer to the store's own.
    """
    shown = shown or contents(store)
    if folder.parent.resolve() == store.resolve():
        output.own_folder(store, folder.name)
    inside = folder.resolve().parent == store.resolve()
    made: dict[str, str | bytes | Path] = dict(files(shown, _spelled(store), media="../" if inside else ""))
    if not inside:
        made |= {path: store / path for path in _pictures(shown)}
    return output.write(folder, made)


def files(shown: Contents, store: str, media: str = "") -> dict[str, str]:
    """Return every text file of the site: path relative to its folder -> content.

    Beside the pages these are ``matrix.csv`` (the state of every pair of a threat and a defense), ``claims.csv``, and
    each board as CSV and LaTeX, those with a face their ranking too.

    Args:
        store: how shell commands on the pages name the store.
        media: how the front page reaches the folder in which the store's ``media/`` lies.
    """
    papers = [Answered(paper, answers) for paper, answers in shown.papers]
    described = {f"{group}/{o.name}": o.description for group in ("defense", "threat") for o in options(group)}
    site = Site(shown.boards, blocks(shown.boards, derive()), papers, described, shown.strips)
    made = pages.render(site, store, media)
    for board in shown.boards:
        made[f"boards/{board.slug}.csv"] = tables.board(board)
        made[f"boards/{board.slug}.tex"] = latex.board(board)
        if board.contest:
            made[f"boards/{board.slug}-ranking.csv"] = tables.ranking(board.standings)
    return made | {"matrix.csv": _matrix(site), "claims.csv": tables.claims(shown.papers)}


def _spelled(store: Path) -> str:
    """Return a store's name, quoted for a shell: of a path outside the current folder its last part alone."""
    return shlex.quote(store.name if store.is_absolute() else store.as_posix())


def _pictures(shown: Contents) -> Iterator[str]:
    yield from shown.strips.values()
    for board in shown.boards:
        for section in board.sections:
            for row in section.rows:
                for pictures in row.pictures.values():
                    yield from pictures.values()


def _matrix(site: Site) -> str:
    """Return a line for each threat and defense: the worst case in each dataset and scale, or why there is none."""
    head = ["setting", "surface", "threat", "control", "defense", "board", "dataset", "scale", "model", "parameters"]
    head += ["metric", "risk", "undefended", "left", "state", "reason"]
    lines = []
    for block in site.blocks:
        for pair in block.pairs.values():
            attack = pair.attack
            start = [block.setting, block.surface, attack.label, attack.control or "", pair.defense]
            if not pair.entries:
                lines.append([*start, *[""] * 9, pair.state, pair.refused or ""])
            for one in pair.entries:
                section, summary = one.section, one.cell.summary
                place = [section.board, section.dataset, section.scale, section.model, one.row.parameters]
                numbers = (summary.mean if summary else None, one.undefended, one.remaining)
                told = ["" if n is None else f"{n:.6g}" for n in numbers]
                lines.append([*start, *place, one.column.metric, *told, one.state, one.reason])
    return tables.text(head, lines)
