"""The tensors that a call has beside its state: conditions, embeddings, positions that the caller makes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ncafast.acceleration.entry import Example, Rest
from ncafast.acceleration.errors import NotAccelerated

Roles = tuple[tuple[int, ...], ...]  # for each tensor and axis: 0 the batch, 1.. an axis of space, -n a length of n


def tensors_in(rest: Rest) -> list[Tensor]:
    """All tensors in the other arguments, also those in lists and dicts."""
    return [leaf for leaf in pytree.tree_leaves(rest) if isinstance(leaf, Tensor)]


def with_tensors(rest: Rest, tensors: Sequence[Tensor]) -> Rest:
    """The other arguments with tensors in the place of theirs."""
    leaves, spec = pytree.tree_flatten(rest)
    others = iter(tensors)
    found: Rest = pytree.tree_unflatten([next(others) if isinstance(t, Tensor) else t for t in leaves], spec)
    return found


def without_tensors(rest: Rest) -> tuple[Any, ...]:
    """What of the other arguments must be the same for a match to hold, but for the tensors: comparable."""
    leaves, spec = pytree.tree_flatten(rest)
    return str(spec), *((type(t), t.dtype) if isinstance(t, Tensor) else (type(t), t) for t in leaves)


def roles_of(rest: Rest, batch: int, sizes: Sequence[int]) -> Roles:
    """Which axes of the tensors follow the state's batch and space: the first axis, and runs of the same lengths."""
    return tuple(_roles(tensor.shape, batch, tuple(sizes)) for tensor in tensors_in(rest))


def possible_roles(roles: Roles, rest: Rest) -> Iterator[Roles]:
    """`roles` and, since lengths may be equal by chance, those in which batch or space are plain lengths."""
    seen = set()
    for batch, space in product((True, False), repeat=2):
        found = tuple(
            tuple(
                role if role < 0 or (batch if role == 0 else space) else -size
                for role, size in zip(axes, tensor.shape, strict=True)
            )
            for axes, tensor in zip(roles, tensors_in(rest), strict=True)
        )
        if found not in seen:
            seen.add(found)
            yield found


def resized(tensors: Sequence[Tensor], roles: Roles, batch: int, sizes: Sequence[int]) -> list[Tensor]:
    """Tensors as they are for another batch and grid, filled with elements of their own."""
    found = []
    for tensor, axes in zip(tensors, roles, strict=True):
        shape = [batch if axis == 0 else sizes[axis - 1] if axis > 0 else -axis for axis in axes]
        if list(tensor.shape) != shape:
            picked = torch.arange(math.prod(shape), device=tensor.device).remainder(tensor.numel())
            tensor = tensor.detach().reshape(-1)[picked].reshape(shape)
        found.append(tensor)
    return found


def widened(tensors: Sequence[Tensor], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Tensors whose floating ones have a dtype."""
    return [t.to(dtype) if t.is_floating_point() else t for t in tensors]


def doubled(rest: Rest) -> Rest:
    """The other arguments with floating tensors in float64, and no gradients."""
    return with_tensors(rest, [t.detach() for t in widened(tensors_in(rest))])


def call_key(example: Example) -> Any:
    """Equal for calls that have the same other arguments, but for what is in their tensors."""
    axes: tuple[Roles, ...] = ()
    if example.x is not None and tensors_in(example.rest):
        batch, sizes = example.x.shape[0], (example.x.shape[2:], example.x.shape[1:-1])
        axes = tuple(roles_of(example.rest, batch, space) for space in sizes)
    return without_tensors(example.rest), axes


def other_numbers(rest: Rest, other: Rest) -> bool:
    """Whether arguments differ in nothing but numbers and what is in tensors."""
    (mine, spec), (theirs, same) = pytree.tree_flatten(rest), pytree.tree_flatten(other)
    pairs = zip(mine, theirs, strict=False)
    alike = (isinstance(a, (int, float, Tensor)) or a == b for a, b in pairs if type(a) is type(b))
    return bool(spec == same) and sum(alike) == len(mine)


def check_given(rest: Rest, roles: Roles, dtype: torch.dtype, batch: int, sizes: Sequence[int]) -> None:
    """Refuse tensors of another dtype than the state, or of another shape than those that were measured.

    Raises:
        NotAccelerated: there is one.
    """
    given = tensors_in(rest)
    for tensor, wanted in zip(given, resized(given, roles, batch, sizes), strict=True):
        if tensor.is_floating_point() and tensor.dim() and tensor.dtype is not dtype:
            raise NotAccelerated(f"an argument is of {tensor.dtype}, the state of {dtype}")
        if tensor.shape != wanted.shape:
            raise NotAccelerated(f"an argument has shape {list(tensor.shape)}, where {list(wanted.shape)} was expected")


def _roles(shape: torch.Size, batch: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    roles = [-size for size in shape]
    start = 0
    if len(shape) and shape[0] == batch:
        roles[0], start = 0, 1
    for axis in range(start, len(shape) - len(sizes) + 1):
        if tuple(shape[axis : axis + len(sizes)]) == sizes:
            roles[axis : axis + len(sizes)] = range(1, len(sizes) + 1)
            break
    return tuple(roles)
