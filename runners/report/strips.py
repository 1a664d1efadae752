"""The strip of a board: one picture with the result of an attack against each defense, made of the records' grids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from runners.report.pictures import FONT_SIZE, GAP, slug
from runners.report.sections import Row, Section

if TYPE_CHECKING:
    from runners.report.boards import Board

WIDTH = 1400  # pixels at most
LABEL_WIDTH = 300
MOST_ROWS = 24
MARGIN = 10
DIM = "#57606a"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def strip_path(board: str) -> str:
    """Return where the strip of a board lies in its store."""
    return f"media/{slug(board)}.png"


def compose(board: Board, store: Path) -> Image.Image | None:
    """Return the strip of ``board``: a row for each defense under each protocol, or None where no picture was left.

    A row shows the worst case of its defense, or where that left no picture the first attack that did, by the grid of
    the lowest seed. At most 24 rows are shown, the same number of each protocol as far as possible.
    """
    chosen = list(_spread([list(_rows(section)) for section in board.sections], MOST_ROWS))
    tiles = [(title, lines, _opened(store / path)) for title, lines, path in chosen]
    if not tiles:
        return None
    font = ImageFont.load_default(FONT_SIZE)
    room = WIDTH - LABEL_WIDTH - 3 * MARGIN
    tiles = [(title, lines, _shrunk(tile, room)) for title, lines, tile in tiles]
    headed = [index == 0 or tiles[index - 1][0] != title for index, (title, _, _) in enumerate(tiles)]
    line_height = FONT_SIZE + GAP
    labels = [[part for line in lines for part in wrapped(line, font, LABEL_WIDTH)] for _, lines, _ in tiles]
    titles = [wrapped(title, font, WIDTH - 2 * MARGIN) for title, _, _ in tiles]
    heights = [
        max(tile.height, len(label) * line_height) + MARGIN + head * (len(title) * line_height + MARGIN)
        for (_, _, tile), label, title, head in zip(tiles, labels, titles, headed, strict=True)
    ]
    width = LABEL_WIDTH + 3 * MARGIN + max(tile.width for _, _, tile in tiles)
    width = max(width, *(int(font.getlength(line)) + 2 * MARGIN for title in titles for line in title))
    canvas = Image.new("RGB", (width, sum(heights) + MARGIN), "white")
    draw = ImageDraw.Draw(canvas)
    top = MARGIN
    for (_, _, tile), label, title, head, height in zip(tiles, labels, titles, headed, heights, strict=True):
        below = top
        if head:
            for line in title:
                draw.text((MARGIN, below), line, fill=DIM, font=font)
                below += line_height
            below += MARGIN
        for number, line in enumerate(label):
            draw.text((MARGIN, below + number * line_height), line, fill="black", font=font)
        canvas.paste(tile, (LABEL_WIDTH + 2 * MARGIN, below))
        top += height
    return canvas


def write(board: Board, store: Path, into: Path) -> Path | None:
    """Write the strip of ``board`` from the pictures in ``store`` into the store ``into``; return its path, if any."""
    strip = compose(board, store)
    if strip is None:
        return None
    path = into / strip_path(board.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    strip.quantize(128, dither=Image.Dither.NONE).save(path, format="PNG", optimize=True)
    return path


def _rows(section: Section) -> Iterator[tuple[str, list[str], str]]:
    """Yield the section's title, the lines of the label and the path of the picture, for each defense that left one."""
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


def _spread(groups: list[list[tuple[str, list[str], str]]], most: int) -> Iterator[tuple[str, list[str], str]]:
    """Yield at most ``most`` of the items, in order, taken evenly from the groups."""
    kept = [0] * len(groups)
    while sum(kept) < most and any(count < len(group) for count, group in zip(kept, groups, strict=True)):
        for index, group in enumerate(groups):
            if kept[index] < len(group) and sum(kept) < most:
                kept[index] += 1
    for count, group in zip(kept, groups, strict=True):
        yield from group[:count]


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def _shrunk(tile: Image.Image, room: int) -> Image.Image:
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
