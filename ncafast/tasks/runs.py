"""How often a pseudo-ensemble runs: with other firing cells each time."""

from __future__ import annotations

from typing import Protocol

_RUNS = 10  # as many as in M3D-NCA


class _Options(Protocol):
    @property
    def runs(self) -> int | None:
        """None: not given."""

    @property
    def uncertainty(self) -> bool:
        """Whether runs are compared."""


def runs_of(options: _Options) -> int:
    """The number of runs: as given, else 1, or 10 with --uncertainty.

    Raises:
        ValueError: fewer than 2 runs, which cannot differ, with --uncertainty.
    """
    runs = options.runs if options.runs is not None else _RUNS if options.uncertainty else 1
    if options.uncertainty and runs < 2:
        raise ValueError(f"runs={runs} is not allowed with --uncertainty; give a whole number from 2")
    return runs
