"""Ctrl-C ends the command line with one line and exit code 130, whatever it is doing.

Python's own handler raises KeyboardInterrupt. That is right while a command runs, which cleans up behind it; but an
import may print or swallow it, and at the end of the process nobody catches it.
"""

from __future__ import annotations

import os
import signal
import sys

# isort: split
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

INTERRUPTED = 130  # exit code

_said = False


def hold() -> None:
    """Let Ctrl-C end the process at once, if that is the command `ncafast` and not a program that imports the
    package."""
    if is_command():
        _replace(signal.default_int_handler, _stop)


@contextmanager
def released() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt inside."""
    _replace(_stop, signal.default_int_handler)
    try:
        yield
    finally:
        hold()


def say() -> None:
    """Print the line, once whatever the number of processes under torchrun and of Ctrl-Cs."""
    global _said
    if not _said and os.environ.get("RANK", "0") == "0":
        _said = True
        print("ncafast: stopped", file=sys.stderr, flush=True)


def is_command() -> bool:
    """Whether the process is the installed command or `python -m ncafast`."""
    called = sys.argv[0] if sys.argv else ""
    if called == "-m":  # the package is being imported; after that, its __main__.py stands here
        return bool({"ncafast", "-mncafast"} & {*sys.orig_argv})
    own = os.path.join(os.path.dirname(__file__), "__main__.py")
    return os.path.basename(called) in ("ncafast", "ncafast.exe") or called == own


def _replace(old: Callable[..., Any], new: Callable[..., Any]) -> None:
    """Set another handler; one that is neither, as of a background job, is left alone."""
    if signal.getsignal(signal.SIGINT) is old:
        with suppress(ValueError):  # only the main thread may
            signal.signal(signal.SIGINT, new)


def _stop(number: int, frame: FrameType | None) -> None:
    say()
    os._exit(INTERRUPTED)


hold()
