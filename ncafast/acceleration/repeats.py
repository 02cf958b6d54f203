"""What was measured once must hold in every step and on every grid: the same operations, as far as Python decides."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ncafast.acceleration.assemble import Match
from ncafast.acceleration.double import Double, double_copy
from ncafast.acceleration.entry import Rest
from ncafast.acceleration.errors import NotAccelerated, at_exception
from ncafast.acceleration.extra import Extra
from ncafast.acceleration.given import doubled
from ncafast.acceleration.graph import VIEWS, factors, named_tensors
from ncafast.acceleration.sample import Graphs, Sample

_PRODUCTS = {"addmm": ("mm", "add"), "bmm": ("mm",)}


class _Operations(TorchDispatchMode):
    """The operations that a call runs, with their arguments: of tensors the shape, and whose memory of the module's it
    is.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._names = {tensor.untyped_storage().data_ptr(): name for name, tensor in named_tensors(module).items()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation."""
        self.seen.append(f"{func} {tree_map(self._written, (args, kwargs))}")
        return func(*args, **(kwargs or {}))

    def _written(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return self._names.get(value.untyped_storage().data_ptr()), tuple(value.shape)


class _Computed(TorchDispatchMode):
    """The operations that compute, with the numbers by which they change what they make of the state.

    Sizes are left out, and numbers of what does not depend on the state: coordinates of the cells come from them.
    """

    def __init__(self, state: Tensor) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._of_state = {id(state): state}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation."""
        out = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs))
        of_state = any(id(leaf) in self._of_state for leaf in leaves)
        if of_state:  # what is written into counts too
            self._of_state |= {id(t): t for t in (*tree_leaves(out), *leaves[:1]) if isinstance(t, Tensor)}
        name = func.overloadpacket.__name__
        if (constant := getattr(out, "constant", None)) is not None and constant.numel() == 1:
            self.seen.append(f"{func} {constant.item()}")
        elif name not in VIEWS:  # a tensor of one row is contiguous where others are copied
            self.seen.append(" ".join(map(str, [func, *(factors(func, args, kwargs or {}) if of_state else ())])))
        return out


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
    if body <= 0 or not _names(second) <= _names(one) or many != repeated:
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


def check_size(module: nn.Module, match: Match, batch: int, sizes: tuple[int, ...], gradients: bool = True) -> None:
    """Check that on so many grids of these sizes, with gradients on or off, the user's method runs the operations that
    it ran when the match was found; nothing is computed.

    Raises:
        NotAccelerated: it does something else there.
    """

    def ran(batch: int, sizes: tuple[int, ...], gradients: bool) -> list[str]:
        twin = double_copy(module)  # for each, since it may remember what it made for a grid
        twin.requires_grad_(False)  # gradient mode then decides nothing but what the user asks it
        return _computed(twin, match.sample.on(batch, sizes, 1, match.sample.rest), gradients)

    found, small = ran(match.grid.batch, match.grid.sizes, True), ran(batch, match.grid.sizes, gradients)
    large = ran(batch, sizes, gradients)
    if small != large or _kinds(found) != _kinds(small):
        where = f"with batch {batch}, a grid of {list(sizes)} and gradients {'on' if gradients else 'off'}"
        raise NotAccelerated(f"{where} it runs other operations than where it was looked at: {_other(found, large)}")
    match.checked_sizes.add((batch, sizes, gradients))


def _ran(module: nn.Module, twin: nn.Module, match: Match, rest: Rest, steps: int) -> list[str]:
    """The operations of some steps. Where they see time, of those that do not only lead there."""
    if match.extra is not None and match.extra.sees_time:
        return match.extra.operations(module, steps, rest)
    return _operations(twin, match.sample.on(1, match.grid.sizes, steps, doubled(rest)))


def _operations(twin: nn.Module, sample: Sample) -> list[str]:
    """All operations of a call."""
    with torch.no_grad():
        x = sample.state(next(iter(twin.parameters())))
        return _ran_on(twin, sample, x, _Operations(twin))


def _computed(twin: nn.Module, sample: Sample, gradients: bool) -> list[str]:
    """The operations of a call that compute, found without computing."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.set_grad_enabled(gradients):
        x = sample.state(next(iter(twin.parameters())))
        return _ran_on(twin, sample, x, _Computed(x))


def _ran_on(twin: nn.Module, sample: Sample, x: Tensor, ran: _Operations | _Computed) -> list[str]:
    try:
        with ran, Double():
            sample.entry.call(twin, x, sample.steps, sample.rest)
    except NotAccelerated:
        raise
    except Exception as error:  # of the user's code, on a grid of other sizes
        raise NotAccelerated(f"on a grid of {list(sample.grid.sizes)} it fails: {at_exception(error)}") from error
    return ran.seen


def _names(operations: list[str]) -> Counter[str]:
    """`_kinds` whatever their arguments."""
    return _kinds([operation.partition(" ")[0] for operation in operations])


def _kinds(operations: list[str]) -> Counter[str]:
    """How many there are of each operation with its arguments: views do not count, addmm is mm and add, bmm is mm."""
    found: Counter[str] = Counter()
    for namespace, name, numbers in map(_parts, operations):
        if name not in VIEWS and namespace != "prim":
            found.update(f"{part}{numbers}" for part in _PRODUCTS.get(name, (name,)))
    return found


def _parts(operation: str) -> tuple[str, str, str]:
    """Namespace and name of an operation, and what stands behind them."""
    full, _, rest = operation.partition(" ")
    namespace, name = full.split(".")[:2]
    return namespace, name, f" {rest}" if rest else ""


def _other(found: list[str], now: list[str]) -> str:
    """The first difference in words."""
    was, new = (next((_kinds(a) - _kinds(b)).elements(), None) for a, b in ((found, now), (now, found)))
    if was and new:
        return f"{new} instead of {was}"
    return f"also {new}" if new else f"no {was}" if was else "in another order"
