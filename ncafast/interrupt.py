"""Ctrl-C while the command line is still importing ends it with one line, as it does later.

Python's own handler would raise KeyboardInterrupt somewhere inside torch or NumPy, which may print or swallow it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

INTERRUPTED = 130  # exit code


def hold() -> None:
    """From here to `release`, Ctrl-C ends the process at once, if that is the command `ncafast` and not a program that
    imports the package."""
    if _is_command():
        _replace(signal.default_int_handler, _stop)


def release() -> None:
    """Ctrl-C raises KeyboardInterrupt again."""
    _replace(_stop, signal.default_int_handler)


def say() -> None:
    """Print the line, once whatever the number of processes under torchrun."""
    if os.environ.get("RANK", "0") == "0":
        print("ncafast: stopped", file=sys.stderr, flush=True)


def _replace(old: Callable[..., Any], new: Callable[..., Any]) -> None:
    """Set another handler; one that is neither, as of a background job, is left alone."""
    if signal.getsignal(signal.SIGINT) is old:
        with suppress(ValueError):  # only the main thread may
            signal.signal(signal.SIGINT, new)


def _stop(number: int, frame: FrameType | None) -> None:
    say()
    os._exit(INTERRUPTED)


def _is_command() -> bool:
    """Whether the process is the installed command or `python -m ncafast`."""
    called = sys.argv[0] if sys.argv else ""
    if called == "-m":  # the package is being imported; after that, its __main__.py stands here
        return {"ncafast", "-mncafast"} & {*sys.orig_argv} != set()
    return Path(called).name in ("ncafast", "ncafast.exe") or Path(called) == Path(__file__).with_name("__main__.py")


hold()  # until the package is imported
