"""States of a cascade's levels that are nowhere whole: the first is made where it is read, of the last some is kept."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ncafast.volume.array import Array, Extent
from ncafast.volume.boxes import Box, Place, runs
from ncafast.volume.disk_arrays import scratch_file
from ncafast.volume.resized import Resize

_PIECE = 2**26  # bytes that are resized at once


class FirstState(Array):
    """A level's first state, of which nothing is stored: the image's channels, then those of the level before.

    Args:
        image: [B, C, *S of the image].
        shrink: makes the level's image of it.
        before: hidden channels [B, C, *S of the level before]; None stands for zeros.
        enlarge: makes the level's of them.
        channels: of the state.
        size: cells of the level per axis.
    """

    def __init__(
        self, image: Array, shrink: Resize, before: Array | None, enlarge: Resize, channels: int, size: Sequence[int]
    ) -> None:
        self.image, self.shrink, self.before, self.enlarge = image, shrink, before, enlarge
        self.shape, self.grain = (image.shape[0], channels, *size), (1,) * len(size)
        self.dtype, self.device = image.dtype, image.device
        of_image = image.shape[1] * math.prod(image.shape[2:]) / max(1, math.prod(size))
        self._cell = max(1, image.shape[0]) * self.dtype.itemsize * int(of_image + 4 * channels)

    def read(self, box: Box, pinned: bool = False) -> Tensor:
        """As `Array.read`."""
        pinned = pinned and self.device.type == "cpu"
        shape = (*self.shape[:2], *box.size)
        values = torch.empty(shape, dtype=self.dtype, device=self.device, pin_memory=pinned)
        for pairs in itertools.product(*runs(box, self.shape[2:])):
            starts, stops = zip(*((cells.start, cells.stop) for cells, _ in pairs), strict=True)
            inside: Place = (..., *(place for _, place in pairs))
            self._fill(values[inside], Box(starts, stops))
        return values

    def _fill(self, values: Tensor, box: Box) -> None:
        """A box, in halves along its longest axis until each is small."""
        axis = max(range(len(box.size)), key=lambda axis: box.size[axis])
        if box.size[axis] > 1 and math.prod(box.size) * self._cell > _PIECE:
            for half in _halves(box, axis):
                self._fill(values[half.within(box)], half)
            return
        images = self.image.shape[1]
        values[:, :images] = self.shrink(self.image, box)
        values[:, images:] = 0.0 if self.before is None else self.enlarge(self.before, box).to(self.device)

    def write(self, box: Box, values: Tensor) -> None:
        """Never called: it is no out."""
        raise TypeError("the first state of a level cannot be written")

    def scratch(self, shape: tuple[int, ...] | None = None) -> Array:
        """As `Array.scratch`."""
        return self.image.scratch(shape or self.shape)

    def extents(self) -> list[Extent]:
        """As `Array.extents`."""
        return [*self.image.extents(), *(self.before.extents() if self.before else ())]


class Room:
    """Where states lie that are neither image nor out.

    Args:
        like: the out, whose kind they are of, without a folder.
        folder: for files.
    """

    def __init__(self, like: Array, folder: str | Path | None) -> None:
        self.like, self.folder = like, folder
        self.on_disk = like.on_disk or folder is not None

    def array(self, shape: tuple[int, ...]) -> Array:
        """A new array that is gone when it is closed."""
        if self.folder is not None:
            return scratch_file(str(self.folder), shape, np.dtype(str(self.like.dtype).removeprefix("torch.")))
        array = self.like.scratch(shape)
        array.own = 0 if self.on_disk else math.prod(shape) * self.like.dtype.itemsize
        return array


class Channels(Array):
    """The last state of a level, of which only some channels are stored.

    Args:
        target: where they are stored.
        read: the channels.
        shape: of the state.
        room: where states between passes lie.
    """

    write_only = True

    def __init__(self, target: Array, read: slice, shape: tuple[int, ...], room: Room) -> None:
        self.target, self.channels, self.shape, self.room = target, read, shape, room
        self.dtype, self.device, self.grain, self.own = target.dtype, target.device, target.grain, target.own
        self.on_disk = room.on_disk

    def read(self, box: Box, pinned: bool = False) -> Tensor:
        """Never called: it is write-only."""
        raise TypeError("the last state of a level cannot be read")

    def write(self, box: Box, values: Tensor) -> None:
        """As `Array.write`."""
        self.target.write(box, values[:, self.channels])

    def scratch(self, shape: tuple[int, ...] | None = None) -> Array:
        """As `Array.scratch`."""
        return self.room.array(shape or self.shape)

    def extents(self) -> list[Extent]:
        """As `Array.extents`."""
        return self.target.extents()

    def reserve(self) -> None:
        """As `Array.reserve`."""
        self.target.reserve()

    def flush(self) -> None:
        """As `Array.flush`."""
        self.target.flush()


def _halves(box: Box, axis: int) -> tuple[Box, Box]:
    middle = (box.start[axis] + box.stop[axis]) // 2
    corner = (*box.start[:axis], middle, *box.start[axis + 1 :])
    return Box(box.start, (*box.stop[:axis], middle, *box.stop[axis + 1 :])), Box(corner, box.stop)
