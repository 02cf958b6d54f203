"""Writing files: under its name a file is complete, or it is the old one; a full disk is named."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, flushed to the disk before it takes its name. Raises OSError."""
    with replacing(path, size=len(data)) as scratch, open(scratch, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8. Raises OSError."""
    data = text.encode()
    with replacing(path, size=len(data)) as scratch:
        scratch.write_bytes(data)


@contextmanager
def replacing(path: Path, ending: str = "", size: int | None = None) -> Iterator[Path]:
    """Give a path to write to, in the same folder, whose file takes the name `path` when the block ends without error.

    Args:
        path: the file; its folder is made if missing.
        ending: of the scratch file, where a writer chooses the format by it.
        size: bytes that will be written, if known, for the error.

    Raises:
        OSError: the file cannot be written; on a full disk it names the file, the folder and the bytes.
    """
    scratch = path.with_name(f".ncafast-{os.getpid()}{ending}")  # short, as the name itself may be as long as allowed
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        os.replace(scratch, path)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(error.errno, _disk_full(path, scratch, size)) from None
    finally:
        scratch.unlink(missing_ok=True)


def _disk_full(path: Path, scratch: Path, size: int | None) -> str:
    written = scratch.stat().st_size if scratch.exists() else 0
    needs = f"{size:,} bytes are needed" if size is not None else f"it was full after {written:,} bytes of the file"
    try:
        free = f", {shutil.disk_usage(path.parent).free + written:,} are free"
    except OSError:
        free = ""
    return f"{path}: no space is left on the disk (or in the quota) of {path.parent}: {needs}{free}; make room"
