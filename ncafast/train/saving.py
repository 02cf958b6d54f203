"""When to save: after every step, where that is cheap."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

_SHARE = 0.05  # of the time that saving may take


class Saver:
    """Says after which steps a run is saved.

    With a number, after every so many steps. Without one, as soon as the time since the last save is twenty times what
    that save took: after every step where a step takes longer than that, so that a kill costs the step it falls into;
    less often where steps are quick or the state is large (a big pool), so that a kill costs that little time.
    """

    def __init__(self, every: int | None) -> None:
        self._every, self._cost, self._ended = every, 0.0, time.perf_counter()

    def due(self, step: int) -> bool:
        """Whether to save now that `step` steps are complete."""
        if self._every is not None:
            return step % self._every == 0
        return (time.perf_counter() - self._ended) * _SHARE >= self._cost

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Around a save."""
        started = time.perf_counter()
        yield
        self._ended = time.perf_counter()
        self._cost = self._ended - started
