"""What the first layer sees beside the state: positions, time codes, conditions. The user's own graph evaluates them.

A rule has extra channels for them. They are evaluated for each grid size, number of steps and call, on the graph of as
little as they depend on: one step or all, one cell or all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ncafast.acceleration.entry import Rest
from ncafast.acceleration.given import tensors_in
from ncafast.acceleration.graph import StepGraph, named_tensors
from ncafast.acceleration.layers import Layers, pointwise_layers
from ncafast.acceleration.sample import Graphs, Sample
from ncafast.acceleration.seen import NOTHING, Seen
from ncafast.acceleration.table import Table

_REMEMBERED = 64  # values that depend on no tensor


class Group(NamedTuple):
    """Rows that depend on the same."""

    rows: list[int]
    per_step: bool
    uniform: bool  # the same in all cells, and for all grids
    shared: bool  # by all samples, and for all batches


@dataclass
class Extra:
    """The extra channels of a rule, from the user's code."""

    sample: Sample  # that was measured
    table: Table
    groups: list[Group]
    graphs: Graphs
    _constant: dict[Any, Tensor] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> list[int]:
        """Rows of the table, in the order of the rule's extra channels."""
        return [row for group in self.groups for row in group.rows]

    @property
    def sees_time(self) -> bool:
        """Whether some of them change from step to step."""
        return any(group.per_step for group in self.groups)

    def operations(self, module: nn.Module, steps: int, rest: Rest) -> list[str]:
        """What some steps run, but for what only leads to these channels."""
        sample = self.sample.on(self.sample.grid.batch, self.sample.grid.sizes, steps, rest)
        graph = self.graphs.of(module, sample)
        return graph.operations(self.table.outside(graph, sample))

    def values(self, module: nn.Module, x: Tensor, steps: int, rest: Rest) -> Tensor:
        """[B or 1, E, *(S or 1)] for a state [B, C, *S] and a number of steps, or [T, ...]; differentiable."""
        found = [self._group(group, module, x, steps, rest) for group in self.groups]
        if len(found) == 1:
            return found[0]
        full, channels = max(t.dim() for t in found), 1 - x.dim()
        found = [t if t.dim() == full else t[None] for t in found]
        shape = list(torch.broadcast_shapes(*(t.select(channels, 0).shape for t in found)))
        shape.insert(full + channels, -1)
        return torch.cat([t.expand(shape) for t in found], channels)

    def _group(self, group: Group, module: nn.Module, x: Tensor, steps: int, rest: Rest) -> Tensor:
        if group.per_step and steps == 0:
            return x.new_zeros((0, 1, len(group.rows), *[1] * (x.dim() - 2)))
        batch = self.sample.grid.batch if group.shared else x.shape[0]
        sizes = self.sample.grid.sizes if group.uniform else tuple(x.shape[2:])
        sample = self.sample.on(batch, sizes, steps if group.per_step else 1, rest)
        graph = self.graphs.of(module, sample)
        key = (sample.key, tuple(group.rows), x.dtype, x.device)
        if key in self._constant:
            return self._constant[key]
        given = [t.to(x.dtype) if t.is_floating_point() and not t.dim() else t for t in tensors_in(sample.rest)]
        tensors = [*named_tensors(module).values(), *given]
        cut: tuple[Any, ...] = (slice(1 if group.shared else None), group.rows)
        cut = (*cut, *(slice(1 if group.uniform else None) for _ in sizes))
        constant = self.table.is_constant(graph, sample)
        with torch.inference_mode(
            torch.is_inference_mode_enabled() and not constant
        ):  # a later call may need gradients
            parts = [table[cut] for table in self.table.steps(graph, sample, tensors, x.dtype)]
            value = torch.stack(parts) if group.per_step else parts[0]
        if constant:
            if len(self._constant) >= _REMEMBERED:
                self._constant.clear()
            self._constant[key] = value
        return value


def find_extra(twin: nn.Module, graph: StepGraph, layers: Layers, seen: Seen, sample: Sample) -> Extra | None:
    """Which rows of the first layer's input are not state, and what they depend on.

    Args:
        twin: a copy of the user's module in float64.
        graph: one step.
        layers: its layers.
        seen: what the first layer sees.
        sample: what the graph was traced with.
    """
    blind, added = ~seen.hit.any(1), bool(layers.hidden[0].conditions)
    units = graph.ancestors(layers.hidden[0].node)
    varies = any(graph.varies(node) for node in units)
    constant = bool((_same(seen.base, range(2, seen.base.dim())) & _same(seen.base, [0])).all())
    if constant and not (bool(blind.any()) or varies or added):
        return None
    table = Table(seen, len(pointwise_layers(graph)), layers)
    here = _tables(table, twin, sample)[0]
    there = _tables(table, twin, sample.elsewhere())[0]
    cells, samples = (_same(here, axes) & _same(there, axes) for axes in (range(2, here.dim()), [0]))
    corner: tuple[Any, ...] = (0, slice(None), *[0] * len(sample.grid.sizes))
    by_size = (here[corner] - there[corner]).abs() > NOTHING
    per_step = torch.zeros_like(cells)
    if sample.entry.steps is not None:
        for later in _tables(table, twin, sample.on(sample.grid.batch, sample.grid.sizes, 3, sample.rest)):
            per_step |= ~_same(torch.cat([here - later, 0 * here]), [0])
    wanted = torch.ones_like(cells)  # also all that is added to units
    wanted[: len(blind)] = blind | (~(cells & samples) | per_step | by_size)[: len(blind)]
    if table.mixes(graph):
        wanted[: len(blind)] |= ~_same(torch.cat([here, 0 * here]), [0])[: len(blind)]
    uniform = cells & (~by_size | varies) & (not any(role > 0 for axes in sample.roles for role in axes))
    table.stub = bool(blind[wanted[: len(blind)]].all())
    groups: dict[tuple[bool, bool, bool], list[int]] = {}
    for row in wanted.nonzero().flatten().tolist():
        flags = (bool(per_step[row]), bool(uniform[row]), bool(samples[row]) and not varies)
        groups.setdefault(flags, []).append(row)
    if not groups:
        return None
    return Extra(sample, table, [Group(rows, *flags) for flags, rows in groups.items()], Graphs({sample.key: graph}))


def _tables(table: Table, twin: nn.Module, sample: Sample) -> list[Tensor]:
    tensors = [t.detach() for t in (*named_tensors(twin).values(), *tensors_in(sample.rest))]
    return list(table.steps(sample.traced(twin), sample, tensors, torch.float64))


def _same(table: Tensor, axes: Any) -> Tensor:  # [B, P, ...] -> [P]
    """Rows that do not change along those axes."""
    axes = list(axes)
    spread = table.amax(axes, keepdim=True) - table.amin(axes, keepdim=True)
    return spread.transpose(0, 1).flatten(1).amax(1) < NOTHING
