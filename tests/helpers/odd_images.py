"""Small images in every format and mode that Pillow writes, some that it does not, and ways to corrupt them."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]
_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # PNG's colour type by number of channels
_FORMATS: dict[str, list[dict[str, Any]]] = {
    "PNG": [{}, {"icc_profile": b"profile" * 9}],
    "JPEG": [{"quality": 80}, {"quality": 90, "progressive": True}],
    "TIFF": [{"compression": name} for name in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4")],
    "GIF": [{}],
    "BMP": [{}],
    "WEBP": [{"lossless": True}, {"quality": 60}],
    "PPM": [{}],
    "TGA": [{}, {"compression": "tga_rle"}],
    "JPEG2000": [{}],
    **{name: [{}] for name in ("AVIF", "BLP", "DDS", "DIB", "ICO", "IM", "MSP", "PCX", "QOI", "SGI", "SPIDER", "XBM")},
}


def levels(shape: tuple[int, ...], seed: int = 0, top: int = 255) -> Array:
    """Numbers from 0 to `top`, both of which occur."""
    found = np.random.default_rng(seed).integers(0, top + 1, shape)
    found.flat[:2] = 0, top
    return found


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels: Array, bits: int = 16, before: bytes = b"", size: tuple[int, int] | None = None) -> bytes:
    """A PNG file of [H, W, C] whole numbers, with other chunks before the pixels; `size` (w, h) is what it claims."""
    height, width, channels = pixels.shape
    rows = pixels.astype(">u2" if bits == 16 else np.uint8).reshape(height, -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", *(size or (width, height)), bits, _TYPES[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff(pixels: Array, *, order: str = "<", photometric: int | None = None, **tags: int) -> bytes:
    """A TIFF file of [H, W, C] numbers of any type, without compression. Tags by number, as t338=2."""
    height, width, channels = pixels.shape
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    bits, kind = 8 * pixels.dtype.itemsize, {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    photometric = (2 if channels > 2 else 1) if photometric is None else photometric
    found = {256: width, 257: height, 259: 1, 262: photometric, 277: channels, 278: height, 279: len(data)}
    found |= {int(name[1:]): value for name, value in tags.items()}
    lists = {258: [bits] * channels, 339: [kind] * channels}
    count = len(found) + len(lists) + 1
    at = 8 + 2 + 12 * count + 4
    entries, rest = {tag: struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in found.items()}, b""
    for tag, values in lists.items():
        packed = struct.pack(f"{order}{channels}H", *values)
        if len(packed) <= 4:
            entries[tag] = struct.pack(order + "HHI", tag, 3, channels) + packed.ljust(4, b"\0")
        else:
            entries[tag] = struct.pack(order + "HHII", tag, 3, channels, at + len(rest))
            rest += packed
    entries[273] = struct.pack(order + "HHII", 273, 4, 1, at + len(rest))
    start = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, count)
    return start + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4) + rest + data


def by_mode(height: int = 7, width: int = 9) -> dict[str, Image.Image]:
    """An image of every mode."""
    rgb, rgba = (Image.fromarray(levels((height, width, n), n).astype(np.uint8)) for n in (3, 4))
    grey = rgb.convert("L")
    deep = levels((height, width), top=65535)
    return {
        "RGB": rgb,
        "RGBA": rgba,
        "L": grey,
        "LA": Image.merge("LA", (grey, rgba.getchannel("A"))),
        "P": rgb.quantize(20),
        "1": grey.convert("1"),
        "CMYK": rgb.convert("CMYK"),
        "YCbCr": rgb.convert("YCbCr"),
        "HSV": rgb.convert("HSV"),
        "LAB": Image.merge("LAB", rgb.split()),
        "I;16": Image.fromarray(deep.astype(np.uint16)),
        "I": Image.fromarray(deep.astype(np.int32)),
        "F": Image.fromarray((deep / 65535).astype(np.float32)),
    }


def files() -> Iterator[tuple[str, bytes]]:
    """Good files and their names."""
    images = by_mode()
    for name, choices in _FORMATS.items():
        for (mode, image), options in ((pair, options) for pair in images.items() for options in choices):
            fits = {"group4": mode == "1", "jpeg": mode in ("RGB", "L")}.get(options.get("compression"), True)
            data = _saved(image, name, options) if fits else None  # libtiff writes to stderr what does not fit
            if data:
                yield f"{mode}.{name.lower()}", data
    yield from special_files(images)


def special_files(images: dict[str, Image.Image]) -> Iterator[tuple[str, bytes]]:
    """Animations, EXIF, transparent colours, 16-bit colours and odd values."""
    rgb = images["RGB"]
    more = {"save_all": True, "append_images": [rgb.rotate(180), rgb.rotate(90)]}
    for name in ("GIF", "PNG", "WEBP", "TIFF", "AVIF", "MPO"):
        yield f"frames.{name.lower()}", _saved(rgb, name, more)
    for turn in range(1, 9):
        for name in ("JPEG", "PNG", "WEBP", "TIFF"):
            yield f"turned{turn}.{name.lower()}", _saved(rgb, name, {"exif": oriented(turn)})
    yield "key.png", _saved(images["P"], "PNG", {"transparency": 3})
    yield "keys.png", _saved(images["P"], "PNG", {"transparency": bytes(range(0, 200, 10))})
    yield "key.gif", _saved(images["P"], "GIF", {"transparency": 3})
    yield "grey.png", _saved(images["L"], "PNG", {"transparency": images["L"].getpixel((1, 1))})
    yield "rgb.png", _saved(rgb, "PNG", {"transparency": rgb.getpixel((1, 1))})
    for channels in (1, 2, 3, 4):
        deep = levels((7, 9, channels), channels, 65535)
        yield f"deep{channels}.png", png(deep)
        for order in "<>" if channels != 2 else "":
            yield (
                f"deep{channels}.tiff",
                tiff(deep.astype(np.uint16), order=order, **{"t338": 2} if channels == 4 else {}),
            )
    yield "signed.tiff", tiff(levels((7, 9, 1), top=32767).astype(np.int16))
    yield "text.png", png(levels((7, 9, 3)), 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(999))))
    yield "P6.ppm", b"P6 9 7 65535\n" + levels((7, 9, 3), top=65535).astype(">u2").tobytes()


def oriented(turn: int) -> Image.Exif:
    """EXIF data with this orientation."""
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif


def corrupt(data: bytes, random: np.random.Generator) -> bytes:
    """The file with something wrong: bits, its end, a part that comes twice, is missing or zero, or its header."""
    own, kind = bytearray(data), random.integers(6)
    first, last = sorted(random.integers(0, len(own) + 1, 2).tolist())
    if kind == 0:
        for _ in range(random.integers(1, 12)):
            own[random.integers(len(own))] ^= 1 << random.integers(8)
    elif kind == 1:
        del own[last:]
    elif kind == 2:
        own[last:last] = own[first:last]
    elif kind == 3:
        for _ in range(random.integers(1, 5)):
            own[random.integers(min(len(own), 64))] = random.integers(256)
    elif kind == 4:
        del own[first : first + random.integers(1, 9)]
    else:
        own[first:last] = bytes(last - first)
    return bytes(own)


def _saved(image: Image.Image, name: str, options: dict[str, Any]) -> bytes:
    """The file, or nothing if the format has no such mode."""
    file = io.BytesIO()
    try:
        with warnings.catch_warnings():  # of formats that Pillow is to drop
            warnings.simplefilter("ignore")
            image.save(file, name, **options)
    except (OSError, ValueError, KeyError):
        return b""
    return file.getvalue()
