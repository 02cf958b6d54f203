"""Memory maps: the file behind an array, room on the disk before anything is written, and pages given back."""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ncafast.free_memory import size_text

PIECE = 32 * 2**20  # bytes of a memory map that are in memory at once while it is copied


class Mapping:
    """The map behind an array.

    Args:
        array: the memory map that opened it.
        mapping: the map of the operating system.
    """

    def __init__(self, array: np.memmap, mapping: mmap.mmap) -> None:
        self._map = mapping
        self._base = np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]
        self._file = None if array.filename is None else Path(array.filename)
        self._start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
        self._writable = array.mode in ("r+", "w+")
        self.folder = str(self._file.parent) if self._file else tempfile.gettempdir()

    def check_length(self) -> None:
        """Raise where the file has become shorter: reading past its end would end the process."""
        needed, found = self._start + len(self._map), self._map.size()
        if found < needed:
            name = self._file or "a scratch file"
            raise ValueError(f"{name} was cut short: it has {found} bytes, and {needed} are needed")

    def give_back(self, part: np.ndarray) -> None:
        """Take the pages of a part out of this process's memory; what was written stays in the file's."""
        if hasattr(mmap, "MADV_DONTNEED"):
            start, stop = (place - self._base for place in bounds(part))
            start -= start % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_DONTNEED, start, min(stop, len(self._map)) - start)

    def in_file(self, start: int, stop: int) -> tuple[object, int, int]:
        """(file, first byte, end) of addresses."""
        offset = self._start - self._base
        if self._file is None or not self._file.exists():
            return id(self._map), start + offset, stop + offset
        status = self._file.stat()
        return (status.st_dev, status.st_ino), start + offset, stop + offset

    def reserve(self, name: str) -> None:
        """Have the disk keep room for the whole file: a map that is written when the disk is full ends the process."""
        if not self._writable:
            raise ValueError(f"{name} is a memory map that its file is not written from; open it with mode='r+'")
        if self._file is not None and self._file.exists():
            with open(self._file, "r+b") as file:
                allocate(file.fileno(), self._start + len(self._map), str(self._file))

    def flush(self) -> None:
        """Have what was written reach the disk."""
        self._map.flush()


def find(name: str, array: np.ndarray) -> Mapping | None:
    """The map behind an array that shares its pages with a file, or None."""
    base: Any = array
    opened = None
    while isinstance(base, np.ndarray):
        opened = base if isinstance(base, np.memmap) else opened
        base = base.base
    if opened is None or not isinstance(base, mmap.mmap):
        return None
    if opened.mode == "c":  # what was changed is in memory only, and would be given back with the pages
        if name == "out":
            raise ValueError("out is a memory map of mode 'c', which never reaches its file; open it with mode='r+'")
        return None
    return Mapping(opened, base)


def bounds(array: np.ndarray) -> tuple[int, int]:
    """First byte and end of an array in memory."""
    start = stop = array.__array_interface__["data"][0]
    for size, step in zip(array.shape, array.strides, strict=True):
        start, stop = start + min(0, (size - 1) * step), stop + max(0, (size - 1) * step)
    return start, stop + array.itemsize


def pieces(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Two arrays of one shape cut alike, along leading axes, into parts that lie within `PIECE` bytes."""
    if max(stop - start for start, stop in (bounds(a), bounds(b))) <= PIECE or a.ndim == 0:
        yield a, b
    elif len(a) == 1:
        yield from pieces(a[0], b[0])
    else:
        middle = len(a) // 2
        yield from pieces(a[:middle], b[:middle])
        yield from pieces(a[middle:], b[middle:])


def temporary(folder: str, shape: tuple[int, ...], dtype: np.dtype, size: int) -> np.memmap:
    """A memory map of a file in a folder that is gone once nothing holds it, also if the process is killed."""
    with tempfile.TemporaryFile(dir=folder) as file:
        allocate(file.fileno(), size, folder)
        return np.memmap(file, dtype, "w+", shape=shape)  # type: ignore[no-any-return,call-overload]


def allocate(descriptor: int, size: int, where: str) -> None:
    """Keep room on the disk for the first `size` bytes of a file.

    Raises:
        OSError: there is too little.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    disk = os.fstatvfs(descriptor)
    free = disk.f_bavail * disk.f_frsize
    needed = size - os.fstat(descriptor).st_blocks * 512
    if needed > free:
        text = f"No space left on device: {size_text(needed)} are needed and {size_text(free)} are free"
        raise OSError(errno.ENOSPC, text, where)
    os.posix_fallocate(descriptor, 0, size)


def folder_of(array: Any) -> str:
    """Where a zarr or h5py array's file is, else where temporary files are."""
    for owner, attribute in (("store", "root"), ("store", "path"), ("file", "filename")):
        path = getattr(getattr(array, owner, None), attribute, None)
        if path is not None and Path(path).exists():
            return str(Path(path).parent)
    return tempfile.gettempdir()
