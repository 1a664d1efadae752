"""Tests of the picture strip of a board."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFont

from runners.report import strips
from runners.report.boards import Board, build
from runners.report.source import compact, read
from tests.runners.synthetic import record, store, with_pictures

RED, BLUE = (200, 0, 0), (0, 0, 200)


def board(folder: Path, colours: dict[str, tuple[int, int, int]], size: tuple[int, int] = (60, 40)) -> Board:
    """Return a board whose records against each defense left a picture of one colour."""
    records = []
    for defense, colour in colours.items():
        one = with_pictures(record(defense=defense), "grid")
        path = folder / one["media"]["grid"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(path)
        records.append(one)
    (found,) = build(read(store(folder, records)))
    return found


def colours_of(strip: Image.Image) -> list[Any]:
    """Return the colours down the column in which the pictures stand."""
    left = strips.LABEL_WIDTH + 2 * strips.MARGIN + 5
    seen = [strip.getpixel((left, y)) for y in range(strip.height)]
    return [colour for colour, before in zip(seen, [None, *seen], strict=False) if colour != before]


def test_each_defense_has_a_row_with_its_picture(tmp_path: Path) -> None:
    strip = strips.compose(board(tmp_path, {"none": RED, "dp_sgd": BLUE}), tmp_path)
    assert strip is not None and strip.width <= strips.WIDTH
    assert [colour for colour in colours_of(strip) if colour in (RED, BLUE)] == [RED, BLUE]
    label = strip.crop((0, 0, strips.LABEL_WIDTH, strip.height)).convert("L")
    assert label.getextrema()[0] < 100, "there is text"


def test_a_board_without_pictures_has_no_strip(tmp_path: Path) -> None:
    (found,) = build(list(compact([record()])))
    assert strips.compose(found, tmp_path) is None
    assert strips.write(found, tmp_path, tmp_path) is None
    assert not (tmp_path / "media").exists()


def test_a_strip_is_neither_too_wide_nor_too_high(tmp_path: Path) -> None:
    many = dict.fromkeys(["none", *(f"defense_{i}" for i in range(30))], RED)
    strip = strips.compose(board(tmp_path, many, size=(3000, 900)), tmp_path)
    assert strip is not None
    assert strip.width == strips.WIDTH and strip.height <= strips.MOST_HEIGHT + strips.MARGIN


def test_a_strip_lies_in_the_store_that_is_named_and_is_the_same_each_time(tmp_path: Path) -> None:
    found = board(tmp_path / "work", {"none": RED})
    path = strips.write(found, tmp_path / "work", tmp_path / "results")
    assert path == tmp_path / "results" / "media" / "test.png"
    first = path.read_bytes()
    strips.write(found, tmp_path / "work", tmp_path / "results")
    assert path.read_bytes() == first


def test_long_labels_are_broken_and_nothing_is_lost() -> None:
    font = ImageFont.load_default(strips.FONT_SIZE)
    text = "against gradient_noise " + "x" * 200
    lines = strips.wrapped(text, font, 100)
    assert all(font.getlength(line) <= 100 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("damage", ["text", "cut", "huge", "link", "gif", "gone"])
def test_a_damaged_picture_leaves_its_row_out(tmp_path: Path, damage: str) -> None:
    found = board(tmp_path, {"none": RED, "dp_sgd": BLUE})
    sound, spoilt = sorted(tmp_path.glob("media/*/*.png"), key=lambda path: Image.open(path).getpixel((0, 0)) == BLUE)
    content = spoilt.read_bytes()
    spoilt.unlink()
    if damage == "link":
        spoilt.symlink_to(sound)
    elif damage == "gif":
        Image.new("RGB", (60, 40), BLUE).save(spoilt, "GIF")
    elif damage != "gone":
        huge = content[:16] + b"\x7f\xff\xff\xff" * 2 + content[24:]
        spoilt.write_bytes({"text": b"<svg>", "cut": content[:50], "huge": huge}[damage])
    strip = strips.compose(found, tmp_path)
    assert strip is not None and RED in colours_of(strip) and BLUE not in colours_of(strip)
    sound.unlink()
    assert strips.compose(found, tmp_path) is None
