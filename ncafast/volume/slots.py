"""Memory for several states of a grid: on a device, in host memory, or in a file without a name."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

Spill = str | os.PathLike[str] | None  # None: on the state's device; "host"; a folder
_BLOCK = 2**24  # bytes written at a time where the system cannot reserve room on a disk


class Slots:
    """`count` tensors of one shape and dtype.

    A file has no name: it goes when the last tensor on it goes, or with the process, however that ends. All its room is
    taken at once, so that a full disk is an error here and not a fault when a page is written.

    Args:
        count: number of tensors.
        shape: of each.
        dtype: of each.
        device: of the tensors where spill is None.
        spill: where they lie; "host" and files are on the CPU.

    Raises:
        OSError: a folder that cannot be written to, or has too little room.
    """

    def __init__(
        self, count: int, shape: Sequence[int], dtype: torch.dtype, device: torch.device, spill: Spill
    ) -> None:
        self.release: Callable[[], None] = lambda: None
        if spill is None or spill == "host" or not count:
            place = device if spill is None else torch.device("cpu")
            self.tensor = torch.empty((count, *shape), dtype=dtype, device=place)
            return
        numbers = count * torch.Size(shape).numel()
        mapped = _map(Path(spill), numbers * dtype.itemsize)
        self.tensor = torch.frombuffer(mapped, dtype=dtype).view(count, *shape)
        self.release = _releasing(weakref.ref(mapped))  # autograd alone shall decide how long the file lives


def _releasing(mapped: weakref.ref[mmap.mmap]) -> Callable[[], None]:
    def release() -> None:
        """Take the file's pages out of the process; the system writes them to the disk when it wants the memory."""
        if (file := mapped()) is not None and hasattr(mmap, "MADV_DONTNEED"):
            file.madvise(mmap.MADV_DONTNEED)

    return release


def _map(folder: Path, size: int) -> mmap.mmap:
    try:
        with tempfile.TemporaryFile(dir=folder, prefix="ncafast-") as file:
            _reserve(file.fileno(), size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        free = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            with contextlib.suppress(OSError):
                free = f", {shutil.disk_usage(folder).free:,} are free"
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno, f"spill={str(folder)!r}: {reason}: {size:,} bytes are needed{free}") from None


def _reserve(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    for start in range(0, size, _BLOCK):
        os.write(file, bytes(min(_BLOCK, size - start)))
