"""The rule of one step once what it measures on the whole grid is known: cell by cell, the same on every part."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ncafast.backends.fusable import MEASURED_NORMS
from ncafast.rule import Rule
from ncafast.volume import moments
from ncafast.volume.boxes import Box
from ncafast.volume.part import extra_of

# parts(halo): the cells of each part in turn with so many cells around it: (x [B, C, *box], box, core).
Parts = Callable[[Sequence[int]], Iterator[tuple[Tensor, Box, Box]]]


@dataclass
class Plain:
    """What a step does after its measurements: a rule that measures nothing, with its parameters and extra channels.

    Attributes:
        stats: batch statistics [2, H], as `backends.plan.Outputs` has them; None under other norms.
    """

    rule: Rule
    params: Mapping[str, Tensor]
    extra: Tensor | None
    stats: Tensor | None = None


class Found(NamedTuple):
    """What a step reads of the whole grid: pooled channels [B, Q], and the perception's moments."""

    pooled: Tensor | None
    moments: moments.Moments | None


def plain(rule: Rule, params: Mapping[str, Tensor], found: Found, extra: Tensor | None) -> Plain:
    """A step that measures nothing, `extra` being its channels of the whole grid or of a part. Differentiable."""
    rule, extra = moments.with_pooled(rule, extra, found.pooled)
    if found.moments is None:
        return Plain(rule, params, extra)
    rule, params, stats = moments.folded(rule, params, found.moments)
    return Plain(rule, params, extra, stats)


class Measured:
    """Makes a `Plain` step after step. Differentiable in state, parameters and extra.

    Args:
        rule: what one step does.
        params: tensors by name.
        batch: number of samples.
        whole: cells of the grid per axis.
        total: adds a tensor over the processes that share the grid; the default is for one process.
        largest: the same for the largest values, which needs no gradient.
    """

    def __init__(
        self,
        rule: Rule,
        params: Mapping[str, Tensor],
        batch: int,
        whole: Sequence[int],
        total: Callable[[Tensor], Tensor] = lambda tensor: tensor,
        largest: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    ) -> None:
        self.rule, self.params, self.batch, self.whole = rule, params, batch, tuple(whole)
        self.total, self.largest = total, largest
        self.shift: Tensor | None = None

    def step(self, parts: Parts, extra: Tensor | None) -> Plain:
        """For the step from the state of these parts, `extra` being that step's channels of the whole grid."""
        return plain(self.rule, self.params, self.measure(parts, extra), extra)

    def measure(self, parts: Parts, extra: Tensor | None) -> Found:
        """What `plain` makes such a step of."""
        pooled = None if self.rule.pooled == "none" else self._pooled(parts)
        return Found(pooled, self._moments(parts, extra, pooled) if self.rule.norm in MEASURED_NORMS else None)

    def _pooled(self, parts: Parts) -> Tensor:
        found, dtype = None, torch.float32
        for x, box, core in parts((0,) * self.rule.ndim):
            part, dtype = moments.pooled_part(x[core.within(box)], self.rule), x.dtype
            found = part if found is None else moments.joined(self.rule, found, part)
        assert found is not None
        if self.rule.pooled == "max":
            return self._largest(found, parts)
        return (self.total(found) / math.prod(self.whole)).to(dtype)

    def _largest(self, found: Tensor, parts: Parts) -> Tensor:
        largest = self.largest(found.detach())
        if not found.requires_grad:
            return largest
        holders = torch.zeros(())
        for x, box, core in parts((0,) * self.rule.ndim):
            holders = holders + moments.holders(x[core.within(box)], self.rule, largest)
        return moments.shared_by(largest, self.total(holders))

    def _moments(self, parts: Parts, extra: Tensor | None, pooled: Tensor | None) -> moments.Moments:
        found = None
        filters = tuple(kernel // 2 * self.rule.has_filters for kernel in self.rule.kernel_size)
        for x, box, core in parts(filters):
            here = None if extra is None else extra_of(extra, box)
            rule, here = moments.with_pooled(self.rule, here, pooled)
            if self.shift is None:
                self.shift = self._agreed(moments.start_shift(x, rule, self.params, here))
            part = moments.sums(x, core.within(box), rule, self.params, here, self.shift)
            found = part if found is None else moments.Sums(*(a + b for a, b in zip(found, part, strict=True)))
        assert found is not None and self.shift is not None
        first, second = (self.total(tensor) for tensor in found)
        cells = moments.cells_of_set(self.rule, self.batch, self.whole)
        measured = moments.moments(moments.Sums(first, second), self.shift, cells)
        self.shift = moments.rounded(measured.mean)
        return measured

    def _agreed(self, shift: Tensor) -> Tensor:
        """One shift for all processes: the mean of theirs."""
        with torch.no_grad():
            return moments.rounded(self.total(shift) / self.total(torch.ones_like(shift[:1, :1])))
