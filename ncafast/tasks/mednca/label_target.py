"""Labels that are decided and stored tile by tile, where a model's logits arrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ncafast.models import MedNCA
from ncafast.tasks.mednca.inference import decide
from ncafast.tasks.mednca.model_file import Model
from ncafast.volume.array import Array, Extent
from ncafast.volume.boxes import Box
from ncafast.volume.disk_arrays import scratch_file

Numbers = np.ndarray[Any, Any]


class LabelTarget(Array):
    """Takes a model's logits and stores class numbers, so that logits are nowhere whole.

    Args:
        model: whose logits they are.
        shape: of what the model sees, [B, C, *S].
        slices: [S, H, W] of the image, as a model's slices are.
        store: stores class numbers [s, h, w] of (slices, rows, columns).
        grain: voxels of S, H, W that are stored together.
        folder: for states.
    """

    on_disk = write_only = True
    dtype = torch.float32

    def __init__(
        self,
        model: Model,
        shape: Sequence[int],
        slices: Sequence[int],
        store: Callable[[slice, slice, slice, Numbers], None],
        grain: Sequence[int],
        folder: Path,
    ) -> None:
        self._flat = isinstance(model, MedNCA)
        batch, _, *cells = shape
        count = model.classes if isinstance(model, MedNCA) else model.output_channels
        self.shape = (batch, count, *cells)
        self.grain = tuple(grain[1:] if self._flat else grain)
        self._slices, self._store, self._folder = tuple(slices), store, folder
        self.found = np.zeros((slices[0], count), np.int64)  # voxels by slice and class

    def read(self, box: Box, pinned: bool = False) -> Tensor:
        """Never called: it is write-only."""
        raise TypeError("labels cannot be read as logits")

    def write(self, box: Box, values: Tensor) -> None:
        """As `Array.write`."""
        sides = zip(box.start[-2:], box.stop[-2:], self._slices[1:], strict=True)
        rows, columns = (slice(start, min(stop, side)) for start, stop, side in sides)
        numbers = slice(0, self._slices[0]) if self._flat else slice(box.start[0], box.stop[0])
        logits = values if self._flat else values[0].movedim(1, 0)
        logits = logits[..., : max(0, rows.stop - rows.start), : max(0, columns.stop - columns.start)]
        if not logits.numel():  # what a slice was padded with
            return
        classes = decide(logits.sigmoid().float()).numpy()
        for number in range(self.shape[1]):
            self.found[numbers, number] += (classes == number + 1).sum((1, 2))
        self._store(numbers, rows, columns, classes)

    def scratch(self, shape: tuple[int, ...] | None = None) -> Array:
        """As `Array.scratch`."""
        return scratch_file(str(self._folder), shape or self.shape, np.dtype(np.float32))

    def extents(self) -> list[Extent]:
        """As `Array.extents`; nothing that is read is stored there."""
        return []
