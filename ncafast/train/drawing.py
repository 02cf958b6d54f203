"""When to draw: seldom enough that a training's time is its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

_SHARE = 0.1  # of the time since the start that pictures may take
_GUESS = 0.5  # seconds that the first ones are taken to need, matplotlib's import included


class Drawing:
    """Says after which epochs pictures are drawn.

    As soon as all that were drawn, and once more as many as the last time, take no more than a tenth of the time since
    the start: after every epoch where epochs are long. The last epoch's are always drawn.
    """

    def __init__(self) -> None:
        self._started, self._all, self._last = time.perf_counter(), 0.0, _GUESS

    def due(self) -> bool:
        """Whether to draw at the end of this epoch."""
        return self._all + self._last <= _SHARE * (time.perf_counter() - self._started)

    @contextmanager
    def epoch(self) -> Iterator[None]:
        """Around the end of an epoch: the pictures in it are those of one time."""
        before = self._all
        yield
        if self._all > before:
            self._last = self._all - before

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Around the drawing of one or several."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._all += time.perf_counter() - started
