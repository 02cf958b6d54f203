"""What a long run says: lines of text, and a bar with the time that is left where tqdm is installed."""

from __future__ import annotations

import os
import sys
from typing import Any

from ncafast.utils.texts import printable

_EVERY = 30.0  # seconds from one line to the next, where no bar can be drawn
_LINE = "{desc}{n_fmt} of {total_fmt} after {elapsed}, {remaining} left, {rate_fmt}{postfix}"


def is_first() -> bool:
    """Whether this process is the one that speaks: the only one, or torchrun's first."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """Print a line above the bar, once whatever the number of processes."""
    if is_first():
        try:
            from tqdm import tqdm
        except ImportError:
            print(printable(text), flush=True)
        else:
            tqdm.write(printable(text))


def note(*lines: str) -> None:
    """Say what was decided, or is doubtful, so that it can be corrected."""
    for line in lines:
        say(f"note: {line}")


class _Lines:
    """The stream of errors as a bar sees it where that is no terminal: every state of it becomes a line."""

    def write(self, text: str) -> None:
        """Of what moves a terminal's cursor nothing is left."""
        if line := text.strip():
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()


class Bar:
    """A progress bar with rate and remaining time, for `with`; silent if unwanted or without tqdm. In a file or a pipe
    it is a line now and then."""

    def __init__(self, total: int, wanted: bool, text: str = "", first: int = 0) -> None:
        self._bar: Any = None
        if wanted and is_first():
            try:
                from tqdm import tqdm
            except ImportError:
                return
            options: dict[str, Any] = {}
            if not sys.stderr.isatty():
                options = {"file": _Lines(), "bar_format": _LINE, "miniters": 1}
                options |= {"mininterval": _EVERY, "delay": _EVERY}
            self._moves = not options
            self._bar = tqdm(
                total=total or None, initial=first, unit="step", desc=f"{text}: " if text else None, **options
            )

    def __enter__(self) -> Bar:
        return self

    def describe(self, text: str) -> None:
        """What stands before the bar."""
        if self._bar is not None:
            self._bar.set_description(text, refresh=self._moves)

    def advance(self, values: dict[str, float], count: int = 1) -> None:
        """So many steps, with the numbers that stand behind the bar."""
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()}, refresh=False)
            self._bar.update(count)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
