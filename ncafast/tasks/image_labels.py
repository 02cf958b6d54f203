"""Label maps that are images: what a pixel is, as its file has it and not as brightness.

A palette image holds numbers and colours, and either may be asked for. What is transparent is background.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageFile

from ncafast.tasks.images import Reading, decoding, image_error, open_file, upright

Array = np.ndarray[Any, Any]
Kind = Literal["binary", "numbers", "colours"]

_BLURRED = "a JPEG's values are not exact at edges; save the label map as PNG"
_MIDDLE = 127  # of 8 bits: a JPEG's black and white are near 0 and 255


def read_label_map(path: Path, kind: Kind, reading: Reading) -> Array:
    """The labels of an image file, upright as its image would be.

    Args:
        path: a file in any format that Pillow reads.
        kind: what is asked for. binary: whether a pixel is anything but black (of a JPEG: brighter than 127).
            numbers: the grey level, or the number in the palette. colours: red, green and blue.
        reading: its limit of pixels and its notes are used.

    Returns:
        [H, W] bool, [H, W] int64 or [H, W, 3] uint8.

    Raises:
        ImageError: no image, a corrupt or too large one, or one that has no such labels.
    """
    name = str(path)
    with open_file(path) as file, decoding(file, name, reading) as opened:
        opened.load()
        if opened.format == "JPEG" and kind != "binary":
            raise image_error(name, _BLURRED)
        return {"binary": _binary, "numbers": _numbers, "colours": _colours}[kind](opened, name, reading)


def _binary(opened: ImageFile.ImageFile, name: str, reading: Reading) -> Array:
    if opened.format == "JPEG":
        reading.notes.add("a JPEG label map, of which what is brighter than 127 is labelled", name)
        return np.asarray(upright(opened, opened.convert("L"), name, reading)) > _MIDDLE  # type: ignore[no-any-return]
    if opened.mode.startswith(("I", "F")):
        values = _numbers(opened, name, reading)
    else:
        values = _colours(opened, name, reading).astype(np.int64) @ (65536, 256, 1)
    labelled = values[values != 0]
    if labelled.size and (labelled != labelled[0]).any():
        reading.notes.add("several labels, merged into one class (--classes tells them apart)", name)
    return values != 0  # type: ignore[no-any-return]


def _numbers(opened: ImageFile.ImageFile, name: str, reading: Reading) -> Array:
    mode = opened.mode
    if mode in ("LA", "La", "RGB", "RGBA"):
        colours = _colours(opened, name, reading)
        if (colours != colours[..., :1]).any():
            raise image_error(name, "holds colours, and numbers are expected; give --classes as name=#rrggbb")
        return colours[..., 0].astype(np.int64)
    if mode not in ("1", "L", "P", "F") and not mode.startswith("I"):
        raise image_error(name, f"is of mode {mode}, which holds no label numbers; save it as a grey or indexed PNG")
    values = np.asarray(upright(opened, opened.copy(), name, reading))
    if mode == "F" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise image_error(name, "holds numbers that are not whole; labels are whole numbers")
    return values.astype(np.int64)


def _colours(opened: ImageFile.ImageFile, name: str, reading: Reading) -> Array:
    if opened.mode.startswith(("I", "F")):
        raise image_error(
            name, "holds grey levels of more than 8 bits, and colours are expected; give --classes numbers"
        )
    image = opened.convert("LA") if opened.mode == "La" else opened
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return np.asarray(upright(opened, image.convert("RGB"), name, reading))
