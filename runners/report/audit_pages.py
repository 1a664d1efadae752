"""The report of an audit as one page: HTML that needs no other file, and Markdown with pictures beside it."""

from __future__ import annotations

import base64
import io
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from runners.report import board_text, output
from runners.report.audit import BADGES, Block, Facts, Page, contents
from runners.report.markdown import Ready, escaped, table
from runners.report.sections import Row, Section
from runners.store.gate import LARGEST_PICTURE, read_file, visible
from runners.sweep.audit import Audit
from runners.sweep.progress import duration

HTML, MARKDOWN = "report.html", "report.md"
PICTURES = 3
LARGEST_SHOWN = 600_000  # bytes of a picture on the page


def write(out: Path, audit: Audit, facts: Facts) -> list[Path]:
    """Write the report of ``audit`` into ``out``, and return the paths, the HTML page first."""
    page = contents(out, audit, facts)
    figures = [front(block) for block in page.blocks]
    files: dict[str, str | bytes | Path] = {
        HTML: _html(page, figures, out),
        MARKDOWN: _markdown(page, figures),
    }
    files |= {_figure_path(number): figure for number, figure in enumerate(figures) if figure}
    return output.write(out, files)


# -- the picture of risk and utility ----------------------------------------------------------------------------------
def front(block: Block) -> bytes | None:
    """Return a picture of the defenses by worst case and utility, with the front; None where all are in one place."""
    section, metric = block.section, block.metric
    unit = 100 if section.fraction else 1
    points = [
        (shown, worst.mean, unit * shown.kept)
        for shown in block.rows
        if (worst := shown.row.worst[metric]) and shown.kept is not None
    ]
    if len({(risk, utility) for _, risk, utility in points}) < 2:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    line = sorted((risk, utility) for shown, risk, utility in points if shown.front)
    axes.plot(*zip(*line, strict=True), color="#8a3ffc", linewidth=1.5, alpha=0.6, zorder=1, label="front")
    for x, style, name in (
        (section.chance(metric), ":", "chance"),
        (board_text.half_way(section, metric), "--", "half way"),
    ):
        if x is not None:
            axes.axvline(x, color="#57606a", linestyle=style, linewidth=1, zorder=0, label=name)
    for shown, risk, utility in points:
        colour = "#1b1f24" if shown.row.plain else "#8a3ffc" if shown.front else "#9aa4af"
        axes.scatter(risk, utility, s=170, color=colour, zorder=2)
    for text, x, y in _spread([(str(s.place), r, u) for s, r, u in points]):
        axes.annotate(text, (x, y), color="white", ha="center", va="center", fontsize=8, zorder=3)
    axes.set_xlabel(f"worst case: {metric} (left is safer)")
    axes.set_ylabel(f"{section.utility}{' in %' if section.fraction else ''} (up is useful)")
    axes.grid(color="#eaeef2", linewidth=0.8)
    axes.margins(0.08)
    axes.legend(fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


def _spread(points: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Return the points with the numbers of those in one place joined: ``1,4``."""
    places: dict[tuple[float, float], list[str]] = defaultdict(list)
    for text, x, y in points:
        places[x, y].append(text)
    return [(",".join(texts), x, y) for (x, y), texts in places.items()]


def _figure_path(number: int) -> str:
    return f"fronts/{number}.png"


# -- HTML -------------------------------------------------------------------------------------------------------------
def _html(page: Page, figures: Sequence[bytes | None], out: Path) -> str:
    from runners.report.site.pages import HERE, environment

    made = environment("", "")
    text = made.get_template("audit.html").render(
        page=page,
        figures=figures,
        style=(HERE / "static" / "site.css").read_text("utf-8"),
        uri=lambda content: "data:image/png;base64," + base64.b64encode(content).decode("ascii"),
        picture=lambda path: _read_picture(out, path),
        BADGES=BADGES,
        PICTURES=PICTURES,
        helping=_helping,
        duration=duration,
    )
    return re.sub(r"[ \t]*\n\s*", "\n", text).strip() + "\n"


def _read_picture(out: Path, path: str) -> bytes | None:
    content = read_file(out / path, LARGEST_PICTURE)
    return content if len(content) <= LARGEST_SHOWN else None


# -- Markdown ---------------------------------------------------------------------------------------------------------
def _markdown(page: Page, figures: Sequence[bytes | None]) -> str:
    facts = page.facts
    parts = [
        f"# Audit of {escaped(facts.name)}",
        f"{escaped(facts.data.told())} {page.played} of {len(page.audit.cells)} cells have a record. Risk is the "
        "attack's success, higher is worse; numbers are means over seeds ± half of the 95 % Student-t interval.",
        _code(facts.command),
    ]
    if page.blocks:
        head = ["setting: attacks", "found", "strongest undefended", "risk", "its risk", "chance", "defenses that help"]
        parts.append(table(head, [_summary_line(block) for block in page.blocks]))
    for number, (block, figure) in enumerate(zip(page.blocks, figures, strict=True)):
        parts += _block_text(block, _figure_path(number) if figure else None)
    parts += _rest(page)
    return "\n\n".join(filter(None, parts)) + "\n"


def _summary_line(block: Block) -> list[str]:
    bare, chance = block.bare, block.section.chance(block.metric)
    told = board_text.number(chance) if block.metric in block.section.chances else "no control"
    strongest = [bare.by, block.metric, block.bare_risk] if bare and bare.by else ["", block.metric, "–"]
    return [f"{block.title} ({block.place})", block.state, *strongest, told, _helping(block)]


def _helping(block: Block) -> str:
    """Return the defenses that help, each with the risk that it leaves and the utility that it costs."""
    if not block.shows:
        return "nothing is shown"
    told = [f"{shown.row.defense} (risk {shown.risk}, {_cost(block.section, shown.row)})" for shown in block.helping]
    return "; ".join(told) or ("none of those tried" if len(block.rows) > 1 else "none tried")


def _cost(section: Section, row: Row) -> str:
    if row.price is None:
        return "cost unknown"
    verb, price = ("gains", replace(row.price, mean=-row.price.mean)) if row.price.mean < 0 else ("costs", row.price)
    return f"{verb} {board_text.scaled(section, price)}{' points' if section.fraction else ''}"


def _block_text(block: Block, figure: str | None) -> list[str]:
    parts = [f"## {escaped(block.title)} ({escaped(block.metric)})", f"*{escaped(block.section.title)}*"]
    if told := " ".join(filter(None, [f"Risk: {block.meaning}." if block.meaning else "", block.note])):
        parts.append(told)
    parts.append("\n".join(f"* {escaped(line)}" for line in block.sentences))
    head = ["no.", "defense", f"worst {block.metric}", "by", block.section.utility, "lost", "ε", "front", "found"]
    lines = [
        [str(s.place), s.row.defense, s.risk, s.by, s.utility, s.price, s.epsilon, "yes" if s.front else "", s.verdict]
        for s in block.rows
    ]
    parts.append(table(head, lines))
    if figure:
        parts.append(f"![Risk and utility of each defense]({figure})")
    shown = [(caption, path) for s in [*block.rows[:1], *block.front] for caption, path in s.pictures][:PICTURES]
    parts += [f"![{escaped(caption)}]({path})" for caption, path in shown]
    commands = [[s.row.defense, attack, told, Ready(f"`{run}`")] for s in block.rows for attack, told, run in s.numbers]
    parts.append(f"<details><summary>The command behind every number</summary>\n\n{_commands(commands)}\n\n</details>")
    return parts


def _commands(lines: Sequence[Sequence[str]]) -> str:
    return table(["defense", "attack", "risk", "command"], lines)


def _rest(page: Page) -> list[str]:
    parts = ["## Not tried, and why"]
    parts.append(escaped(page.more))
    for reason, cells in page.untried:
        parts.append(
            f"**{escaped(reason[0].upper() + reason[1:])}:**\n\n" + "\n".join(f"* {escaped(c)}" for c in cells)
        )
    if page.audit.refused:
        lines = [[str(count), reason] for reason, count in page.audit.refused.items()]
        parts.append("**They do not apply:**\n\n" + table(["cells", "reason"], lines))
    if page.broken:
        lines = [[label, reason, Ready(f"`{run}`")] for label, reason, run in page.broken]
        parts.append("**Played without a number:**\n\n" + table(["cell", "reason", "command"], lines))
    return parts


def _code(text: str) -> str:
    return "\n".join(f"    {line}" for line in visible(text).splitlines())
