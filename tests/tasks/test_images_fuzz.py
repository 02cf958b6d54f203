"""Corrupt images: each is one line that names the file, or exactly the pixels that Pillow gives."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from pathlib import Path

import numpy as np
from odd_images import corrupt, files
from PIL import Image, ImageOps

from ncafast.tasks.images import ImageError, Reading, read_image

COUNT = int(os.environ.get("NCAFAST_CORRUPT_IMAGES", "3000"))
MOST = 400_000  # pixels, so that headers that claim many take no time
OURS = ("more than the limit", "holds values from", "holds NaN", "holds signed 8-bit", "has no pixels")


def pillow(path: Path) -> tuple[np.ndarray, bool] | None:
    """Pixels of the first frame by the rules of docs/images.md, and whether they are the upper bytes of 16-bit colours;
    None if Pillow cannot read them."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            with path.open("rb") as file, Image.open(file) as image:  # by its path, Pillow would map it into memory
                if image.width * image.height > MOST:
                    return None
                rough = any(";16" in str(tile[3]) for tile in image.tile) and image.mode in ("RGB", "RGBA")
                white = 0 in (image.tag_v2.get(262), 1) if image.format == "TIFF" else False
                bits = image.tag_v2.get(258, (0,))[0] if image.format == "TIFF" else 0
                image.load()
                with contextlib.suppress(Exception):
                    image = ImageOps.exif_transpose(image)
                return _bytes(image, bits, white), rough
        except Exception:
            return None


def _bytes(image: Image.Image, bits: int, white_is_zero: bool) -> np.ndarray:
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.array(image, np.float64)
        signed = image.mode == "I" and bits == 16
        top = 1 if image.mode == "F" else 2 ** ((bits if 0 < bits < 16 else 16) - signed) - 1
        grey = np.rint(np.clip(values / top, 0, 1) * 255).astype(np.uint8)
        grey = 255 - grey if white_is_zero else grey
        if not isinstance(image.info.get("transparency"), int):
            return grey
        alpha = np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)
        return np.stack([grey, grey, grey, alpha], -1)
    if image.mode == "La":
        return np.array(image.convert("LA").convert("RGBA"))
    mode = "RGBA" if image.has_transparency_data else "L" if image.mode in ("1", "L") else "RGB"
    return np.array(image.convert(mode))


def test_corrupt_images_are_one_line_or_read_as_pillow_reads_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger("PIL"), "propagate", False)  # to pytest's handler
    random, good = np.random.default_rng(int(os.environ.get("NCAFAST_CORRUPT_SEED", "11"))), list(files())
    assert len(good) > 150
    read, refused = 0, 0
    for number in range(COUNT):
        name, data = good[number % len(good)]
        path = tmp_path / f"{number}.{name}"
        path.write_bytes(corrupt(data, random))
        expected = pillow(path)
        try:
            found = np.array(read_image(path, Reading(max_pixels=MOST)))
        except ImageError as error:
            refused += 1
            said = str(error)
            assert said.startswith(f"{path}: ") and "\n" not in said and len(said) < len(str(path)) + 320
            assert expected is None or any(ours in said for ours in OURS), said
        else:
            read += 1
            assert expected is not None, path
            pixels, upper = expected
            assert found.shape == pixels.shape, path
            far = np.abs(found.astype(int) - pixels)
            assert far.max() <= upper, path  # what Pillow cuts off of 16-bit colours is at most 1 of 255
        path.unlink()
    assert min(read, refused) > COUNT // 5
    assert capsys.readouterr() == ("", "")  # libtiff itself writes to the process's stderr, which is not this one


def test_good_images_are_read_as_pillow_reads_them(tmp_path):
    for number, (name, data) in enumerate(files()):
        if name.endswith("spider"):  # floats from 0 to 255
            continue
        path = tmp_path / f"{number}.{name}"
        path.write_bytes(data)
        pixels, upper = pillow(path)
        assert np.abs(np.array(read_image(path)).astype(int) - pixels).max() <= upper, name
