"""The one reader of images: a file in any format that Pillow reads becomes upright pixels of 8 bits, or one line that
says why not.

docs/images.md says in words what is done here. What a task does with the pixels (size, background) is the task's.
"""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Literal

from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from ncafast.free_memory import require
from ncafast.tasks.image_hints import FIRST, RAW, RAW_ENDINGS, hint
from ncafast.tasks.image_values import ValueRangeError, read_values
from ncafast.tasks.options import MAX_PIXELS, ImageOptions, ValueRange
from ncafast.utils.progress import note
from ncafast.utils.texts import listed, printable

_LAYERED = ("PSD",)  # what Pillow counts as frames are layers of one picture, which it gives merged
# Bytes that a pixel takes at most while it is read, of 8 bits and of more, as measured; few pixels pass unseen.
_BYTES, _MORE_BYTES, _FEW = 13, 32, 10**6
_EIGHT = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")
_LOG, _NOWHERE = logging.getLogger("PIL"), logging.NullHandler()  # else, logging prints errors of nobody's handler
_PILLOW = threading.Lock()  # for Pillow's limit, which is one number for the whole process

_EARLIER_RANGE = (
    "more than 8 bits, stretched from the lowest to the highest value of each image, as when this model was trained by "
    "an earlier version; models trained anew keep the brightness"
)
_EARLIER_ORIENTATION = (
    "EXIF says how to turn it upright, which is ignored, as when this model was trained by an earlier version; models "
    "trained anew see images upright"
)


class ImageError(ValueError):
    """An image that cannot be used; the message is one line that names it and says what to do."""


class Notes:
    """Collects notes while images are read: one line for each kind, however many images of a data set it is about."""

    def __init__(self) -> None:
        self._names: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, name: str) -> None:
        """Note that one of the kinds above is true of an image."""
        self._names[kind].append(name)

    def say(self) -> None:
        """Print one line per kind, with the first image and the number of others, and forget them."""
        for kind, names in self._names.items():
            note(f"{listed(names, most=1)}: {kind}")
        self._names.clear()


@dataclass(frozen=True, slots=True)
class Reading:
    """How images are read."""

    value_range: ValueRange | Literal["earlier"] = "format"
    """See `ImageOptions`. earlier: as versions before these options did it, for models that they trained: greys of more
    than 8 bits by the values of each image, nothing turned upright."""
    max_pixels: int = MAX_PIXELS
    notes: Notes = field(default_factory=Notes, compare=False)
    """What a user should know of the images that were read so."""

    @classmethod
    def of(cls, options: ImageOptions) -> Reading:
        """As a command's options say."""
        return cls(options.value_range, options.max_pixels)


def read_image(path: Path, reading: Reading | None = None) -> Image.Image:
    """The first frame of an image file, upright.

    Args:
        path: a file in any format that Pillow reads.
        reading: by default `Reading()`.

    Returns:
        An image of mode L, RGB, or, if anything may be transparent, RGBA.

    Raises:
        ImageError: no file, no image, a corrupt one, too large a one, or values outside the expected range.
    """
    with open_file(path) as file:
        return decode(file, str(path), reading)


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """An image file, open for `decoding`.

    Raises:
        ImageError: there is no such file, or one that is no image for sure.
    """
    if "\0" in str(path):
        raise image_error(str(path), "has a NUL character in its name; correct it")
    try:
        if path.is_dir():
            raise image_error(str(path), "is a folder; give one image")
        if path.exists() and not path.is_file():
            raise image_error(str(path), "is not a regular file; save the image to one first")
        if path.suffix.lower() in RAW_ENDINGS:
            raise image_error(str(path), RAW)
        file = path.open("rb")
    except FileNotFoundError:
        raise image_error(str(path), "there is no such file; correct the name or bring the file back") from None
    except OSError as error:
        raise image_error(str(path), f"cannot be opened ({error.strerror}); see to it or leave it out") from error
    with file:
        yield file


def decode(file: BinaryIO, name: str, reading: Reading | None = None) -> Image.Image:
    """The same from a binary file that is open; `name` is what errors call it."""
    reading = reading or Reading()
    with decoding(file, name, reading) as opened:
        if opened.width * opened.height > _FEW:
            each = _BYTES if opened.mode in _EIGHT else _MORE_BYTES
            require(each * opened.width * opened.height, f"reading {opened.width} x {opened.height} pixels")
        image = _eight_bits(file, opened, name, reading)
        return upright(opened, image, name, reading)


