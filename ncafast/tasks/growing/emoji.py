"""An emoji as an image, drawn with a colour font of this machine."""

from __future__ import annotations

from pathlib import Path

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from ncafast.tasks.growing.target import TargetError

_NAMES = (
    "NotoColorEmoji.ttf",
    "Noto-COLRv1.ttf",
    "seguiemj.ttf",
    "Apple Color Emoji.ttc",
    "TwitterColorEmoji-SVGinOT.ttf",
)
_SIZES = (109, 160, 128, 136, 96, 64)  # a font of bitmaps exists in one size only: Noto's 109, Apple's 160


def draw_emoji(text: str, font: Path | None = None) -> Image.Image:
    """The emoji as RGBA on nothing.

    Args:
        text: one emoji, which may be made of several code points.
        font: a font file; None looks for a colour emoji font in the usual folders.

    Raises:
        TargetError: no font, no font file, or a font that has no such sign.
    """
    if not text.strip():
        raise TargetError("emoji='' is empty; give one emoji, or an image file with --image")
    path = font or _find()
    letters = _load(path)
    left, top, right, bottom = (round(edge) for edge in letters.getbbox(text))
    if right <= left or bottom <= top or _same(letters, text, "\U0010ffff"):
        raise TargetError(f"{path}: has no sign for the emoji {text!r}; give another --font, or an image with --image")
    image = Image.new("RGBA", (right - left + 2, bottom - top + 2))
    ImageDraw.Draw(image).text((1 - left, 1 - top), text, font=letters, fill="black", embedded_color=True)
    return image


def _find() -> Path:
    fonts = {Path(path).name: Path(path) for path in sorted(font_manager.findSystemFonts(), reverse=True)}
    for name in _NAMES:
        if name in fonts:
            return fonts[name]
    raise TargetError(
        "no colour emoji font is found on this machine; give one with --font, such as NotoColorEmoji.ttf, "
        "or give an image file with --image"
    )


def _load(path: Path) -> ImageFont.FreeTypeFont:
    reason = ""
    for size in _SIZES:
        try:
            return ImageFont.truetype(str(path), size)
        except OSError as error:
            reason = str(error)
    what = "there is no such file" if not path.exists() else f"cannot be used as a font ({reason})"
    raise TargetError(f"{path}: {what}; give another --font")


def _same(letters: ImageFont.FreeTypeFont, text: str, other: str) -> bool:
    """Whether two texts are drawn alike, as every sign is that the font lacks."""
    first, second = letters.getmask(text), letters.getmask(other)
    return first.size == second.size and bytes(first) == bytes(second)
