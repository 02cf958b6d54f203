"""Whether a model of masks is unsure where it is wrong: NQM beside the Dice score, and its map beside the error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ncafast.uncertainty import Calibration
from ncafast.utils.texts import printable
from ncafast.viz.pixels import Array


class MaskCalibration:
    """One `Calibration` per class; the error of a cell is |probability - truth|.

    Args:
        names: of the classes 1, 2, ... for people, by their key in `facts`.
        cell: what a cell is called: voxel, pixel.
    """

    def __init__(self, names: Mapping[str, str], cell: str) -> None:
        self.names = names
        self.of = {key: Calibration("NQM", "1 - Dice", cell) for key in names}

    def add(
        self,
        probability: Tensor,  # [K, ...] mean over the runs
        deviation: Tensor,  # [K, ...] over the runs
        labels: Array,  # [...] class numbers that were found
        truth: Array,  # [...] class numbers
        rows: Sequence[Mapping[str, Any]],
    ) -> None:
        """Add a sample with the rows of its scores, one per class, with nqm and dice."""
        for k, (row, calibration) in enumerate(zip(rows, self.of.values(), strict=True)):
            theirs = truth == k + 1
            errors, wrong = abs(probability[k].numpy() - theirs), (labels == k + 1) != theirs
            calibration.add(row["nqm"], 1 - row["dice"], deviation[k], errors, wrong)

    def lines(self) -> list[str]:
        """For people, one line per class."""
        several = len(self.of) > 1
        return [
            (f"{printable(self.names[key])}: " if several else "") + calibration.line()
            for key, calibration in self.of.items()
        ]

    def facts(self) -> dict[str, Any]:
        """The numbers by class."""
        return {key: calibration.facts() for key, calibration in self.of.items()}
