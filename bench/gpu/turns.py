"""Processes that take turns on the GPU: one has it for itself while the others still import."""

from __future__ import annotations

import fcntl
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(folder: Path, seconds: int) -> Iterator[None]:
    """This process has the GPU for itself, and is ended by the system when it keeps it longer than that."""
    with folder.joinpath("turn").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        signal.alarm(seconds)  # its default action ends a process that waits for a kernel, too
        try:
            yield
        finally:
            signal.alarm(0)
