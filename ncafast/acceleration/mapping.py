"""A rule's parameters from the module's present ones, differentiable: most are the same numbers in another order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Compute = Callable[[Sequence[Tensor]], dict[str, Tensor]]  # the module's tensors -> the rule's


@dataclass
class _Gather:
    """A tensor whose elements are elements of the module's tensors, or constants."""

    sources: list[int]  # which tensors
    index: Tensor  # into their elements, one after the other, and the constants behind them
    constants: Tensor
    shape: torch.Size
    whole: bool  # one source, in its own order

    def __call__(self, tensors: Sequence[Tensor]) -> Tensor:
        if self.whole:
            return tensors[self.sources[0]].reshape(self.shape)
        some = next((t for t in tensors if t.is_floating_point()), self.constants)
        parts = [tensors[k].reshape(-1) for k in self.sources]
        dtype = parts[0].dtype if parts else some.dtype
        parts.append(self.constants.to(some.device, dtype))
        self.index = self.index.to(some.device)
        return torch.cat(parts).index_select(0, self.index).reshape(self.shape)


def parameter_mapping(compute: Compute, tensors: Sequence[Tensor]) -> Compute:
    """`compute` itself, or where all that it does is to select and reorder elements, a quick way to the same.

    Whether it does is found by evaluating it on tensors whose elements are all different whole numbers, twice.

    Args:
        compute: the rule's tensors from the module's.
        tensors: the module's tensors; only shapes and dtypes matter.
    """
    starts, total = [], 0
    for tensor in tensors:
        starts.append(total)
        total += tensor.numel() if tensor.is_floating_point() else 0
    first = torch.arange(1, total + 1, dtype=torch.float64)
    second = first.roll(1) + 0.5
    found = []
    with torch.no_grad():
        for numbers in (first, second):
            found.append(compute(_filled(tensors, starts, numbers)))
    gathers = {}
    for name, value in found[0].items():
        gather = _gather(value, found[1][name], first, second, tensors, starts)
        if gather is None:
            return compute
        gathers[name] = gather
    return lambda tensors: {name: gather(tensors) for name, gather in gathers.items()}


def _filled(tensors: Sequence[Tensor], starts: list[int], numbers: Tensor) -> list[Tensor]:
    return [
        numbers[start : start + t.numel()].reshape(t.shape).to(t.device) if t.is_floating_point() else t
        for t, start in zip(tensors, starts, strict=True)
    ]


def _gather(
    a: Tensor, b: Tensor, first: Tensor, second: Tensor, tensors: Sequence[Tensor], starts: list[int]
) -> _Gather | None:
    """How a value follows from the numbers, if every element is one of them or a constant."""
    a, b, shape = a.detach().cpu().reshape(-1), b.detach().cpu().reshape(-1), a.shape
    place = (a.round().long() - 1).clamp(0, len(first) - 1)
    element = (first[place] == a) & (second[place] == b)
    constant = a == b
    if not bool((element | constant).all()):
        return None
    owners = torch.bucketize(place, torch.tensor(starts), right=True) - 1
    sources = sorted({int(k) for k in owners[element].unique()})
    index, before = torch.zeros_like(place), 0
    for k in sources:
        mine = element & (owners == k)
        index[mine] = place[mine] - starts[k] + before
        before += tensors[k].numel()
    constants = a[constant & ~element]
    index[constant & ~element] = torch.arange(len(constants)) + before
    whole = len(sources) == 1 and not len(constants) and torch.equal(index, torch.arange(before))
    return _Gather(sources, index, constants, shape, whole)
