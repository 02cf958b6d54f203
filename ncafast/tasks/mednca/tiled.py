"""Segmenting what does not fit into memory: over tiles, with the states in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ncafast.models import MedNCA
from ncafast.models.memory import backend_of
from ncafast.tasks.mednca.model_file import Model
from ncafast.tasks.planes import padded_size
from ncafast.volume import cascade_tiled
from ncafast.volume.choose import choose
from ncafast.volume.plan import Volume

Array = np.ndarray[Any, Any]


class ModelInput:
    """Slices [s, C, H, W], or a volume given as its slices, as `cascade_tiled` reads what the model sees.

    Of a 2-D model [runs * s, C, H', W'], padded with zeros to a multiple of its scale; of a 3-D model
    [runs, C, s, H, W]. float32.

    Args:
        model: says which of the two it is.
        slices: a tensor or an array, read by slices of its axes.
        runs: so many times over.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, model: Model, slices: Any, runs: int) -> None:
        self._slices, self._runs, self._flat = slices, runs, isinstance(model, MedNCA)
        count, channels, *sides = slices.shape
        if isinstance(model, MedNCA):
            self.shape = (runs * count, channels, *(padded_size(side, model.scale) for side in sides))
        else:
            self.shape = (runs, channels, count, *sides)

    def __getitem__(self, place: tuple[Any, ...]) -> Array:
        """Cells of a box, given as (..., slice per spatial axis)."""
        _, *cells = place
        if not self._flat:
            number, *inside = cells
            part = self._read(number, inside).swapaxes(0, 1)[None]
            return np.broadcast_to(part, (self._runs, *part.shape[1:]))
        part = self._read(slice(None), cells)
        ends = [(0, cell.stop - cell.start - side) for cell, side in zip(cells, part.shape[2:], strict=True)]
        return np.tile(np.pad(part, [(0, 0), (0, 0), *ends]), (self._runs, 1, 1, 1))

    def _read(self, numbers: slice, inside: Sequence[slice]) -> Array:
        return torch.as_tensor(self._slices[(numbers, slice(None), *inside)]).float().numpy()


def check_tiles(model: Model, size: Sequence[int]) -> None:
    """Raise MemoryError, one line, unless the finest level runs in tiles in the memory that is free."""
    rule, device = model.rules[-1], next(model.parameters()).device
    shape = (1, rule.channels, *size)
    choose(
        Volume(rule, shape, torch.float32, model.steps[-1], backend_of(model, rule), device, on_disk=True), *[None] * 3
    )


def in_tiles(error: MemoryError, scratch: Path) -> str:
    """What is said where something does not fit as a whole."""
    return f"{str(error).partition(';')[0]}; it runs in tiles, with its states in files in {existing(scratch)}"


def logits(model: Model, part: Any, runs: int, *, seed: int, scratch: Path) -> Tensor:
    """What the model says of slices [s, C, H, W], as `model(model_input(...))`: [runs * s, K, H', W'], or
    [runs, s, H, W, K]."""
    source = ModelInput(model, part, runs)
    found = torch.from_numpy(cascade_tiled(model, source, seed=seed, scratch=existing(scratch), progress=False))
    return found if isinstance(model, MedNCA) else found.movedim(1, -1)


def existing(folder: Path) -> Path:
    """The folder, or the innermost one around it that there is already."""
    return next(parent for parent in (folder, *folder.resolve().parents) if parent.is_dir())
