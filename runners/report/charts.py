"""Layer-wise curves of an outcome as one small chart, with a panel for each measure and a bar for each layer."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

COLUMNS = 4
PANEL = (2.6, 1.9)  # inches


def save(
    curves: Mapping[str, Sequence[float | None]], captions: Mapping[str, Sequence[str]], folder: Path, stem: str
) -> dict[str, str]:
    """Draw every curve that has captions for its values into ``<folder>/media/<first two of stem>/<stem>-curves.png``.

    The same curves give the same bytes, and a file is never seen half-written.

    Args:
        curves, captions: of an outcome or a record; the captions of a curve name its values.
        folder: the store.
        stem: begins the file name; the key of the cell.

    Returns:
        ``{"curves": path relative to folder}``, or nothing when there is nothing to draw.
    """
    named = [name for name in curves if name in captions]
    if not named:
        return {}
    path = f"media/{stem[:2]}/{stem}-curves.png"
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.write_bytes(chart({name: (captions[name], curves[name]) for name in named}))
    os.replace(temporary, target)
    return {"curves": path}


def chart(panels: Mapping[str, tuple[Sequence[str], Sequence[float | None]]]) -> bytes:
    """Draw a bar chart for each entry (name -> names of the bars, their heights; None leaves a gap); return the PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(COLUMNS * PANEL[0], rows * PANEL[1]), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (name, (bars, heights)) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, COLUMNS, number + 1)
        axes.bar(range(len(bars)), [float("nan") if value is None else value for value in heights], color="#4477aa")
        axes.set_xticks(range(len(bars)), bars, fontsize=7, rotation=90 if len(bars) > 8 else 0)
        axes.set_title(name, fontsize=7)
        axes.tick_params(axis="y", labelsize=6)
        axes.axhline(0, color="black", linewidth=0.5)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=70, metadata={"Software": None})
    return buffer.getvalue()
