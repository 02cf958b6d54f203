"""The plan of a rollout over tiles: how a volume is cut, how many steps a tile runs before its result is stored."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from ncafast.backends.fusable import MEASURED_NORMS
from ncafast.footprint import rollout_bytes
from ncafast.free_memory import size_text
from ncafast.rule import Rule
from ncafast.volume.boxes import Box, grown
from ncafast.volume.reach import needs_whole_grid, reach

_THREADS = 2**27  # bytes beside states: pieces of memory maps, stacks and scratch of threads
SWEEP_BYTES = 2**28  # of perceptions that are in memory at once where PyTorch measures a step
# By model, unverified: what moves a plan is the ratio of arithmetic to traffic, not either number.
_FLOPS, _DISK, _MEMORY, _PAGE = 40e9, 1e9, 8e9, 4096


@dataclass(frozen=True)
class Volume:
    """What is run on what, as far as a plan depends on it.

    Attributes:
        rule: the step.
        shape: of the state, [B, C, *S].
        dtype: of the state.
        steps: in all.
        backend: that runs a tile.
        device: that it runs on.
        grain: cells per axis that are stored together.
        on_disk: whether source, out and scratch are outside memory.
        in_place: whether out is source.
        own: bytes of `out` that are still to be taken.
        copied: whether the cells of a box are copied where they are read.
        write_only: whether out cannot be read, so that the last pass alone writes it, as where it is source.
    """

    rule: Rule
    shape: tuple[int, ...]
    dtype: torch.dtype
    steps: int
    backend: str = "cpu"
    device: torch.device = torch.device("cpu")
    grain: tuple[int, ...] = ()
    on_disk: bool = False
    in_place: bool = False
    own: int = 0
    copied: bool = False
    write_only: bool = False

    @property
    def whole(self) -> tuple[int, ...]:
        """Cells per axis."""
        return self.shape[2:]

    @property
    def written_last(self) -> bool:
        """Whether passes before the last go into scratch only."""
        return self.in_place or self.write_only

    def state(self, size: Sequence[int]) -> int:
        """Bytes of the state of so many cells per axis."""
        return math.prod(self.shape[:2]) * math.prod(size) * self.dtype.itemsize


@dataclass(frozen=True)
class PassPlan:
    """How a volume is run. Printed, it says so.

    Attributes:
        volume: what is run.
        tile: cells per axis.
        counts: steps of each pass over all tiles; a 0 at the end stands for a copy.
    """

    volume: Volume
    tile: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def steps_per_pass(self) -> int:
        """Steps that a tile runs at most before its result is stored."""
        return max(self.counts, default=0)

    @property
    def cut(self) -> tuple[int, ...]:
        """Axes that are cut."""
        return tuple(axis for axis, (n, size) in enumerate(zip(self.tile, self.volume.whole, strict=True)) if n < size)

    @property
    def measures(self) -> bool:
        """Whether each step reads the state once more, to measure it."""
        return bool(self.cut) and needs_whole_grid(self.volume.rule)

    def halo(self, steps: int) -> tuple[int, ...]:
        """Cells around a tile that so many steps need."""
        return tuple(steps * cells for cells in reach(self.volume.rule))

    @cached_property
    def cores(self) -> tuple[Box, ...]:
        """The tiles, in the order in which they run."""
        pairs = zip(self.volume.whole, self.tile, strict=True)
        axes = [[(at, min(size, at + n)) for at in range(0, size, n)] for size, n in pairs]
        return tuple(Box(*zip(*corners, strict=True)) for corners in itertools.product(*axes))

    def box(self, core: Box, halo: Sequence[int]) -> Box:
        """A tile with the cells around it."""
        return grown(core, self.volume.whole, halo, self.volume.rule.padding == "circular")

    @property
    def redundant(self) -> float:
        """Cells that are computed in tiles more than once, as a share of all."""
        done = sum(steps * self.counts.count(steps) * self._covered(steps) for steps in set(self.counts))
        return done / self.volume.steps - 1 if self.volume.steps else 0.0

    def _covered(self, steps: int) -> float:
        """Cells of all tiles with those around them, in volumes."""
        share = 1.0
        for axis in self.cut:
            n, size, halo = self.tile[axis], self.volume.whole[axis], self.halo(steps)[axis]
            ends = (-halo, size + halo) if self._wraps else (0, size)
            share *= sum(min(ends[1], at + n + halo) - max(ends[0], at - halo) for at in range(0, size, n))
            share /= size
        return share

    @property
    def _wraps(self) -> bool:
        return self.volume.rule.padding == "circular"

    @property
    def largest(self) -> tuple[int, ...]:
        """Cells per axis of the largest tile with the cells around it."""
        cells = zip(self.tile, self.volume.whole, self.halo(self.steps_per_pass), strict=True)
        around = ((n, n + (1 if size <= 2 * n and not self._wraps else 2) * halo, size) for n, size, halo in cells)
        return tuple(n if n == size else box if self._wraps else min(size, box) for n, box, size in around)

    @property
    def scratch(self) -> int:
        """States beside source and out."""
        return min(len(self.counts) - 1, 2 if self.volume.written_last else 1) if self.counts else 0

    @property
    def device_bytes(self) -> int:
        """Memory of the device that runs tiles."""
        volume, box = self.volume, self.largest
        copied = volume.on_disk or volume.copied or volume.device.type != "cpu"
        held = 3 if self.cut else int(copied)  # this, the next, the last result
        cells = volume.shape[0] * math.prod(box)
        options = {"backend": volume.backend, "dtype": volume.dtype}
        shape = (max(1, volume.shape[0]), volume.shape[1], *box)
        running = rollout_bytes(volume.rule, shape, self.steps_per_pass, **options)  # type: ignore[arg-type]
        masks = cells * self.steps_per_pass if volume.rule.fire_rate < 1.0 else 0
        measures = self.measures and volume.rule.norm in MEASURED_NORMS and volume.backend != "cpu"
        measured = 2 * SWEEP_BYTES if measures else 0
        on_host = _THREADS * bool(self.cut) + self.kept if volume.device.type == "cpu" else 0
        return held * volume.state(box) + max(running + masks, measured) + on_host

    @property
    def kept(self) -> int:
        """Bytes of whole states that are to be taken in memory."""
        return self.volume.own + (0 if self.volume.on_disk else self.scratch * self.volume.state(self.volume.whole))

    @property
    def host_bytes(self) -> int:
        """Memory of the host for tiles on their way to and from a GPU."""
        return 0 if self.volume.device.type == "cpu" else 3 * self.volume.state(self.largest) + self.kept

    @property
    def traffic(self) -> int:
        """Bytes of states that are read and written."""
        state, total = self.volume.state(self.volume.whole), 0.0
        for steps in set(self.counts):
            total += self.counts.count(steps) * state * (1 + self._covered(steps) * (2 if self.measures else 1))
        return int(total)

    @property
    def seconds(self) -> float:
        """Roughly how long it takes: for comparing plans."""
        volume = self.volume
        widths = (volume.rule.perception_size, *volume.rule.hidden, volume.rule.hi - volume.rule.lo)
        products = sum(a * b for a, b in itertools.pairwise(widths)) * volume.rule.fire_rate
        work = 2 * products * volume.shape[0] * math.prod(volume.whole)
        run = volume.dtype.itemsize * math.prod(self.largest[max(self.cut, default=0) :])  # bytes that lie together
        bandwidth = _DISK if volume.on_disk else _MEMORY
        return volume.steps * (1 + self.redundant) * work / _FLOPS + self.traffic * (1 + _PAGE / run) / bandwidth

    def __str__(self) -> str:
        volume = self.volume
        state, passes = size_text(volume.state(volume.whole)), [count for count in self.counts if count]
        halo = sizes_text(self.halo(self.steps_per_pass))
        kept = f"{self.scratch} scratch of {state} {'on disk' if volume.on_disk else 'in memory'}"
        lines = (
            f"{sizes_text(volume.whole)} cells, {volume.shape[1]} channels, batch {volume.shape[0]}: {state} a state",
            f"{len(self.cores)} tiles of {sizes_text(self.tile)} cells on {volume.backend}",
            f"{len(passes)} passes of {', '.join(map(str, passes))} steps, halo {halo}",
            f"{100 * self.redundant:.0f} % redundant work, {size_text(self.traffic)} read and written, {kept}",
            f"{size_text(self.device_bytes)} of memory on {volume.device}"
            + (f", {size_text(self.host_bytes)} on the host" if self.host_bytes else ""),
        )
        return "\n".join(lines)


def sizes_text(sizes: Sequence[int]) -> str:
    """Cells per axis."""
    return " x ".join(map(str, sizes))
