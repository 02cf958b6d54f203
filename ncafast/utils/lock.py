"""One process at a time in a folder. The lock is the operating system's: it ends with the process, also by SIGKILL."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ncafast.utils.outputs import check_folder
from ncafast.utils.progress import is_first, say

_LOCK, _HOLDER = ".lock", ".holder"  # the lock says whether, the text file by whom


@contextmanager
def locked(folder: Path, option: str = "--output") -> Iterator[None]:
    """Have the folder to oneself inside; it is made if missing. Under torchrun the first process has it for all.

    Raises:
        ValueError: another process, which the message names, has it; or it cannot be made.
    """
    if not is_first():
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        check_folder(option, folder)  # says why in words
        raise
    lock, held = FileLock(folder / _LOCK), True
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"{folder}: is in use by {_holder(folder)}; wait until that ends or stop it, or give another folder "
            f"with {option}"
        ) from None
    except (OSError, NotImplementedError) as error:  # some network file systems know no locks
        say(f"{folder}: cannot be locked ({error}), so take care that no other process works in it")
        held = False
    try:
        if held:
            (folder / _HOLDER).write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        if held:
            (folder / _HOLDER).unlink(missing_ok=True)
            lock.release()


def _holder(folder: Path) -> str:
    try:
        return (folder / _HOLDER).read_text(encoding="utf-8") or "another process"
    except (OSError, UnicodeDecodeError):
        return "another process"
