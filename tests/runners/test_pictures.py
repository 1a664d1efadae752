from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.outcome import Outcome
from runners.report import charts
from runners.report.pictures import grid, save, slug
from runners.store.records import StoreError

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
