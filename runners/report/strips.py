"""The strip of a board: one picture with the result of an attack against each defense, made of the records' grids."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from runners.report.pictures import FONT_SIZE, GAP, slug
from runners.report.sections import Row, Section
from runners.store.gate import LARGEST_PICTURE, read_file
from runners.store.records import Store, StoreError

if TYPE_CHECKING:
    from runners.report.boards import Board

WIDTH = 1400  # pixels at most
LABEL_WIDTH = 300
MARGIN = 10
TITLE_WIDTH = 880
MOST_ROWS = 24
MOST_HEIGHT = 3600
LINE = FONT_SIZE + GAP
DIM = "#57606a"

Choice = tuple[str, list[str], str]
"""Title of the section, lines of the label, path of the picture in the store."""
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def strip_path(board: str) -> str:
    """Return where the strip of a board lies in its store."""
    return f"media/{slug(board)}.png"


@dataclass(frozen=True)
class _Entry:
    """A row of the strip: its picture, the lines of its label, and the title above it, which may have no line."""

    title: list[str]
    label: list[str]
    tile: Image.Image

    @property
    def title_height(self) -> int:
        return len(self.title) * LINE + MARGIN if self.title else 0

    @property
    def height(self) -> int:
        return self.title_height + max(self.tile.height, len(self.label) * LINE) + MARGIN


def compose(board: Board, store: Path) -> Image.Image | None:
    """Return the strip of ``board``: a row for each defense under each protocol, or None where no picture was left.

    A row shows the worst case of its defense, or where that left no picture the first attack that did, by the grid of
    the lowest seed. Of a board with more rows than fit, as many are shown of each protocol as of the others.
    """
    groups = [list(_rows(section)) for section in board.sections]
    tiles = {path: tile for group in groups for _, _, path in group if (tile := _tile(store / path)) is not None}
    groups = [[choice for choice in group if choice[2] in tiles] for group in groups]
    if not tiles:
        return None
    most, entries = MOST_ROWS, _entries(_spread(groups, MOST_ROWS), tiles)
    while most > 1 and sum(entry.height for entry in entries) > MOST_HEIGHT:
        most -= 1
        entries = _entries(_spread(groups, most), tiles)
    return _drawn(entries)


def _entries(chosen: Iterable[Choice], tiles: Mapping[str, Image.Image]) -> list[_Entry]:
    font = ImageFont.load_default(FONT_SIZE)
    entries, above = [], None
    for title, lines, path in chosen:
        label = [part for line in lines for part in wrapped(line, font, LABEL_WIDTH)]
        entries.append(_Entry([] if title == above else wrapped(title, font, TITLE_WIDTH), label, tiles[path]))
        above = title
    return entries


def _drawn(entries: Sequence[_Entry]) -> Image.Image:
    font = ImageFont.load_default(FONT_SIZE)
    width = LABEL_WIDTH + 3 * MARGIN + max(entry.tile.width for entry in entries)
    width = max([width, TITLE_WIDTH + 2 * MARGIN])
    canvas = Image.new("RGB", (width, sum(entry.height for entry in entries) + MARGIN), "white")
    draw = ImageDraw.Draw(canvas)
    top = MARGIN
    for entry in entries:
        for number, line in enumerate(entry.title):
            draw.text((MARGIN, top + number * LINE), line, fill=DIM, font=font)
        below = top + entry.title_height
        for number, line in enumerate(entry.label):
            draw.text((MARGIN, below + number * LINE), line, fill="black", font=font)
        canvas.paste(entry.tile, (LABEL_WIDTH + 2 * MARGIN, below))
        top += entry.height
    return canvas


def write(board: Board, store: Path, into: Path) -> Path | None:
    """Write the strip of ``board`` from the pictures in ``store`` into the store ``into``; return its path, if any."""
    strip = compose(board, store)
    if strip is None:
        return None
    path = into / strip_path(board.name)
    content = BytesIO()
    strip.quantize(128, dither=Image.Dither.NONE).save(content, format="PNG", optimize=True)
    Store(into).put(path, content.getvalue(), "picture")
    return path


def _rows(section: Section) -> Iterator[Choice]:
    """Yield the choice for each defense that left a picture."""
    for row in section.rows:
        if shown := _shown(section, row):
            threat, name, path = shown
            yield section.title, [threat, f"against {row.defense}", name], path


def _shown(section: Section, row: Row) -> tuple[str, str, str] | None:
    worst = [found.threat for metric in section.metrics if (found := row.worst[metric])]
    attacks = [column.threat for column in section.columns if column.control is None]
    for threat in [*worst, *attacks]:
        for name, path in sorted(row.pictures.get(threat, {}).items(), key=lambda item: (item[0] == "curves", item[0])):
            return threat, name, path
    return None


def _spread(groups: Sequence[Sequence[Choice]], most: int) -> Iterator[Choice]:
    """Yield at most ``most`` of the items, in order, taken evenly from the groups."""
    kept = [0] * len(groups)
    while sum(kept) < most and any(count < len(group) for count, group in zip(kept, groups, strict=True)):
        for index, group in enumerate(groups):
            if kept[index] < len(group) and sum(kept) < most:
                kept[index] += 1
    for count, group in zip(kept, groups, strict=True):
        yield from group[:count]


def _tile(path: Path) -> Image.Image | None:
    """Return a picture, made smaller where it is wider than the room beside a label; None for what is no PNG file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(read_file(path, LARGEST_PICTURE)), formats=["PNG"]) as picture:
                tile = picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, StoreError, Image.DecompressionBombWarning, Image.DecompressionBombError):
        return None  # damaged, or an archive of pixels that would fill the memory
    room = WIDTH - LABEL_WIDTH - 3 * MARGIN
    if tile.width <= room:
        return tile
    return tile.resize((room, max(1, round(tile.height * room / tile.width))), Image.Resampling.LANCZOS)


def wrapped(text: str, font: Font, width: int) -> list[str]:
    """Return ``text`` in lines of at most ``width`` pixels, broken at blanks and else anywhere."""
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if font.getlength(longer) <= width:
            line = longer
            continue
        lines += [line] if line else []
        line = word
        while font.getlength(line) > width:
            cut = next(end for end in range(len(line), 0, -1) if font.getlength(line[:end]) <= width)
            lines.append(line[:cut])
            line = line[cut:]
    return [*lines, line] if line else lines
