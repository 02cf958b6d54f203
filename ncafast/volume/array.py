"""A state of a volume, wherever its numbers are: what `rollout_tiled` reads and writes box by box."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from ncafast.volume.boxes import Box


class Extent(NamedTuple):
    """Bytes [start, stop) of a memory or file, and how cells lie there."""

    where: object
    start: int
    stop: int
    layout: object


class Array(ABC):
    """A state [B, C, *S].

    Attributes:
        shape: B, C, *S.
        dtype: as a torch dtype.
        device: where its numbers are.
        grain: cells per spatial axis that are stored together.
        on_disk: whether its numbers, and those of its scratch arrays, are kept outside memory.
        write_only: whether it cannot be read, so that passes before the last have to go elsewhere.
        own: bytes of memory that it will take while it is written, and has not taken yet.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    device = torch.device("cpu")
    grain: tuple[int, ...]
    on_disk = False
    write_only = False
    own = 0

    @abstractmethod
    def read(self, box: Box, pinned: bool = False) -> Tensor:
        """[B, C, *box]; a view where that is possible. Pinned: in memory that a GPU copies from."""

    @abstractmethod
    def write(self, box: Box, values: Tensor) -> None:
        """Store [B, C, *box] of a box that does not wrap."""

    @abstractmethod
    def scratch(self, shape: tuple[int, ...] | None = None) -> Array:
        """An array of this kind, of its shape or another one, whose numbers are gone when it is closed."""

    @abstractmethod
    def extents(self) -> list[Extent]:
        """Where its numbers are, in each way that can be compared."""

    def reserve(self) -> None:  # noqa: B027
        """Raise unless it can be written in full."""

    def flush(self) -> None:  # noqa: B027
        """Have what was written reach the disk."""

    def close(self) -> None:  # noqa: B027
        """Free a scratch array."""
