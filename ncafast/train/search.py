"""A search over a grid of options: every combination is trained once, also over several starts."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ncafast.train.progress import say
from ncafast.train.results import Results


def search(
    grid: Mapping[str, Sequence[Any]],
    train: Callable[[dict[str, Any], Path], dict[str, float]],
    out: Path,
    *,
    by: str,
    lowest: bool = False,
) -> list[dict[str, Any]]:
    """Train every combination of the grid's values; the same call, also with a larger grid, does what is left.

    Args:
        grid: values to try, by option: {"lr": [1e-3, 4e-3], "hidden": [64, 128]}.
        train: `train(options, folder)` trains one combination in a folder of its own, which it may find begun, and
            returns what was measured.
        out: folder for one folder per combination (`lr=0.001,hidden=64`), results.csv and results.json.
        by: the measured number to rank by.
        lowest: whether the lowest one is best.

    Returns:
        One row per combination of this grid, options and measured numbers, best first; NaN is worse than any number.

    Raises:
        ValueError: an option without values, or `by` is not among what was measured.
    """
    for name, values in grid.items():
        if not values:
            raise ValueError(f"grid gives no value for {name}; give at least one or leave it out")
    results = Results(out)
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    for number, point in enumerate(points, start=1):
        if results.find(point) is None:
            say(f"combination {number} of {len(points)}: {_name(point)}")
            results.add(point, train(point, out / _name(point)))
    rows = [row for point in points if (row := results.find(point)) is not None]
    for row in rows:
        if by not in row:
            raise ValueError(f"by={by!r} is not among what was measured: {', '.join(set(row) - set(grid))}")
    return sorted(rows, key=lambda row: (math.isnan(row[by]), row[by] if lowest else -row[by]))


def _name(point: Mapping[str, Any]) -> str:
    """The combination as a folder's name."""
    return re.sub(r"[^\w=,.+-]+", "_", ",".join(f"{name}={value}" for name, value in point.items()))
