"""Rows of results as they come, with what all rows of one run share."""

from __future__ import annotations

from pathlib import Path

import torch

from ncafast.bench import machine, results
from ncafast.bench.results import Row
from ncafast.measuring.timing import Spread


class Rows:
    """The file of this machine's results.

    Args:
        folder: where it is.
        date: of the run, the same in all its processes.
        size: of the cases.
    """

    def __init__(self, folder: Path, date: str, size: str = "gpu") -> None:
        device = machine.device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self.path = folder / f"{machine.slug(device)}.csv"
        self._shared = {
            "date": date,
            "revision": machine.revision(),
            "device": device,
            "threads": str(torch.get_num_threads()),
            "size": size,
            "versions": machine.versions(),
        }

    def add(
        self,
        provider: str,
        metric: str,
        value: Spread | float | None = None,
        unit: str = "",
        *,
        case: str = "",
        shape: str = "",
        mode: str = "",
        rounds: str = "",
        note: str = "",
    ) -> None:
        """Append a row; without a value the note says why."""
        figures = {} if value is None else results.figures(value)
        own = {"provider": provider, "metric": metric, "unit": unit, "case": case, "shape": shape, "mode": mode}
        results.append(self.path, [Row(**self._shared, **own, rounds=rounds, note=note, **figures)])
