"""A call of the user's method that is traced: the grid, the number of steps, and the other arguments."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ncafast.acceleration.aside import aside
from ncafast.acceleration.double import double_copy, unchanged
from ncafast.acceleration.entry import Entry, Rest
from ncafast.acceleration.given import Roles, resized, tensors_in, widened, with_tensors
from ncafast.acceleration.graph import StepGraph
from ncafast.acceleration.layout import Grid

_REMEMBERED = 64  # numbers of steps, grid sizes and batches, each with a graph


@dataclass(frozen=True)
class Sample:
    """What a graph is traced with."""

    entry: Entry
    rest: Rest
    roles: Roles
    grid: Grid
    steps: int = 1
    pick: int = 0  # which of the tensors that are returned is the state

    @property
    def key(self) -> Any:
        """Equal for calls that have the same graph."""
        return self.steps, self.grid, tuple((t.shape, t.is_floating_point() or t.dtype) for t in tensors_in(self.rest))

    def on(self, batch: int, sizes: tuple[int, ...], steps: int, rest: Rest) -> Sample:
        """The same for another batch, grid, number of steps and other arguments, whose tensors are resized."""
        given = resized(tensors_in(rest), self.roles, batch, sizes)
        grid = self.grid._replace(batch=batch, sizes=sizes)
        return replace(self, grid=grid, steps=steps, rest=with_tensors(rest, given))

    def elsewhere(self) -> Sample:
        """The same on a larger batch and grid."""
        return self.on(self.grid.batch + 1, tuple(size + 3 for size in self.grid.sizes), self.steps, self.rest)

    def state(self, like: Tensor) -> Tensor:
        """An empty state in float64."""
        shape = (self.grid.batch, self.grid.channels, *self.grid.sizes)
        return self.grid.outward(torch.zeros(shape, dtype=torch.float64, device=like.device))

    def traced(self, twin: nn.Module) -> StepGraph:
        """The graph of a copy in float64."""

        def run(module: nn.Module, x: Tensor, *given: Tensor) -> Any:
            return self.entry.call(module, x, self.steps, with_tensors(self.rest, given))

        given = [t.detach() for t in widened(tensors_in(self.rest))]
        with unchanged(twin):
            return StepGraph(twin, run, self.state(next(iter(twin.parameters()))), given, self.pick)


@dataclass
class Graphs:
    """Graphs of the user's code, each traced once."""

    found: dict[Any, StepGraph] = field(default_factory=dict, repr=False)

    def of(self, module: nn.Module, sample: Sample) -> StepGraph:
        """The graph of a call; the module stays as it is."""
        if sample.key not in self.found:
            if len(self.found) >= _REMEMBERED:
                self.found.clear()
            with aside(module):
                self.found[sample.key] = sample.traced(double_copy(module))
        return self.found[sample.key]
