"""Pages of the web site: templates filled from :mod:`runners.report.site.model`. Equal records give equal bytes."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from runners.claims.claim_evaluation import STATES, measured
from runners.report import board_text
from runners.report.pictures import slug
from runners.report.ranking import CONTROL, DEFENSE, Contest, Standing, headline
from runners.report.sections import Row, Section
from runners.report.site.model import Entry, Site, shade
from runners.report.statistics import EXACT_UP_TO, stretch

HERE = Path(__file__).parent
ASSETS = (
    "static/site.css",
    "static/site.js",
    "static/ranking.js",
    "vendor/dataTables.min.js",
    "vendor/plotly-basic.min.js",
)
LICENCES = ("vendor/dataTables.LICENSE.txt", "vendor/plotly.LICENSE.txt")
SHORT = {
    board_text.BELOW: "below half way",
    board_text.BROKEN: "broken by its adaptive attack",
    board_text.ABOVE: "not below half way",
    board_text.OPEN: "below half way so far",
    board_text.UNKNOWN: "without any number",
}
"""Verdicts where there is little room."""
BRIEF = 44
PICTURES = 12
"""On one page of a paper; more are a click away, in the records."""


def render(site: Site, store: str, media: str = "") -> dict[str, str]:
    """Return every page and asset: path relative to the site's folder -> content.

    Args:
        store: how the shell commands on the pages name the store, e.g. ``results``.
        media: how the front page reaches the folder in which the store's ``media/`` lies, e.g. ``../``.
    """
    made = environment(store, media)
    files = {f"assets/{Path(name).name}": (HERE / name).read_text("utf-8") for name in (*ASSETS, *LICENCES)}
    files["assets/plot.js"] = f"window.GAUNTLET_PLOT = {_json(plot(site))};\n"
    page = partial(_page, made, files, site)
    page("index.html", "index.html", title="Boards")
    page("pairs.html", "pairs.html", title="All pairs")
    for board in site.boards:
        title = board.face.title if board.face else board.name
        page(f"boards/{board.slug}.html", "board.html", title=title, board=board)
    for defense in site.defenses:
        page(f"defenses/{slug(defense)}.html", "defense.html", title=defense, **defended(site, defense))
    for threat, (attack, block, entries) in site.threats.items():
        told = {"described": site.described.get(f"threat/{threat}", ""), "control": attack.control, "block": block}
        page(f"threats/{slug(threat)}.html", "threat.html", title=threat, threat=threat, entries=entries, **told)
    for paper in site.papers:
        page(paper.page, "paper.html", title=paper.paper.title, answered=paper)
    return files


def _page(made: Environment, files: dict[str, str], site: Site, path: str, template: str, **shown: Any) -> None:
    root = "../" * path.count("/")
    text = made.get_template(template).render(site=site, root=root, path=path, **shown)
    files[path] = re.sub(r"[ \t]*\n\s*", "\n", text).strip() + "\n"


def environment(store: str, media: str) -> Environment:
    """Return the templates with the functions that they use; see :func:`render`."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": board_text.number,
        "slug": slug,
        "bold": _bold,
        "measured": measured,
        "percent": board_text.percent,
        "css": _class,
        "brief": _brief,
    }
    made.globals |= {
        "store": store,
        "w": board_text,
        "entry": Entry,
        "Counter": Counter,
        "STATES": STATES,
        "SHORT": SHORT,
        "PICTURES": PICTURES,
        "media": media,
        "shade": shade,
        "pictures_of": pictures_of,
        "css": _class,
        "headline": headline,
        "dots": dots,
        "limit": limit,
        "data": _data,
    }
    return made


def _class(text: str) -> str:
    """Return ``text`` as the name of a CSS class."""
    return re.sub(r"\W+", "-", text)


def _brief(label: str) -> Markup:
    """Return a label cut to what fits a column, with all of it as its title."""
    if len(label) <= BRIEF:
        return escape(label)
    kept, dropped = label[:BRIEF].rsplit(", ", 1)[0], ", …)" if "(" in label else "…"
    return Markup('<span title="{}">{}</span>').format(label, kept + dropped)


def _bold(text: str) -> Markup:
    """Return Markdown's ``**bold**`` as HTML."""
    return Markup(re.sub(r"\*\*(.*?)\*\*", r"<strong>\1</strong>", str(escape(text))))  # noqa: S704 - escaped just before


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True).replace("</", "<\\/")


# -- boards with a face -----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Dot:
    """A point of a thumbnail: worst case to the right and lost utility downwards, both in [0, 1]."""

    x: float
    y: float
    kind: str