@contextmanager
def decoding(file: BinaryIO, name: str, reading: Reading) -> Iterator[ImageFile.ImageFile]:
    """A file as Pillow opens it. Whatever goes wrong inside becomes an ImageError."""
    with _one_line(file, name, reading.max_pixels), _limited(reading.max_pixels), Image.open(file) as opened:
        if min(opened.size) < 1:
            raise image_error(name, f"has no pixels ({opened.width} x {opened.height}); copy it anew or leave it out")
        yield opened
        if _has_frames(opened):
            reading.notes.add("several frames or pages, of which only the first is read", name)


def on_white(image: Image.Image) -> Image.Image:
    """The image (L, RGB or RGBA) with white behind what is transparent; L or RGB."""
    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _eight_bits(file: BinaryIO, opened: ImageFile.ImageFile, name: str, reading: Reading) -> Image.Image:
    """The pixels as L, RGB or RGBA."""
    earlier = reading.value_range == "earlier"
    values = read_values(opened, lambda: Image.open(file), colours=not earlier)
    if values is None:
        opened.load()
        if opened.has_transparency_data:
            return (opened.convert("LA") if opened.mode == "La" else opened).convert("RGBA")
        return opened.convert("L" if opened.mode in ("1", "L") else "RGB")
    if reading.value_range == "earlier":
        reading.notes.add(_EARLIER_RANGE, name)
        return replace(values, alpha=None, white_is_zero=False).to_image("image")
    if values.assumed and reading.value_range == "format":
        reading.notes.add("32-bit integers, read as 0 to 65535 (see --value-range)", name)
    return values.to_image(reading.value_range)


def upright(opened: ImageFile.ImageFile, image: Image.Image, name: str, reading: Reading) -> Image.Image:
    """The image turned as its EXIF data says. Of TIFF files, Pillow has done that already."""
    try:
        orientation = opened.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF data is no part of the pixels, which are there
        reading.notes.add("its EXIF data is corrupt, so it is read as it is stored, perhaps not upright", name)
        return image
    if reading.value_range == "earlier" and orientation in range(2, 9):
        reading.notes.add(_EARLIER_ORIENTATION, name)
        return image
    image.info = {}  # else, it is corrupt EXIF data that may be read again
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(image)


def _has_frames(opened: ImageFile.ImageFile) -> bool:
    """Whether the file holds more than the image that was read."""
    try:
        return bool(getattr(opened, "is_animated", False)) and opened.format not in _LAYERED
    except Exception:  # looking for frames reads further in the file, which may be corrupt there
        return False


@contextmanager
def _limited(most: int) -> Iterator[None]:
    """Pillow with this limit of pixels, above which it raises, and silent otherwise."""
    with _PILLOW, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, most
        _LOG.addHandler(_NOWHERE)
        try:
            yield
        finally:
            _LOG.removeHandler(_NOWHERE)
            Image.MAX_IMAGE_PIXELS = before


@contextmanager
def _one_line(file: BinaryIO, name: str, most: int) -> Iterator[None]:
    """Whatever goes wrong inside becomes an ImageError. On corrupt files Pillow raises nearly every type there is."""
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        count = re.search(r"\((\d+) pixels\)", str(error))
        size = f"{int(count[1]):,} pixels, more than" if count else "more pixels than"
        remedy = "scale it down, or allow it with --max-pixels"
        raise image_error(name, f"has {size} the limit of {most:,}; {remedy}") from None
    except ValueRangeError as error:
        raise image_error(name, str(error)) from None
    except UnidentifiedImageError:
        file.seek(0)
        raise image_error(name, hint(name, file.read(FIRST))) from None
    except MemoryError as error:
        raise image_error(
            name, f"{error or 'needs more memory than there is'}; scale it down or leave it out"
        ) from None
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise image_error(name, f"is corrupt or incomplete ({reason}); copy it anew or leave it out") from error


def image_error(name: str, text: str) -> ImageError:
    """An error about an image, on one line."""
    return ImageError(printable(f"{name}: {text}"))
