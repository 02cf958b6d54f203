"""TensorBoard, where it is installed; elsewhere the run goes on without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ncafast.utils.progress import say
from ncafast.utils.texts import printable


class Board:
    """A TensorBoard writer that drops what an earlier, killed run had written beyond `first_step`."""

    def __init__(self, folder: Path, wanted: bool, first_step: int) -> None:
        self._writer: Any = None
        if not wanted:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            say("tensorboard is not installed, so no TensorBoard files are written (pip install tensorboard)")
            return
        self._writer = SummaryWriter(str(folder), purge_step=first_step + 1)

    @property
    def written(self) -> bool:
        """Whether anything that it is given is kept."""
        return self._writer is not None

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Add one point to each named curve."""
        for name, value in values.items():
            if self._writer is not None:
                self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, pixels: np.ndarray[Any, Any]) -> None:
        """Add a picture [height, width, 3] uint8."""
        if self._writer is not None:
            self._writer.add_image(printable(name), pixels, step, dataformats="HWC")

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.close()
