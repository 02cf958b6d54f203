"""Ctrl-C ends the command line with one line and exit code 130, whatever it is doing.

Python's own handler raises KeyboardInterrupt. That is right while a command runs, which cleans up behind it; but an
import may print or swallow it, and at the end of the process nobody catches it.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys

TYPE_CHECKING = False  # without typing, which takes longer to import than all of this
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

INTERRUPTED = 130  # exit code

_said = False


def hold() -> None:
    """Let Ctrl-C end the process at once, if that is the command `ncafast` and not a program that imports the
    package."""
    if is_command():
        _replace(signal.default_int_handler, _stop)


class Released:
    """Let Ctrl-C raise KeyboardInterrupt inside a `with`, again where it was raised in a callback and so ignored."""

    def __enter__(self) -> None:
        self._hook = sys.unraisablehook
        if is_command():
            sys.unraisablehook = _again
        _replace(_stop, signal.default_int_handler)

    def __exit__(self, *error: object) -> None:
        hold()
        sys.unraisablehook = self._hook


def say(left: str = "") -> None:
    """Print the line, with what is left of the work, once whatever the number of processes under torchrun and of
    Ctrl-Cs."""
    global _said
    if not _said and os.environ.get("RANK", "0") == "0":
        _said = True
        print(f"ncafast: stopped; {left}" if left else "ncafast: stopped", file=sys.stderr, flush=True)


def is_command() -> bool:
    """Whether the process is the installed command or `python -m ncafast`."""
    called = sys.argv[0] if sys.argv else ""
    if called == "-m":  # the package is being imported; after that, its __main__.py stands here
        return bool({"ncafast", "-mncafast"} & {*sys.orig_argv})
    own = os.path.join(os.path.dirname(__file__), "__main__.py")
    return os.path.basename(called) in ("ncafast", "ncafast.exe") or called == own


def _replace(old: Callable[..., Any], new: Callable[..., Any] | signal.Handlers) -> None:
    """Set another handler; one that is neither, as of a background job, is left alone."""
    if signal.getsignal(signal.SIGINT) is old:
        try:
            signal.signal(signal.SIGINT, new)
        except ValueError:
            return  # only the main thread may


def _stop(number: int, frame: FrameType | None) -> None:
    say()
    os._exit(INTERRUPTED)


def _again(ignored: sys.UnraisableHookArgs) -> None:
    """Raise what a garbage collection or the like has swallowed once more, a moment later."""
    if isinstance(ignored.exc_value, KeyboardInterrupt):
        import threading

        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(ignored)


def _ignore() -> None:
    """Leave the interpreter alone while it ends; it would reset the handler, and die of the signal."""
    _replace(_stop, signal.SIG_IGN)


hold()
atexit.register(_ignore)  # first of all, so that it is called last
