"""What was measured once must hold in every step and on every grid: the same operations, as far as Python decides."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from ncafast.acceleration.assemble import Match
from ncafast.acceleration.double import Double, double_copy
from ncafast.acceleration.entry import Rest
from ncafast.acceleration.errors import NotAccelerated, at_exception
from ncafast.acceleration.extra import Extra
from ncafast.acceleration.given import doubled
from ncafast.acceleration.graph import VIEWS
from ncafast.acceleration.sample import Graphs, Sample

_PRODUCTS = {"addmm": ("mm", "add"), "bmm": ("mm",)}


class _Operations(TorchDispatchMode):
    """The operations that a call runs, on demand with all their arguments that are not tensors."""

    def __init__(self, arguments: bool) -> None:
        super().__init__()
        self.arguments = arguments
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation."""
        if self.arguments:
            self.seen.append(f"{func} {tree_map(_shape, (args, kwargs))}")
        elif func.overloadpacket.__name__ not in VIEWS:  # a tensor of one row is contiguous where others are copied
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def check_loop(module: nn.Module, match: Match, rest: Rest, steps: int) -> None:
    """Check that `steps` steps of the user's method are the second one over and over after the first.

    The second one may differ from the first in views and in how its products are spelled, since PyTorch chooses that by
    the state's strides; that it computes the same is for `verify` to say.

    Raises:
        NotAccelerated: a later step does something else.
    """
    twin = double_copy(module)
    one, two, many = (_ran(module, twin, match, rest, count) for count in (1, 2, steps))
    body = len(two) - len(one)
    same = next((k for k, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), len(one))
    second = two[same : same + body]
    repeated = two[:same] + second * (steps - 1) + two[same + body :]
    if body <= 0 or not _kinds(second) <= _kinds(one) or many != repeated:
        raise NotAccelerated(f"in a loop of {steps} steps, later ones run other operations than the first two")
    match.checked_steps = steps


def for_other_numbers(module: nn.Module, match: Match, rest: Rest) -> Match | None:
    """The match for a call with other numbers, where only extra channels depend on them: the index of a step."""
    sample = match.sample.on(match.grid.batch, match.grid.sizes, match.sample.steps, doubled(rest))
    twin = double_copy(module)
    try:
        known, new = match.sample.traced(twin), sample.traced(twin)
        if match.extra is None:
            return match if known.operations() == new.operations() and match.results is None else None
        table = match.extra.table
        ran = (graph.operations(table.outside(graph, call)) for graph, call in ((known, match.sample), (new, sample)))
    except NotAccelerated:
        return None
    if next(ran) != next(ran) or match.results is not None:
        return None
    return replace(match, sample=sample, extra=Extra(sample, table, match.extra.groups, Graphs({sample.key: new})))


def check_size(module: nn.Module, match: Match, batch: int, sizes: tuple[int, ...]) -> None:
    """Check that on a grid of these sizes the user's method runs the same operations; nothing is computed.

    Raises:
        NotAccelerated: it does something else there.
    """
    twin = double_copy(module)
    small, large = (
        _operations(twin, match.sample.on(batch, grid, 1, match.sample.rest), fake=True)
        for grid in (match.grid.sizes, sizes)
    )
    if small != large:
        raise NotAccelerated(f"on {batch} grids of {list(sizes)} it runs other operations than on small ones")
    match.checked_sizes.add((batch, sizes))


def _ran(module: nn.Module, twin: nn.Module, match: Match, rest: Rest, steps: int) -> list[str]:
    """The operations of some steps. Where they see time, of those that do not only lead there."""
    if match.extra is not None and match.extra.sees_time:
        return match.extra.operations(module, steps, rest)
    return _operations(twin, match.sample.on(1, match.grid.sizes, steps, doubled(rest)))


def _operations(twin: nn.Module, sample: Sample, fake: bool = False) -> list[str]:
    like = next(iter(twin.parameters()))
    ran = _Operations(arguments=not fake)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) if fake else torch.no_grad(), torch.no_grad():
            x = sample.state(like)
            with ran, Double():
                sample.entry.call(twin, x, sample.steps, sample.rest)
    except NotAccelerated:
        raise
    except Exception as error:  # of the user's code, on a grid of other sizes
        raise NotAccelerated(f"on a grid of {list(sample.grid.sizes)} it fails: {at_exception(error)}") from error
    return ran.seen


def _kinds(operations: list[str]) -> Counter[str]:
    """How many there are of each operation: views do not count, addmm is mm and add, bmm is mm."""
    names = [operation.split()[0].split(".")[1] for operation in operations]
    spelled = (_PRODUCTS.get(name, (name,)) for name in names if name not in VIEWS)
    return Counter(name for parts in spelled for name in parts)


def _shape(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, Tensor) else value
