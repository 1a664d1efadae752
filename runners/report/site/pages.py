"""The pages of the web site: templates filled from :mod:`runners.report.site.model`. The same records give the same bytes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from runners.claims.check import measured
from runners.claims.claim_evaluation import STATES
from runners.report import board_text as wording
from runners.report.boards import Board, Row
from runners.report.pictures import slug
from runners.report.site.model import Entry, Site
from runners.store.records import write_atomically

HERE = Path(__file__).parent
ASSETS = ("static/site.css", "static/site.js", "vendor/dataTables.min.js", "vendor/plotly-basic.min.js")
LICENCES = ("vendor/dataTables.LICENSE.txt", "vendor/plotly.LICENSE.txt")
SHORT = {
    wording.BELOW: "below half way",
    wording.BROKEN: "broken by its adaptive attack",
    wording.ABOVE: "not below half way",
    wording.OPEN: "below half way so far",
    wording.UNKNOWN: "without any number",
}
"""Verdicts where there is little room."""
BRIEF = 44
PICTURES = 12
"""On one page of a paper; more are a click away, in the records."""


def render(site: Site, store: str) -> dict[str, str]:
    """Every file of the site: path, relative to the leaderboard's folder -> content.

    Args:
        store: how the shell commands on the pages name the store, e.g. ``results``.
    """
    environment = _environment(store)
    files = {f"assets/{Path(name).name}": (HERE / name).read_text("utf-8") for name in (*ASSETS, *LICENCES)}
    files["assets/plot.js"] = f"window.GAUNTLET_PLOT = {_json(plot(site))};\n"
    page = partial(_page, environment, files, site)
    page("index.html", "index.html", title="Overview")
    for setting in site.settings:
        boards = [board for board in site.boards if board.setting == setting]
        page(f"settings/{slug(setting)}.html", "setting.html", title=setting, boards=boards)
    for defense in site.defenses:
        page(f"defenses/{slug(defense)}.html", "defense.html", title=defense, **defended(site, defense))
    for paper in site.papers:
        page(paper.page, "paper.html", title=paper.paper.title, answered=paper)
    return files


def _page(environment: Environment, files: dict[str, str], site: Site, path: str, template: str, **shown: Any) -> None:
    root = "../" * path.count("/")
    text = environment.get_template(template).render(site=site, root=root, path=path, **shown)
    files[path] = re.sub(r"[ \t]*\n\s*", "\n", text).strip() + "\n"


def _environment(store: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": wording.number,
        "slug": slug,
        "bold": _bold,
        "measured": measured,
        "percent": lambda share: f"{round(100 * share)} %" if share > -0.005 else "< 0 %",
        "css": _class,
        "brief": _brief,
    }
    environment.globals |= {
        "store": store,
        "w": wording,
        "entry": Entry,
        "Counter": Counter,
        "STATES": STATES,
        "SHORT": SHORT,
        "PICTURES": PICTURES,
        "record_path": lambda key: f"../records/{key[:2]}/{key}.json",
        "pictures_of": pictures_of,
        "css": _class,
    }
    return environment


def _class(text: str) -> str:
    """``text`` as the name of a CSS class."""
    return re.sub(r"\W+", "-", text)


def _brief(label: str) -> Markup:
    """A label cut to what fits a column, with all of it as its title."""
    if len(label) <= BRIEF:
        return escape(label)
    kept, dropped = label[:BRIEF].rsplit(", ", 1)[0], ", …)" if "(" in label else "…"
    return Markup('<span title="{}">{}</span>').format(label, kept + dropped)


def _bold(text: str) -> Markup:
    """Markdown's ``**bold**`` as HTML."""
    return Markup(re.sub(r"\*\*(.*?)\*\*", r"<strong>\1</strong>", str(escape(text))))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True).replace("</", "<\\/")


# -- what a page shows that is no field of the site -------------------------------------------------------------------
def defended(site: Site, defense: str) -> dict[str, Any]:
    """For the page of a defense: its rows, its cells, and the threats that it met nowhere or cannot meet."""
    rows = [(board, row) for board in site.boards for row in board.rows if row.name == defense]
    pairs = [pair for block in site.blocks for (_, name), pair in block.pairs.items() if name == defense]
    return {
        "defense": defense,
        "described": [(name, site.described.get(name, "")) for name in defense.split("+")],
        "rows": rows,
        "varied": any(row.parameters for _, row in rows),
        "entries": site.entries.get(defense, []),
        "broken": site.broken(defense),
        "unmet": [pair.attack.label for pair in pairs if pair.state == "not run"],
        "refused": [block for block in site.blocks if defense in block.others],
        "met_adaptive": any(row.met_adaptive for _, row in rows),
    }


def pictures_of(site: Site, keys: Iterable[str]) -> list[tuple[str, str]]:
    """(caption, path) of the pictures that the records of ``keys`` left, as far as boards show them."""
    wanted = set(keys)
    found = []
    for board in site.boards:
        for row in board.rows:
            for threat, pictures in row.pictures.items():
                if wanted & {run.key for run in row.cells[threat].runs}:
                    found += [
                        (f"{threat} against {row.defense} on {board.dataset}: {n}", p) for n, p in pictures.items()
                    ]
    return found[:PICTURES]


# -- the plot ---------------------------------------------------------------------------------------------------------
def plot(site: Site) -> list[dict[str, Any]]:
    """A privacy–utility plot for each board and metric: its points, and the lines of chance and half way."""
    return [_plotted(board, metric) for board in site.boards for metric in board.metrics if board.bare(metric)]


def _plotted(board: Board, metric: str) -> dict[str, Any]:
    points = [_point(board, row, metric) for row in board.rows if row.worst[metric] and row.utility]
    half = wording.half_way(board, metric)
    return {
        "title": f"{board.title} · {metric}",
        "dataset": board.dataset,
        "scale": board.scale,
        "metric": metric,
        "utility": board.utility,
        "chance": _rounded(board.chance(metric)),
        "half": None if half is None else _rounded(half),
        "points": points,
    }


def _point(board: Board, row: Row, metric: str) -> dict[str, Any]:
    worst, utility = row.worst[metric], row.utility
    assert worst is not None and utility is not None and worst.cell.summary is not None
    return {
        "defense": row.defense,
        "page": f"defenses/{slug(row.name)}.html",
        "risk": _rounded(worst.mean),
        "risk_half": _rounded(worst.cell.summary.half_width or 0.0),
        "by": worst.threat,
        "utility": _rounded(utility.mean),
        "utility_half": _rounded(utility.half_width or 0.0),
        "verdict": wording.verdict(board, row, metric) or ("no defense" if row.plain else "nothing can be said"),
        "adaptive": row.met_adaptive or row.plain,
    }


def _rounded(value: float) -> float:
    return round(value, 4) + 0.0


# -- files ------------------------------------------------------------------------------------------------------------
def write(folder: Path, files: dict[str, str], kinds: Iterable[str]) -> list[Path]:
    """Make ``folder`` hold exactly ``files`` of these ``kinds`` (endings); none is ever seen half-written."""
    for stale in sorted(path for kind in kinds for path in folder.rglob(f"*.{kind}")):
        if stale.relative_to(folder).as_posix() not in files:
            stale.unlink()
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in files]
