"""Pictures and charts of records, and the picture strip of a board."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from benchmark.outcome import Outcome
from runners.report import charts, strips
from runners.report.boards import Board, build
from runners.report.pictures import grid, save, slug
from runners.report.source import compact, read
from runners.store.records import StoreError
from tests.runners.synthetic import record, store, with_pictures

KEY = "ab" + "0" * 62


def outcome(shape: tuple[int, ...] = (1, 8, 8), rows: int = 2, name: str = "reconstruction") -> Outcome:
    images = torch.linspace(0, 1, 5 * shape[0] * shape[1] * shape[2]).reshape(5, *shape)
    result = Outcome()
    result.picture(name, {f"row {i}": images for i in range(rows)}, columns=4)
    return result


def test_a_picture_lands_under_media_and_is_named_relative_to_the_store(tmp_path: Path) -> None:
    paths = save(outcome(name="guess & truth"), tmp_path, KEY)
    assert paths == {"guess & truth": f"media/ab/{KEY}-guess-truth.png"}
    assert [path.name for path in (tmp_path / "media" / "ab").iterdir()] == [f"{KEY}-guess-truth.png"]


def test_the_same_pictures_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    path = save(outcome(), first, KEY)["reconstruction"]
    save(outcome(), second, KEY)
    save(outcome(), second, KEY)
    assert (first / path).read_bytes() == (second / path).read_bytes()


def test_small_images_are_enlarged_without_smoothing() -> None:
    checker = np.indices((8, 8)).sum(axis=0) % 2
    picture = np.asarray(grid(checker.reshape(1, 1, 1, 8, 8).astype(float), []))
    inside = picture[4:68, 4:68]
    assert set(np.unique(inside)) == {0, 255}
    assert (inside[::8, ::8, 0] == checker * 255).all()


def test_colours_and_clipping() -> None:
    images = np.zeros((1, 1, 3, 32, 32))
    images[:, :, 0], images[:, :, 1], images[:, :, 2] = 2.0, -1.0, np.nan
    assert grid(images, []).getpixel((10, 10)) == (255, 0, 0)


def test_captions_make_room_at_the_left() -> None:
    images = np.zeros((2, 3, 1, 8, 8))
    plain, captioned = grid(images, []), grid(images, ["private images", "guess"])
    assert plain.height == captioned.height
    assert (np.asarray(captioned)[:, : captioned.width - plain.width] < 128).any()


def test_a_written_file_opens_as_an_image(tmp_path: Path) -> None:
    path = save(outcome((3, 28, 28)), tmp_path, KEY)["reconstruction"]
    with Image.open(tmp_path / path) as picture:
        assert picture.width > 4 * 56


def test_what_is_not_a_grid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rows, columns, channels, height, width"):
        save(Outcome(pictures={"x": torch.zeros(3, 8, 8)}), tmp_path, KEY)


def test_names_that_collide_are_refused(tmp_path: Path) -> None:
    images = torch.zeros(1, 1, 1, 8, 8)
    with pytest.raises(ValueError, match="two pictures"):
        save(Outcome(pictures={"a b": images, "a-b": images}), tmp_path, KEY)


@pytest.mark.parametrize(("text", "expected"), [("a/b", "a-b"), ("test_accuracy by round", "test_accuracy-by-round")])
def test_slug(text: str, expected: str) -> None:
    assert slug(text) == expected


def test_a_name_that_no_file_can_have_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="could not be written: File name too long"):
        save(outcome(name="x" * 400), tmp_path, KEY)


@pytest.mark.parametrize("shape", [(1, 0, 1, 8, 8), (1, 1, 0, 8, 8), (1, 1, 1, 0, 0)])
def test_no_pixels_are_no_picture(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="got shape"):
        grid(np.zeros(shape), [])


# -- charts -----------------------------------------------------------------------------------------------------------
CURVES = {"bits by layer": [0.1, 0.5, None], "accuracy by round": [0.2, 0.3]}
CAPTIONS = {"bits by layer": ["conv1", "conv2", "fc1"], "reconstruction": ["original"]}


def test_named_curves_are_drawn_the_same_each_time(tmp_path: Path) -> None:
    media = charts.save(CURVES, CAPTIONS, tmp_path, "abcdef")
    assert media == {"curves": "media/ab/abcdef-curves.png"}
    first = (tmp_path / media["curves"]).read_bytes()
    with Image.open(tmp_path / media["curves"]) as picture:
        assert picture.width > 100
    charts.save(CURVES, CAPTIONS, tmp_path, "abcdef")
    assert (tmp_path / media["curves"]).read_bytes() == first
    assert [path.name for path in (tmp_path / "media" / "ab").iterdir()] == ["abcdef-curves.png"]


def test_curves_without_names_leave_no_file(tmp_path: Path) -> None:
    assert charts.save({"accuracy by round": [0.1]}, {}, tmp_path, "abcdef") == {}
    assert not list(tmp_path.iterdir())


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


@pytest.mark.ci
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
