"""A rollout on a grid that several ranks hold, each a slab of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from ncafast.rule import Rule
from ncafast.trace import Memory, Options, trace_at_once
from ncafast.volume.boxes import Box
from ncafast.volume.domain import Domain, Talk, domain_of
from ncafast.volume.halo import exchange, spans, with_halo
from ncafast.volume.masks import fire_masks
from ncafast.volume.measured import Measured, Plain
from ncafast.volume.moments import cells_of_set
from ncafast.volume.part import extra_of
from ncafast.volume.reach import needs_whole_grid, reach
from ncafast.volume.slab_call import Agreed, Wanted, agreed

REDUNDANT = 0.25  # of the smallest slab's work may be steps of halo cells, which its neighbours do too


def rollout_sharded(
    x_local: Tensor,  # [B, C, *S], but along `dim` this rank's slab
    rule: Rule,
    params: Mapping[str, Tensor],
    steps: int,
    *,
    mesh: DeviceMesh | None = None,
    group: dist.ProcessGroup | None = None,
    axis: str = "domain",
    dim: int = 2,
    seed: int | Tensor | None = None,
    first_step: int = 0,
    first_sample: int | None = None,
    extra: Tensor | None = None,
    steps_per_exchange: int | None = None,
    memory: Memory = "states",
    backend: str | None = None,
) -> Tensor:
    """`ncafast.rollout` on a grid that is cut along one axis into slabs, one per rank, in the order of the ranks.

    All ranks call it together. Masks are those of one device bit for bit, numbers differ by rounding. Differentiable in
    x_local, every parameter and extra, for a loss that is the sum of the ranks' losses: compute each rank's from its
    slab, divide a mean by the cells of the whole grid, and call backward() on every rank. Gradients of parameters, and
    of extra channels that are equal along `dim`, are summed over the ranks within backward, so that every rank has the
    whole one; those of x_local and of other extra channels are the slab's own. DDP and FSDP belong on another axis of
    the mesh.

    Args:
        x_local: this rank's slab [B, C, *S] of the state. Slabs may differ in size along `dim`, and in nothing else.
        rule: what one step does.
        params: tensors by name, equal on all ranks.
        steps: number of steps.
        mesh: ranks by axis; those along `axis` share the grid.
        group: in place of a mesh, the ranks that share the grid.
        axis: the mesh's axis.
        dim: axis of x_local that the grid is cut along, 2 or more.
        seed: as in `ncafast.rollout`, equal on all ranks; None draws one on the first rank of the grid for all.
        first_step: absolute index of the first step.
        first_sample: absolute index of the first sample. None: B times the index of this grid among those of the mesh,
            so that grids of one batch have masks of their own.
        extra: the rule's extra channels, [B or 1, E, *(S or 1)] or with a leading axis of steps, of this rank's slab.
        steps_per_exchange: steps between two exchanges of halos, which are so many times wider. None: as many as keep
            the work done twice within a quarter of the smallest slab's. Rules that measure the whole grid in each step
            (norm "batch", "group" or "instance", or pooled channels) exchange once per step.
        memory: as in `ncafast.rollout`, for the steps between two exchanges; each exchange's state is always kept.
        backend: as in `ncafast.rollout`.

    Returns:
        This rank's slab of x_T, [B, C, *S].

    Raises:
        TypeError, ValueError: a wrong argument, on this rank or another; or what must be equal on all ranks is not.
        RuntimeError: another rank has died, or did not answer within the time limit of the process group; or the
            backend asked for cannot run this.
    """
    domain = domain_of(mesh, group, axis)
    options = Wanted(steps, dim, seed, first_step, first_sample, extra, steps_per_exchange, memory, backend)
    return run(x_local, rule, params, options, domain).out


def steps_between(rule: Rule, axis: int, sizes: Sequence[int]) -> int:
    """Steps between two exchanges, by count of cells: the smallest slab has 2 `reach` cells more for each of them.

    0 where there is nothing to exchange.
    """
    if needs_whole_grid(rule):
        return 1
    far = reach(rule)[axis]
    return max(1, int(REDUNDANT * min(sizes)) // (2 * far)) if far else 0


class Done(NamedTuple):
    """This rank's slab of x_T; under norm "batch" each step's batch statistics [T, 2, H], over so many cells."""

    out: Tensor
    stats: Tensor
    cells: int


def run(x: Tensor, rule: Rule, params: Mapping[str, Tensor], wanted: Wanted, domain: Domain) -> Done:
    """`rollout_sharded`, with the batch statistics."""
    common = agreed(x, rule, params, wanted, domain)
    wanted = common.wanted
    if domain.count == 1:
        alone = wanted.first_step, common.first_sample, common.seed, None, wanted.extra, None, wanted.memory
        done = trace_at_once(x, rule, params, wanted.steps, Options(*alone, wanted.backend, wanted.precision))
        return Done(done.out, done.stats, x.numel() // x.shape[1])
    return _Rollout(x, rule, params, common, domain).run()


class _Rollout:
    """One rollout on slabs: its layout, its communication, and the present state of this rank's slab."""

    def __init__(self, x: Tensor, rule: Rule, params: Mapping[str, Tensor], common: Agreed, domain: Domain) -> None:
        self.rule, self.wanted, self.sizes, self.seed = rule, common.wanted, common.sizes, common.seed
        self.first_sample = common.first_sample
        self.rank, self.axis = domain.rank, self.wanted.dim - 2
        self.whole = tuple(sum(self.sizes) if axis == self.axis else n for axis, n in enumerate(x.shape[2:]))
        self.wraps, self.reach = rule.padding == "circular", reach(rule)[self.axis]
        self.per_exchange = self._per_exchange()
        extra = [] if self.wanted.extra is None else [self.wanted.extra]
        names = list(rule.param_shapes())
        shared = [params[name] for name in names] + ([] if common.extra_cut else extra)
        self.talk = Talk(domain, shared, [x, *(extra if common.extra_cut else [])])
        self.params = dict(zip(names, self.talk.shared, strict=False))
        self.x = self.talk.own[0]
        self.extra, self.extra_start = self._extra(common.extra_cut)

    def run(self) -> Done:
        """All steps."""
        measured = Measured(self.rule, self.params, self.x.shape[0], self.whole, self.talk.total, self.talk.largest)
        stats = []
        for start in range(0, self.wanted.steps, self.per_exchange):
            plain = self._steps(start, min(self.per_exchange, self.wanted.steps - start), measured)
            stats += [] if plain.stats is None else [plain.stats]
        found = torch.stack(stats) if stats else self.x.new_empty(0, 2, sum(self.rule.hidden))
        cells = cells_of_set(self.rule, self.x.shape[0], self.whole)
        return Done(self.x.contiguous() if self.wanted.steps else self.x.clone(), found, cells)

    def _per_exchange(self) -> int:
        if self.wanted.steps_per_exchange is not None and not needs_whole_grid(self.rule):
            return self.wanted.steps_per_exchange
        return steps_between(self.rule, self.axis, self.sizes) or max(1, self.wanted.steps)

    def _extra(self, cut: bool) -> tuple[Tensor | None, int]:
        """Extra channels with the widest halo that a step needs, and the coordinate of their first cell."""
        extra = self.wanted.extra
        if extra is None:
            return None, 0
        if not cut:
            return self.talk.shared[-1], 0
        halo = self.reach * min(self.per_exchange, self.wanted.steps)
        self.talk.doing = "exchange of extra channels"
        dim = self.wanted.dim + extra.dim() - self.x.dim()
        extra = exchange(self.talk.own[1], halo, dim, self.talk, self.wraps, self.sizes)
        return extra, self._box(halo).start[self.axis]

    def _steps(self, start: int, count: int, measured: Measured) -> Plain:
        """`count` steps from one exchange on."""
        wanted, step = self.wanted, self.wanted.first_step + start
        self.talk.doing = f"step {step}"
        box = self._box(count * self.reach)
        x = exchange(self.x, count * self.reach, wanted.dim, self.talk, self.wraps, self.sizes)

        def parts(halo: Sequence[int]) -> Iterator[tuple[Tensor, Box, Box]]:
            part = self._box(halo[self.axis])
            yield x[part.within(box)], self._in_extra(part), self._in_extra(self._box(0))

        extra = self.extra
        if extra is not None and extra.dim() > x.dim():
            extra = extra[start : start + count] if count > 1 else extra[start]
        plain = measured.step(parts, extra)
        masks = fire_masks(
            self.rule, box, self.whole, x.shape[0], count, self.seed, first_step=step, first_sample=self.first_sample
        )
        here = None if plain.extra is None else extra_of(plain.extra, self._in_extra(box))
        options = Options(
            step, self.first_sample, self.seed, masks, here, None, wanted.memory, wanted.backend, wanted.precision
        )
        self.x = trace_at_once(x, plain.rule, plain.params, count, options).out[self._box(0).within(box)]
        return plain

    def _box(self, halo: int) -> Box:
        """This rank's slab with a halo, in the grid's coordinates."""
        start, stop = [0] * len(self.whole), list(self.whole)
        start[self.axis], stop[self.axis] = with_halo(spans(self.sizes), halo, self.wraps)[self.rank]
        return Box(tuple(start), tuple(stop))

    def _in_extra(self, box: Box) -> Box:
        """The box in coordinates of the extra channels at hand."""
        moved = (tuple(at - self.extra_start * (axis == self.axis) for axis, at in enumerate(corner)) for corner in box)
        return Box(*moved)
