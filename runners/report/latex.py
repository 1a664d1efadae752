"""A board as a LaTeX table for papers, with the rules of the package ``booktabs``."""

from __future__ import annotations

from runners.report.board_text import interval, price, scaled
from runners.report.boards import Board, Row

SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
SPECIAL |= {char: f"\\{char}" for char in "&%$#_{}"}
SPECIAL |= {"±": r"$\pm$", "·": r"$\cdot$", "≥": r"$\geq$", "≈": r"$\approx$", "–": "--", "ε": r"$\varepsilon$"}


def escaped(text: str) -> str:
    """``text`` with every character that LaTeX takes for a command made plain."""
    return "".join(SPECIAL.get(char, char) for char in text)


def table(board: Board) -> str:
    """Utility, its price and the worst case by metric of every defense, as a ``table`` with ``booktabs`` rules."""
    unit, lost_in = (f"{board.utility} (%)", "lost (points)") if board.fraction else (board.utility, "lost")
    head = ["defense", unit, lost_in, *(column for metric in board.metrics for column in (f"worst {metric}", "by"))]
    lines = [_row(board, row) for row in board.rows]
    body = [" & ".join(map(escaped, line)) + r" \\" for line in lines]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(board.title)}: risk is the attack's success, higher is worse; "
            r"mean $\pm$ half of the 95\,\% interval over seeds.}",
            rf"\begin{{tabular}}{{l{'r' * 2}{'rl' * len(board.metrics)}}}",
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


def _row(board: Board, row: Row) -> list[str]:
    line = [row.defense, scaled(board, row.utility), price(board, row)]
    for metric in board.metrics:
        worst = row.worst[metric]
        if worst is None:
            line += ["–", "–"]
        else:
            line += [("" if worst.complete else "≥ ") + interval(worst.cell.summary), worst.threat]
    return line
