"""What stands below the pictures of an animation: which step it is, and a bar of how much is done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ncafast.viz.pixels import Array
from ncafast.viz.styles import AnimationStyle

_LEAST_WIDTH = 160  # pixels, for a label such as "fine level, step 12 of 20"
_LARGEST, _USUAL, _SMALLEST = 15, 12, 8  # pixels of the letters: of wide pictures, of small ones, at least


class Frame(NamedTuple):
    """One picture of an animation.

    Attributes:
        picture: [H, W, 3] uint8.
        label: a few words, such as "step 3 of 20".
        done: part of the animation that is over, 0 to 1.
    """

    picture: Array
    label: str
    done: float

    @classmethod
    def at(cls, picture: Array, step: int, steps: int) -> Frame:
        """Of one rollout, after `step` of `steps` steps."""
        return cls(picture, f"step {step} of {steps}", step / max(steps, 1))


def in_style(frames: Iterable[Frame], style: AnimationStyle) -> Iterator[Frame]:
    """The frames of a generator whose figures are to have the colours of a style."""
    source = iter(frames)
    while True:
        with style.figures():  # not while the caller works
            frame = next(source, None)
        if frame is None:
            return
        yield frame


def captioned(
    frames: Iterable[Frame], style: AnimationStyle, *, label: bool = True, bar: bool = True
) -> Iterator[Array]:
    """The pictures [H', W', 3] uint8 with a label and a progress bar below them; narrow ones get margins."""
    for frame in frames:
        yield _framed(frame, style, label, bar) if label or bar else frame.picture


def _framed(frame: Frame, style: AnimationStyle, label: bool, bar: bool) -> Array:
    height, inner = frame.picture.shape[:2]
    width = max(inner, _LEAST_WIDTH) if label else inner
    letters = min(max(width // 24, _USUAL), _LARGEST)
    text = 2 * letters if label else 0
    whole = np.full((height + text + (style.bar_height if bar else 0), width, 3), style.rgb("background"), np.uint8)
    left = (width - inner) // 2
    whole[:height, left : left + inner] = frame.picture
    if label:
        whole[height : height + text] = _written(frame.label, (width, text), letters, style)
    if bar:
        whole[height + text :] = style.rgb("track")
        whole[height + text :, : round(width * min(max(frame.done, 0.0), 1.0))] = style.rgb("bar")
    return whole


@lru_cache(maxsize=64)
def _written(label: str, size: tuple[int, int], letters: int, style: AnimationStyle) -> Array:
    """A strip [height, width, 3] uint8 with the label in its middle, in smaller letters where it is long."""
    from PIL import Image, ImageDraw, ImageFont  # only where a label is written

    strip = Image.new("RGB", size, style.rgb("background"))
    pen = ImageDraw.Draw(strip)
    room = size[0] - letters
    while letters > _SMALLEST and pen.textlength(label, ImageFont.load_default(letters)) > room:
        letters -= 1
    font = ImageFont.load_default(letters)
    shown = label
    while shown and pen.textlength(shown, font) > room:
        label = label[:-1]
        shown = f"{label}..." if label else ""
    pen.text((size[0] / 2, size[1] / 2), shown, fill=style.rgb("text"), font=font, anchor="mm")
    return np.array(strip)
