"""The passes over a volume: each runs a few steps of every tile, from one array into another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from torch import Tensor

from ncafast.half import widened
from ncafast.utils.progress import Bar
from ncafast.volume.array import Array
from ncafast.volume.boxes import Box
from ncafast.volume.job import Job
from ncafast.volume.measured import Measured, Plain
from ncafast.volume.part import steps_of_part
from ncafast.volume.plan import SWEEP_BYTES, PassPlan
from ncafast.volume.transfer import Transfer


class Passes(AbstractContextManager["Passes"]):
    """Runs a plan. Scratch arrays are freed at the end, whatever happens.

    Args:
        job: what is run.
        plan: how.
        target: where the result goes.
    """

    def __init__(self, job: Job, plan: PassPlan, target: Array) -> None:
        self.job, self.plan, self.target = job, plan, target
        self.transfer = Transfer(job.volume.device)
        self.scratch: list[Array] = []
        params = {name: widened(p) for name, p in job.params.items()}
        self.measured = Measured(job.volume.rule, params, job.volume.shape[0], job.volume.whole)

    def __exit__(self, *error: object) -> None:
        self.transfer.__exit__(*error)
        for array in self.scratch:
            array.close()

    def run(self, progress: bool) -> None:
        """All passes."""
        self.scratch = [self.target.scratch() for _ in range(self.plan.scratch)]
        state, done = self.job.source, 0
        with Bar(self.job.volume.steps * len(self.plan.cores), progress) as bar:
            for count, to in zip(self.plan.counts, self._targets(), strict=True):
                bar.describe(f"steps {done} to {done + count}")
                self._pass(state, to, done, count, bar)
                state, done = to, done + count
        self.target.flush()

    def _targets(self) -> list[Array]:
        """Where each pass writes. An out that is source or cannot be read is written last only, another one takes turns
        with scratch."""
        passes = len(self.plan.counts)
        turns = self.scratch if self.job.volume.written_last else [self.target, *self.scratch]
        back = [turns[(passes - 1 - index) % len(turns)] for index in range(passes - 1)] if turns else []
        return [*back, self.target] if passes else []

    def _pass(self, state: Array, to: Array, done: int, count: int, bar: Bar) -> None:
        plain = self._plain(state, done, count)
        halo = self.plan.halo(count)
        boxes = [self.plan.box(core, halo) for core in self.plan.cores]
        arriving = self.transfer.boxes(state, boxes)
        for core, box in zip(self.plan.cores, boxes, strict=True):
            # The tile is in no variable here, which would hold it while the one after the next is read.
            self.transfer.write(to, core, self._computed(next(arriving), box, core, plain, done, count))
            bar.advance({}, count)
        self.transfer.finish()

    def _computed(self, x: Tensor, box: Box, core: Box, plain: Plain, done: int, count: int) -> Tensor:
        if count == 0:
            return x[core.within(box)]
        job = self.job
        return steps_of_part(
            x, box, core, job.volume.whole, plain.rule, plain.params, count, job.seed,
            first_step=job.first_step + done, first_sample=job.first_sample, extra=plain.extra, backend=job.backend,
        )  # fmt: skip

    def _plain(self, state: Array, done: int, count: int) -> Plain:
        """What a tile does in this pass; where each step measures the whole volume, once that is done."""
        job, extra = self.job, self.job.extra
        changes = extra is not None and extra.dim() > len(job.volume.shape)
        if not self.plan.measures or count == 0:
            of_pass = extra[done : done + count] if extra is not None and changes else extra
            return Plain(job.volume.rule, job.params, of_pass)
        of_step = extra[done] if extra is not None and changes else extra
        return self.measured.step(lambda halo: self._parts(state, halo), None if of_step is None else widened(of_step))

    def _parts(self, state: Array, halo: Sequence[int]) -> Iterator[tuple[Tensor, Box, Box]]:
        boxes = [self.plan.box(core, halo) for core in self.plan.cores]
        for core, box, x in zip(self.plan.cores, boxes, self.transfer.boxes(state, boxes), strict=True):
            for slab in self._slabs(core, box):
                around = _around(slab, box, halo)
                yield widened(x[around.within(box)]), around, slab

    def _slabs(self, core: Box, box: Box) -> Iterator[Box]:
        """A tile in parts along the first axis that is cut, so that PyTorch's perception of each is of some size."""
        axis, volume = self.plan.cut[0], self.job.volume
        cells = core.size[axis]
        if volume.backend != "cpu":
            of_cell = 16 * volume.shape[0] * volume.rule.perception_size  # four float32 numbers per channel
            row = of_cell * math.prod(box.size) // box.size[axis]
            cells = max(1, min(cells, SWEEP_BYTES // row))
        for start in range(core.start[axis], core.stop[axis], cells):
            stop = min(start + cells, core.stop[axis])
            yield Box(_with(core.start, axis, start), _with(core.stop, axis, stop))


def _around(core: Box, box: Box, halo: Sequence[int]) -> Box:
    """A part of a tile with the cells around it, as far as the tile's own box goes."""
    start = (max(lo, at - cells) for lo, at, cells in zip(box.start, core.start, halo, strict=True))
    stop = (min(hi, at + cells) for hi, at, cells in zip(box.stop, core.stop, halo, strict=True))
    return Box(tuple(start), tuple(stop))


def _with(values: tuple[int, ...], axis: int, value: int) -> tuple[int, ...]:
    return (*values[:axis], value, *values[axis + 1 :])
