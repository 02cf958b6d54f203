"""Passes of a few steps each over the tiles of a grid, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ncafast.perception import perception
from ncafast.rule import Rule
from ncafast.trace import Options, Trace
from ncafast.volume import boxes, moments
from ncafast.volume.boxes import Box
from ncafast.volume.gradients import Gradients, Leaves
from ncafast.volume.measured import Found, Measured, plain
from ncafast.volume.part import extra_of, trace_of_box
from ncafast.volume.reach import needs_whole_grid, reach

Params = Mapping[str, Tensor]


@dataclass(frozen=True)
class TrainingPasses:
    """How a rollout is cut in space and in steps, and its options.

    Attributes:
        rule: what one step does.
        steps: number of steps T.
        per_pass: steps of a pass, which start from a state that is kept.
        whole: cells of the grid per axis.
        tiles: boxes that cover it; a single one is the whole grid.
        sweep: the same, and so small that perceptions of one in plain PyTorch fit into memory.
        seed: [1] int64, on the device that computes.
        options: all others; `memory` is what backward keeps of the steps of one tile.
    """

    rule: Rule
    steps: int
    per_pass: int
    whole: tuple[int, ...]
    tiles: Sequence[Box]
    sweep: Sequence[Box]
    seed: Tensor
    options: Options

    @property
    def measures(self) -> bool:
        """Whether numbers of the whole grid are collected from tiles; a single tile has them in its own rollout."""
        return len(self.tiles) > 1 and needs_whole_grid(self.rule)

    @property
    def starts(self) -> range:
        """First step of each pass."""
        return range(0, self.steps, self.per_pass)

    def measured(self, params: Params, batch: int) -> Measured:
        """What collects those numbers, pass after pass."""
        return Measured(self.rule, params, batch, self.whole)

    def forward(
        self,
        start: int,
        x: Tensor,  # [B, C, *S] the state before the pass
        params: Params,
        extra: Tensor | None,
        out: Tensor,  # [B, C, *S] written: the state after it
        measured: Measured,
        release: Callable[[], None],
    ) -> tuple[Found, Tensor]:
        """One pass. Returns what was measured for it, and batch statistics [K or 0, 2, sum H].

        Args:
            start: first step of the pass, counted from that of the rollout.
            release: called after each tile, to give up memory that can be read again.
        """
        found, here, stats = Found(None, None), self.extra_at(start, extra), None
        if self.measures:
            found = measured.measure(lambda halo: self.parts(x, halo, release, self.sweep), here)
        for part, box, core in self.parts(x, self._halo(start), release):
            step = plain(self.rule, params, found, self._extra_of(here, box))
            done = self._run(start, part, box, step.rule, step.params, step.extra)
            out[core.place] = done.out[core.within(box)]
            stats = done.stats if step.stats is None else step.stats[None]
        assert stats is not None
        return found, stats

    def backward(
        self,
        start: int,
        x: Tensor,  # [B, C, *S] the state before the pass
        params: Params,
        extra: Tensor | None,
        found: Found,
        grad: Tensor,  # [B, C, *S] dL / d(state after it)
        total: Gradients,  # to which the pass's are added; its `x` is dL / d(state before it)
        release: Callable[[], None],
    ) -> None:
        """The backward of one pass."""
        here = self.extra_at(start, extra)
        total = total._replace(extra=self.extra_at(start, total.extra))
        shared = Leaves.of(params, total.params, found)
        for part, box, core in self.parts(x, self._halo(start), release):
            with torch.enable_grad():
                leaves = shared.with_part(part, self._extra_of(here, box), total)
                step = plain(self.rule, leaves.params, leaves.found, leaves.extra)
                done = self._run(start, leaves.x, box, step.rule, step.params, step.extra)
                out = done.out[core.within(box)]
            leaves.backward([out], [grad[core.place].to(out)], box, total)
        if found.moments is not None:
            self._moments_backward(x, here, shared, total, release)
        if found.pooled is not None and total.x is not None:
            self._pooled_backward(x, found.pooled, shared.sums["pooled"], total.x, release)

    def _moments_backward(
        self, x: Tensor, extra: Tensor | None, shared: Leaves, total: Gradients, release: Callable[[], None]
    ) -> None:
        """From those of the mean m and covariance G of N perceptions y: m = sum y / N, G = sum (y - m)(y - m)^T / N.

        So dL/dy = (dL/dm + (dL/dG + dL/dG^T)(y - m)) / N. That m is in G too adds nothing: y - m is 0 on the average.
        """
        assert shared.found.moments is not None
        mean = shared.found.moments.mean.detach()[..., None]
        cells = moments.cells_of_set(self.rule, x.shape[0], self.whole)
        linear = (shared.sums["covariance"] + shared.sums["covariance"].transpose(1, 2)) / cells
        constant = shared.sums["mean"][..., None] / cells
        filters = tuple(kernel // 2 for kernel in self.rule.kernel_size)
        for part, box, core in self.parts(x, filters, release, self.sweep):
            with torch.enable_grad():
                leaves = shared.with_part(part, self._extra_of(extra, box), total)
                rule, more = moments.with_pooled(self.rule, leaves.extra, leaves.found.pooled)
                seen = perception(leaves.x, rule, leaves.params, extra=more)
            if not seen.requires_grad:  # fixed filters of a state that needs no gradient
                return
            own = seen.detach()[core.within(box)]
            grad = torch.zeros_like(seen)
            passed = linear.to(seen) @ (own.flatten(2) - mean.to(seen)) + constant.to(seen)
            grad[core.within(box)] = passed.reshape(own.shape)
            leaves.backward([seen], [grad], box, total)

    def _pooled_backward(
        self, x: Tensor, pooled: Tensor, grad: Tensor, total: Tensor, release: Callable[[], None]
    ) -> None:
        """A mean's gradient goes to all cells alike, a maximum's to those that hold it."""
        lo, hi = self.rule.pooled_range
        none = (0,) * self.rule.ndim
        values, share = (tensor.reshape(*pooled.shape, *[1] * self.rule.ndim) for tensor in (pooled, grad))

        def holds(part: Tensor) -> Tensor:
            own = part[:, lo:hi]
            return own == values if self.rule.pooled == "max" else torch.ones_like(own, dtype=torch.bool)

        axes = tuple(range(2, x.dim()))
        holders = sum(holds(part).sum(axes, keepdim=True) for part, _, _ in self.parts(x, none, release))
        for part, box, _ in self.parts(x, none, release):
            boxes.add(total[:, lo:hi], box, holds(part) * (share / holders))

    def parts(
        self, x: Tensor, halo: Sequence[int], release: Callable[[], None], cores: Sequence[Box] = ()
    ) -> Iterator[tuple[Tensor, Box, Box]]:
        """Each tile with the cells around it, on the device that computes: (x [B, C, *box], box, its own box)."""
        for core in cores or self.tiles:
            box = boxes.grown(core, self.whole, halo, self.rule.padding == "circular")
            yield boxes.read(x, box).to(self.seed.device), box, core
            release()

    def extra_at(self, start: int, extra: Tensor | None) -> Tensor | None:
        """A view: extra channels of the pass that starts there, without an axis of steps where one step is measured."""
        if extra is None or extra.dim() == self.rule.ndim + 2:
            return extra
        return extra[start] if self.measures else extra[start : start + self.per_pass]

    def _extra_of(self, extra: Tensor | None, box: Box) -> Tensor | None:
        return None if extra is None else extra_of(extra, box).to(self.seed.device)

    def _halo(self, start: int) -> tuple[int, ...]:
        return tuple(self._count(start) * cells for cells in reach(self.rule))

    def _count(self, start: int) -> int:
        return min(self.per_pass, self.steps - start)

    def _run(self, start: int, x: Tensor, box: Box, rule: Rule, params: Params, extra: Tensor | None) -> Trace:
        first, count, masks = self.options.first_step + start, self._count(start), self.options.fire_mask
        if masks is not None:
            masks = boxes.read(masks[start : start + count], box).to(self.seed.device)
        options = self.options._replace(first_step=first, seed=self.seed, extra=extra, fire_mask=masks)
        return trace_of_box(x, box, self.whole, rule, params, count, options)
