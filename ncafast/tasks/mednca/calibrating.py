"""Whether a model is unsure where it is wrong: NQM beside the Dice score, and its map beside the error, by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ncafast.tasks.mednca.inference import Segmentation
from ncafast.tasks.mednca.slices import Array, Recipe
from ncafast.uncertainty import Calibration
from ncafast.utils.texts import printable


class Calibrations:
    """One `Calibration` per label value; the error of a voxel is |probability - truth|."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.of = {value: Calibration("NQM", "1 - Dice", "voxel") for value in recipe.values}

    def add(self, segmentation: Segmentation, truth: Array, rows: Sequence[dict[str, Any]]) -> None:
        """Add a volume.

        Args:
            segmentation: what the model says of it.
            truth: class numbers [S, H, W].
            rows: of its scores, one per class, with nqm and dice.
        """
        result = segmentation.result
        assert result is not None
        for k, (row, calibration) in enumerate(zip(rows, self.of.values(), strict=True)):
            theirs = truth == k + 1
            errors = abs(result.probability[:, k].numpy() - theirs)
            wrong = (segmentation.labels == k + 1) != theirs
            calibration.add(row["nqm"], 1 - row["dice"], result.runs_variance[:, k], errors, wrong)

    def lines(self) -> list[str]:
        """For people, one line per class."""
        several = len(self.of) > 1
        return [
            (f"{printable(self.recipe.name_of(value))}: " if several else "") + calibration.line()
            for value, calibration in self.of.items()
        ]

    def facts(self) -> dict[str, Any]:
        """The numbers by label value."""
        return {str(value): calibration.facts() for value, calibration in self.of.items()}
