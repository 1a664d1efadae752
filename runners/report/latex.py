"""Boards as LaTeX tables for papers, with the rules of the package ``booktabs``."""

from __future__ import annotations

from runners.report.board_text import interval, price, scaled, undefended
from runners.report.boards import Board
from runners.report.sections import Row, Section

SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
SPECIAL |= {char: f"\\{char}" for char in "&%$#_{}"}
SPECIAL |= {"±": r"$\pm$", "·": r"$\cdot$", "≥": r"$\geq$", "≈": r"$\approx$", "–": "--", "ε": r"$\varepsilon$"}


def escaped(text: str) -> str:
    """Return ``text`` with every character escaped that LaTeX takes for a command."""
    return "".join(SPECIAL.get(char, char) for char in text)


def board(shown: Board) -> str:
    """Return a ``table`` for each section of a board."""
    return "\n".join(table(section) for section in shown.sections)


def table(section: Section) -> str:
    """Return a ``table`` with utility, its price and the worst case by metric of every defense."""
    unit, lost_in = (f"{section.utility} (%)", "lost (points)") if section.fraction else (section.utility, "lost")
    head = [
        "defense",
        unit,
        lost_in,
        *(column for metric in section.metrics for column in (f"worst {metric}", "by", "undefended")),
    ]
    lines = [_row(section, row) for row in section.rows]
    body = [" & ".join(map(escaped, line)) + r" \\" for line in lines]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(section.title)}: risk is the attack's success, higher is worse; "
            r"mean $\pm$ half of the 95\,\% interval over seeds.}",
            rf"\begin{{tabular}}{{l{'r' * 2}{'rlr' * len(section.metrics)}}}",
            r"\toprule",
            " & ".join(map(escaped, head)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _row(section: Section, row: Row) -> list[str]:
    line = [row.defense, scaled(section, row.utility), price(section, row)]
    for metric in section.metrics:
        worst = row.worst[metric]
        if worst is None:
            line += ["–", "–", "–"]
        else:
            line += [("" if worst.complete else "≥ ") + interval(worst.summary), worst.threat, undefended(row, metric)]
    return line
