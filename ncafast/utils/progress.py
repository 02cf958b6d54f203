"""What a long run says: lines of text, and a bar with the time that is left where tqdm is installed."""

from __future__ import annotations

import os
from typing import Any

from ncafast.utils.texts import printable


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


class Bar:
    """A progress bar with rate and remaining time, for `with`; silent if unwanted or without tqdm."""

    def __init__(self, total: int, wanted: bool, text: str = "", first: int = 0) -> None:
        self._bar: Any = None
        if wanted and is_first():
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self._bar = tqdm(total=total, initial=first, unit="step", desc=text or None)

    def __enter__(self) -> Bar:
        return self

    def describe(self, text: str) -> None:
        """What stands before the bar."""
        if self._bar is not None:
            self._bar.set_description(text)

    def advance(self, values: dict[str, float], count: int = 1) -> None:
        """So many steps, with the numbers that stand behind the bar."""
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()}, refresh=False)
            self._bar.update(count)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
