"""Picture grids of an outcome as small PNG files: the images that an adversary recovers, next to the originals."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from runners.store.records import StoreError

if TYPE_CHECKING:
    from benchmark.outcome import Outcome

SIDE = 64  # pixels that a small image is enlarged to, about
GAP = 4
FONT_SIZE = 13


def save(outcome: Outcome, folder: Path, stem: str) -> dict[str, str]:
    """Write every picture of ``outcome`` to ``<folder>/media/<first two of stem>/<stem>-<name>.png``.

    The same pictures give the same bytes, and a file is never seen half-written.

    Args:
        folder: the store.
        stem: begins the file names; the key of the cell.

    Returns:
        Name of the picture -> path relative to ``folder``, with forward slashes.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
        ValueError: a picture is not (rows, columns, channels, height, width), or two names give the same file.
    """
    paths: dict[str, str] = {}
    for name, images in outcome.pictures.items():
        path = f"media/{stem[:2]}/{stem}-{slug(name)}.png"
        if path in paths.values():
            raise ValueError(f"two pictures of {stem} would be written to {path}; their names must differ in letters.")
        _write(grid(images.numpy(), outcome.captions.get(name, [])), folder / path)
        paths[name] = path
    return paths


def slug(text: str) -> str:
    """Return ``text`` as part of a file name: letters, digits, dots, underscores and single hyphens."""
    return re.sub(r"[^\w.]+", "-", text, flags=re.ASCII).strip("-")


def grid(images: np.ndarray, captions: list[str]) -> Image.Image:
    """Return one picture made of many images, each row with its caption at the left.

    Args:
        images: (rows, columns, channels, height, width) in [0, 1]; what is outside is clipped, NaN is black. One
            channel is grey, three are colours; of any other number the mean is shown.
        captions: of the rows; may be shorter than there are rows.
    """
    if images.ndim != 5 or 0 in images.shape:
        raise ValueError(f"a picture is (rows, columns, channels, height, width), got shape {images.shape}.")
    rows, columns, _, height, width = images.shape
    zoom = max(1, round(SIDE / max(height, width)))
    height, width = height * zoom, width * zoom
    font = ImageFont.load_default(FONT_SIZE)
    left = GAP + max((int(font.getlength(text)) + 3 * GAP for text in captions), default=0)
    canvas = Image.new("RGB", (left + columns * (width + GAP), GAP + rows * (height + GAP)), "white")
    draw = ImageDraw.Draw(canvas)
    for row in range(rows):
        top = GAP + row * (height + GAP)
        if row < len(captions):
            draw.text((2 * GAP, top + height // 2), captions[row], fill="black", font=font, anchor="lm")
        for column in range(columns):
            tile = Image.fromarray(_colours(images[row, column]))
            canvas.paste(tile.resize((width, height), Image.Resampling.NEAREST), (left + column * (width + GAP), top))
    return canvas


def _colours(image: np.ndarray) -> np.ndarray:
    """Return an image (channels, height, width) in [0, 1] as uint8 (height, width, 3)."""
    if len(image) != 3:
        image = image.mean(axis=0, keepdims=True).repeat(3, axis=0)
    levels = np.nan_to_num(image, nan=0.0).clip(0, 1) * 255
    return np.ascontiguousarray(levels.round().astype(np.uint8).transpose(1, 2, 0))


def _write(picture: Image.Image, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(temporary, format="PNG", optimize=True)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):  # its name may be what is wrong
            temporary.unlink(missing_ok=True)
        raise StoreError(f"The picture {path} could not be written: {error.strerror}.") from error