def dots(standings: Sequence[Standing]) -> list[Dot]:
    """Return the thumbnail of a plot."""
    shown = [one for one in standings if one.entrant.kind != CONTROL and one.complete and one.entrant.lost is not None]
    points = [(one.worst or 0.0, one.entrant.lost or 0.0) for one in shown]
    placed = zip(*(_unit(axis) for axis in zip(*points, strict=True)), strict=True) if points else []
    kinds = ["front" if one.front and one.entrant.kind == DEFENSE else one.entrant.kind for one in shown]
    return [Dot(x, y, kind) for (x, y), kind in zip(placed, kinds, strict=True)]


def _unit(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else 0.5 for value in values]


def limit(found: Contest) -> float:
    """Return the end of the slider of lost utility, above the greatest loss: there it means no limit."""
    most = max((entrant.lost for entrant in found.entrants if entrant.lost is not None), default=0.0)
    unit = 0.05 if found.fraction else 10 ** math.floor(math.log10(most)) if most > 0 else 1.0
    return round(unit * (math.floor(max(most, 0.0) / unit) + 1), 6)


def _data(found: Contest) -> Markup:
    """Return a contest as JSON inside a page, where no text can end the script that holds it."""
    told = asdict(found) | {"stretch": {n: stretch(n) for n in range(2, EXACT_UP_TO + 1)}}
    return Markup(_json(told).replace("<", "\\u003c"))  # noqa: S704 - JSON without "<"


# -- contents of pages that are no field of the site -------------------------------------------------------------------
def defended(site: Site, defense: str) -> dict[str, Any]:
    """Return what the page of a defense shows: its rows and cells, and the threats that it has not met."""
    rows = site.rows.get(defense, [])
    return {
        "defense": defense,
        "described": [(name, site.described.get(f"defense/{name}", "")) for name in defense.split("+")],
        "rows": rows,
        "varied": any(row.parameters for _, row in rows),
        "entries": site.entries.get(defense, []),
        "broken": site.broken(defense),
        "unmet": [pair.attack.label for pair in site.pairs.get(defense, []) if pair.state == "not run"],
        "refused": [block for block in site.blocks if defense in block.others],
        "met_adaptive": any(row.met_adaptive for _, row in rows),
    }


def pictures_of(site: Site, keys: Iterable[str]) -> list[tuple[str, str]]:
    """Return (caption, path) of the pictures of the records ``keys``, as far as boards show them."""
    wanted = set(keys)
    found: dict[str, str] = {}
    for section in site.sections:
        for row in section.rows:
            for threat, pictures in row.pictures.items():
                if any(run.key in wanted for run in row.cells[threat].runs):
                    for name, path in pictures.items():
                        found.setdefault(path, f"{threat} against {row.defense} on {section.dataset}: {name}")
    return [(caption, path) for path, caption in found.items()][:PICTURES]


# -- the plot ---------------------------------------------------------------------------------------------------------
def plot(site: Site) -> list[dict[str, Any]]:
    """Return a privacy–utility plot for each section and metric: its points, and the lines of chance and half way."""
    return [
        _plotted(section, metric) for section in site.sections for metric in section.metrics if section.bare(metric)
    ]


def _plotted(section: Section, metric: str) -> dict[str, Any]:
    points = [_point(section, row, metric) for row in section.rows if row.worst[metric] and row.utility]
    half = board_text.half_way(section, metric)
    return {
        "title": f"{section.board} · {section.title} · {metric}",
        "dataset": section.dataset,
        "scale": section.scale,
        "metric": metric,
        "utility": section.utility,
        "chance": _rounded(section.chance(metric)),
        "half": None if half is None else _rounded(half),
        "points": points,
    }


def _point(section: Section, row: Row, metric: str) -> dict[str, Any]:
    worst, utility = row.worst[metric], row.utility
    assert worst is not None and utility is not None
    return {
        "defense": row.defense,
        "page": f"defenses/{slug(row.name)}.html",
        "risk": _rounded(worst.mean),
        "risk_half": _rounded(worst.summary.half_width or 0.0),
        "by": worst.threat,
        "utility": _rounded(utility.mean),
        "utility_half": _rounded(utility.half_width or 0.0),
        "verdict": board_text.verdict(section, row, metric) or ("no defense" if row.plain else "nothing can be said"),
        "adaptive": row.met_adaptive or row.plain,
    }


def _rounded(value: float) -> float:
    return round(value, 4) + 0.0
