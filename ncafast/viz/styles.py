"""Colours of an animation: what is around the pictures, light or dark."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

_FACES = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
_LINES = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class AnimationStyle:
    """How an animation looks. Colours are written "#rrggbb", two hexadecimal digits each for red, green and blue.

    Attributes:
        background: of the page.
        text: of labels, axes and numbers.
        bar: of the progress bar's part that is done.
        track: of the part that is still to come.
        bar_height: of the progress bar, pixels.
    """

    background: str
    text: str
    bar: str
    track: str
    bar_height: int = 4

    def __post_init__(self) -> None:
        for name in ("background", "text", "bar", "track"):
            if not re.fullmatch("#[0-9a-fA-F]{6}", str(getattr(self, name))):
                raise ValueError(f"{name}={getattr(self, name)!r} is not allowed; give a colour such as '#1c1e22'")
        if self.bar_height < 1:
            raise ValueError(f"bar_height={self.bar_height} is not allowed; give a whole number from 1")

    def rgb(self, name: str) -> Colour:
        """One of the colours as red, green and blue from 0 to 255."""
        red, green, blue = bytes.fromhex(getattr(self, name)[1:])
        return red, green, blue

    @property
    def is_dark(self) -> bool:
        """Whether the page is darker than the text."""
        return sum(self.rgb("background")) < sum(self.rgb("text"))

    def figures(self) -> AbstractContextManager[None]:
        """A context in which matplotlib's figures have these colours."""
        if not find_spec("matplotlib"):  # so nothing is drawn with it
            return nullcontext()
        import matplotlib

        colours: Any = dict.fromkeys(_FACES, self.background) | dict.fromkeys(_LINES, self.text)
        return matplotlib.rc_context(colours)


ANIMATION_STYLES = {
    "light": AnimationStyle("#ffffff", "#26292e", "#3a6ea5", "#dfe3e8"),
    "dark": AnimationStyle("#16181d", "#e8eaed", "#4cc9f0", "#343841"),
}


def style_of(style: str | AnimationStyle) -> AnimationStyle:
    """A style by its name, or as it is.

    Raises:
        ValueError: there is none of that name.
    """
    if isinstance(style, AnimationStyle):
        return style
    if style not in ANIMATION_STYLES:
        raise ValueError(f"style={style!r} is not allowed; give {', '.join(ANIMATION_STYLES)}, or an AnimationStyle")
    return ANIMATION_STYLES[style]
