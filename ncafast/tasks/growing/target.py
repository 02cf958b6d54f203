"""The image to grow: read from a file, cut to what is visible, scaled to cells, with an empty margin around it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageColor
from torch import Tensor

from ncafast.tasks.images import ImageError, Reading, decode, read_image

ALIVE = 0.1  # a cell with no more alpha in its neighbourhood is dead (GrowingNCA's alive mask)
MOST_SIZE = 512  # cells; a batch of 8 such states takes 134 MB per step of the automaton
_NEAR = 24.0 / 255.0  # colours whose red, green and blue differ by less are the background's

Array = np.ndarray[Any, Any]


class TargetError(ImageError):
    """The image cannot be grown; the message names the file and what to do."""


@dataclass(frozen=True, eq=False)
class Target:
    """What is to grow, as bytes, so that a checkpoint holds exactly what was trained on."""

    pixels: Array  # [h, w, 4] uint8: red, green, blue, alpha; colours not multiplied by alpha
    padding: int

    def tensor(self) -> Tensor:
        """[4, H, W] float32 from 0 to 1 with the margin around it, colours multiplied by alpha."""
        whole = torch.from_numpy(self.pixels.copy()).permute(2, 0, 1).float() / 255  # [4, h, w]
        whole[:3] *= whole[3:]
        return torch.nn.functional.pad(whole, (self.padding,) * 4)

    def to_text(self) -> str:
        """The pixels as a PNG in base64, for a checkpoint's metadata."""
        file = io.BytesIO()
        Image.fromarray(self.pixels).save(file, "PNG")
        return base64.b64encode(file.getvalue()).decode("ascii")

    @classmethod
    def from_text(cls, text: str, padding: int) -> Target:
        """Take back what `to_text` gave. Raises ValueError if it is corrupt."""
        try:
            file = io.BytesIO(base64.b64decode(text, validate=True))
            image = decode(file, "its target", Reading(max_pixels=MOST_SIZE**2))
        except ValueError as error:
            raise ValueError(f"its target is no image: {error}") from error
        if max(image.size) > MOST_SIZE or image.mode != "RGBA":
            raise ValueError(f"its target is an image of {image.width} x {image.height} pixels, mode {image.mode}")
        if not 0 <= padding <= MOST_SIZE:
            raise ValueError(f"padding={padding}")
        return cls(np.array(image), padding)


@dataclass(frozen=True, slots=True)
class Spec:
    """What a checkpoint holds beside the model."""

    target: Target
    longest: int
    """Steps of the longest training rollout."""
    regime: str


def read_target(
    path: Path, *, size: int, padding: int, background: str = "alpha", reading: Reading | None = None
) -> Target:
    """Read an image file.

    Args:
        path: an image in any format that Pillow reads; of an animation, the first frame, and a note says so.
        size: cells along the longer side of what is visible.
        padding: empty cells around it.
        background: "alpha", "none" or a colour; see `TrainConfig.background`.
        reading: how values of more than 8 bits are scaled, and how many pixels are too many.

    Raises:
        ImageError: no such file, no image, a corrupt one or one that is too large.
        TargetError: nothing visible, or nothing that says what is background.
    """
    reading = reading or Reading()
    target = make_target(read_image(path, reading), str(path), size=size, padding=padding, background=background)
    reading.notes.say()
    return target


def make_target(image: Image.Image, name: str, *, size: int, padding: int, background: str = "alpha") -> Target:
    """The same from an image in memory; `name` is what errors call it."""
    seen = _with_alpha(image, name, background)
    box = seen.getchannel("A").point(lambda alpha: 255 * (alpha > 255 * ALIVE)).getbbox()
    if box is None:
        raise TargetError(f"{name}: is transparent everywhere, so there is nothing to grow; give another image")
    left, top, right, bottom = box
    seen = Image.fromarray(np.asarray(seen)[top:bottom, left:right])  # Image.crop has a limit of its own
    factor = size / max(seen.size)
    cells = (max(1, round(seen.width * factor)), max(1, round(seen.height * factor)))
    # Scaled with colours multiplied by alpha, or the invisible colours would bleed in from the edges.
    scaled = seen.convert("RGBa").resize(cells, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)
    pixels = np.array(scaled.convert("RGBA"))
    if (pixels[..., 3] <= 255 * ALIVE).all():
        raise TargetError(
            f"{name}: nothing of it is left at {cells[0]} x {cells[1]} cells; give a larger --size or a bolder image"
        )
    return Target(pixels, padding)


def _with_alpha(image: Image.Image, name: str, background: str) -> Image.Image:
    """The image as RGBA, its background transparent."""
    if background == "alpha":
        if not image.has_transparency_data:
            raise TargetError(
                f"{name}: has no transparency (mode {image.mode}), so nothing says what is background; give a PNG with "
                "alpha, or say --background white (or the colour it has), or --background none to grow the rectangle"
            )
        return image.convert("RGBA")
    colours = image.convert("RGBA")
    if background == "none":
        colours.putalpha(255)
        return colours
    try:
        wanted = ImageColor.getrgb(background)[:3]
    except ValueError as error:
        raise TargetError(
            f"background={background!r} is no colour; give alpha, none, or a colour such as white or #00ff00"
        ) from error
    pixels = np.array(colours)
    far = np.abs(pixels[..., :3].astype(np.float32) / 255 - np.array(wanted, np.float32) / 255).max(-1) >= _NEAR
    pixels[..., 3] *= far.astype(np.uint8)
    return Image.fromarray(pixels)
