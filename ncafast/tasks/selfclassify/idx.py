"""The idx format of MNIST (Yann LeCun, "The MNIST database of handwritten digits"), plain or with gzip.

A file is two zero bytes, a byte for the type (8: unsigned bytes), a byte for the number of axes, each axis's length as
a big-endian 32-bit number, then the values.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ncafast.missing import missing

Array = np.ndarray[Any, Any]
Part = Literal["train", "t10k"]

CLASSES = 10
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff")  # what people have in place of idx files
_BYTES = 8  # the type of unsigned bytes
_MOST = 1 << 32  # values; a header may claim anything


class IdxError(ValueError):
    """A file that cannot be used; the message names it and what to do."""


@dataclass(frozen=True, eq=False)
class Digits:
    """Images with their labels."""

    images: Array  # [N, H, W] uint8
    labels: Array  # [N] uint8
    folder: Path

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, first: int, last: int) -> Digits:
        """Digits first to last - 1."""
        return Digits(self.images[first:last], self.labels[first:last], self.folder)


def read_idx(path: Path, axes: int) -> Array:
    """The values of a file of unsigned bytes with this many axes.

    Raises:
        IdxError: unreadable, not of this format, truncated or too long.
    """
    data = _bytes(path)
    expected = f"an idx file of {'images' if axes == 3 else 'labels'} begins with 00 00 08 {axes:02x}"
    if len(data) < 4:
        raise IdxError(f"{path}: is too short to be an idx file ({len(data)} bytes); copy or download it again")
    if data[:4] != bytes((0, 0, _BYTES, axes)):
        raise IdxError(f"{path}: has the wrong magic number {data[:4].hex(' ')}; {expected}")
    start = 4 + 4 * axes
    if len(data) < start:
        raise IdxError(f"{path}: is truncated within its header ({len(data)} bytes); copy or download it again")
    shape = struct.unpack(f">{axes}I", data[4:start])
    count = int(np.prod(shape, dtype=object))
    if count >= _MOST or len(data) != start + count:
        sizes = " x ".join(map(str, shape))
        what = "is truncated" if len(data) < start + count else "is longer than it says"
        raise IdxError(
            f"{path}: {what}: its header announces {sizes} values, and {len(data) - start} follow; "
            "copy or download it again"
        )
    return np.frombuffer(data, np.uint8, count, start).reshape(shape)


def read_digits(folder: Path, part: Part) -> Digits:
    """Images and labels of one part, from a folder or the one folder below it that holds them.

    Args:
        folder: where to look, at any depth.
        part: "train", or "t10k" for the test set.

    Raises:
        IdxError: no files, or files that cannot be used or do not fit each other.
    """
    images_path, labels_path = find(folder, part)
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise IdxError(
            f"{images_path}: holds {len(images)} images, but {labels_path.name} {len(labels)} labels; "
            "give two files of the same set"
        )
    if not images.size:
        raise IdxError(f"{images_path}: holds no image (its shape is {' x '.join(map(str, images.shape))})")
    if labels.max() >= CLASSES:
        raise IdxError(
            f"{labels_path}: holds the label {labels.max()}; labels from 0 to {CLASSES - 1} can be told apart"
        )
    return Digits(images, labels, images_path.parent)


def find(folder: Path, part: Part) -> tuple[Path, Path]:
    """The image file and the label file of a part. Raises IdxError if there is not exactly one pair."""
    if not folder.is_dir():
        what = missing(folder, "folder")
        raise IdxError(f"{folder}: {what}; give the folder that holds {part}-images-idx3-ubyte(.gz) with --data")
    sets: dict[Path, dict[str, Path]] = {}
    for path in sorted(folder.rglob(f"{part}-*")):
        kind = path.name.removesuffix(".gz").replace(".", "-").removeprefix(f"{part}-")
        if path.is_file() and kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
            sets.setdefault(path.parent, {}).setdefault(kind.split("-")[0], path)  # plain comes before .gz
    pairs = [(names["images"], names["labels"]) for names in sets.values() if len(names) == 2]
    if not pairs:
        have = ", ".join(path.name for names in sets.values() for path in names.values())
        only = f"only {have}" if have else f"no {part}-images-idx3-ubyte(.gz)"
        image = next((path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _IMAGES), None)
        if image is not None and not have:
            raise IdxError(
                f"{folder}: holds image files ({image} first), and this task reads MNIST's {part}-images-idx3-ubyte "
                "and labels; for folders of images see ncafast train classification"
            )
        raise IdxError(f"{folder}: holds {only}; both the images and the labels of {part} are needed")
    if len(pairs) > 1:
        folders = ", ".join(str(images.parent) for images, _ in pairs)
        raise IdxError(f"{folder}: holds several sets, in {folders}; give one of these folders with --data")
    return pairs[0]


def _bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise IdxError(f"{path}: is a corrupt or incomplete gzip file ({error}); copy or download it again") from error
    except OSError as error:
        raise IdxError(f"{path}: cannot be read ({error.strerror})") from error
