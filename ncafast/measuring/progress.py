"""What a measurement is doing, on stderr: one line that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

Say = Callable[[str], None]
_START = "\r\x1b[K"  # back to the start of the line, which is emptied
_PAUSE = 5.0  # seconds between plain lines of one kind, such as rounds


def silent(text: str) -> None:
    """Say nothing."""


class Progress:
    """Call it with what is done now, inside a `with`, whose end makes room for other lines on a terminal.

    Args:
        stream: a terminal or not; None: stderr.
        clock: in seconds.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = sys.stderr if stream is None else stream, clock
        self._terminal = self._stream.isatty()
        self._shown, self._again = "", 0.0

    def __call__(self, text: str) -> None:
        """Show a line. Where lines stay, one that goes on with the line before, as "X: round 3 of 9" does, is left out
        for some seconds."""
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            self._write(f"{_START}{text[:width]}")
            self._shown = text
            return
        kind, now = text.partition(": round ")[0], self._clock()
        if kind != self._shown or now >= self._again:
            self._shown, self._again = kind, now + _PAUSE
            self._write(f"{text}\n")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._terminal and self._shown:
            self._write(_START)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
