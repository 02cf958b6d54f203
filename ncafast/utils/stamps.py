"""A stamp inside a file that ncafast wrote, by which ncafast knows the file again while nobody has changed it.

The stamp holds a digest of all other bytes, in a place that the format keeps for remarks, so pixels, voxels and numbers
stay as they are. It moves with the file, needs no list beside it, and fits no longer once the file is edited: a label
map that was corrected by hand is its author's, even where the editor keeps the header.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# A .csv file has no place for remarks: what evaluate and predict write is known by its columns.
_TABLES = re.compile(
    rb"(file,class,(true,)?[^\r\n]+,|class,images,precision,recall,f1|volume,label,(name,)?dice,iou,hd95_mm,|step,grown,"
    rb"|image,(label,dice,iou,pixels_true|method,abs_rel),|steps,patches|step,cell_accuracy,|image,digit,share_of_cells)[^\r\n]*\n"
)


def stamp(path: Path) -> None:
    """Put a stamp into a complete .png, .gif, .mp4, .nii, .nii.gz or .json file (an object); leave others alone.

    Args:
        path: a file that has no stamp yet, such as one that is about to be moved to its place.
    """
    data = path.read_bytes()
    kind = _kind(data)
    if kind is not None:
        path.write_bytes(kind.put(data))


def stamped(path: Path) -> bool:
    """Whether ncafast wrote this file and nobody has changed it since. Raises OSError if it cannot be read."""
    data = path.read_bytes()
    kind = _kind(data)
    if kind is not None:
        return kind.holds(data)
    return b"\r" not in data and _TABLES.match(data) is not None


@dataclass(frozen=True, slots=True)
class _Kind:
    """A file format: how a remark is written in it, and where."""

    frame: Callable[[bytes], bytes]
    offset: int
    """From the start of the file, or if it is not above 0 from its end."""
    room: int = 0
    """Bytes there that the remark replaces."""
    flag: int = 0
    """Bit of the fourth byte that says that there is a remark."""

    def put(self, data: bytes) -> bytes:
        """The file with a stamp."""
        offset = self.offset if self.offset > 0 else len(data) + self.offset
        return self._joined(data[:offset], data[offset + self.room :])

    def holds(self, data: bytes) -> bool:
        """Whether there is a stamp, and fits the rest."""
        length = len(self.frame(_text(b"")))
        offset = self.offset if self.offset > 0 else len(data) + self.offset - length
        return offset >= 0 and self._joined(data[:offset], data[offset + length :]) == data

    def _joined(self, before: bytes, after: bytes) -> bytes:
        if self.flag:
            before = before[:3] + bytes((before[3] | self.flag,)) + before[4:]
        return before + self.frame(_text(before + after)) + after


def _text(data: bytes) -> bytes:
    """The stamp of a file that holds this besides."""
    return b"ncafast " + hashlib.sha256(data).hexdigest()[:32].encode()


def _png(text: bytes) -> bytes:
    body = b"tEXtSoftware\0" + text
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _gif(text: bytes) -> bytes:
    return b"!\xfe" + bytes((len(text),)) + text + b"\0"  # a comment


def _mp4(text: bytes) -> bytes:
    return struct.pack(">I", 8 + len(text)) + b"free" + text  # a box that players pass over


def _gzip(text: bytes) -> bytes:
    return struct.pack("<H", 4 + len(text)) + b"NC" + struct.pack("<H", len(text)) + text  # the extra field


def _json(text: bytes) -> bytes:
    return b'"written_by": "' + text + b'", '


def _nifti(text: bytes) -> bytes:
    return text.ljust(80, b"\0")  # descrip, free text of the header


_KINDS: tuple[tuple[Callable[[bytes], bool], _Kind], ...] = (
    (lambda data: data[:8] == b"\x89PNG\r\n\x1a\n" and data[-8:-4] == b"IEND", _Kind(_png, -12)),
    (lambda data: data[:4] == b"GIF8" and data[-1:] == b";", _Kind(_gif, -1)),
    (lambda data: data[4:8] == b"ftyp", _Kind(_mp4, 0)),
    (lambda data: data[:3] == b"\x1f\x8b\x08", _Kind(_gzip, 10, flag=4)),
    (lambda data: data[344:348] == b"n+1\0", _Kind(_nifti, 148, room=80)),
    (lambda data: data[4:8] == b"n+2\0", _Kind(_nifti, 240, room=80)),
    (lambda data: data[:1] == b"{", _Kind(_json, 1)),
)


def _kind(data: bytes) -> _Kind | None:
    return next((kind for fits, kind in _KINDS if fits(data)), None)
