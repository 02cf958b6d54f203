"""The sizes that Dynamo wrote into a graph as numbers, read as sizes of the state: the graph then takes other grids.

Whether a number is a height or a count of units is not written beside it. Readings are tried on a grid whose lengths
are large primes, where wrong ones do not fit; what is read is the same number on the user's own grid in any case.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Node

from ncafast.acceleration.errors import operation

PRIMES = (1009, 2003, 3001, 4001)  # of batch and space: no width of a layer is a multiple of one, or close to it
_NEAR = 16  # what padding may add to a length
_MOST = 4096  # readings of one node that are tried

_NEW = ("rand", "randn", "empty", "zeros", "ones", "full")
_NEW_LIKE = ("new_empty", "new_zeros", "new_ones", "new_full")
_VIEWS = ("view", "reshape")


class Size(NamedTuple):
    """scale * product of the state's lengths at `axes` + offset."""

    axes: tuple[int, ...] = ()
    scale: int = 1
    offset: int = 0

    def at(self, shape: Sequence[int]) -> int:
        """Its value for a state's shape."""
        return self.scale * math.prod(shape[axis] for axis in self.axes) + self.offset


class Sizes:
    """Reads numbers as sizes.

    Args:
        shape: of the user's state.
        channels: which of its axes are the channels, whose length is a number like others.
        turned: whether of two equal lengths the last axis is meant first.
    """

    def __init__(self, shape: Sequence[int], channels: int, turned: bool) -> None:
        self.shape, self.turned = tuple(shape), turned
        self.axes = [axis for axis in range(len(shape)) if axis != channels % len(shape)]
        primes = dict(zip(self.axes, PRIMES, strict=False))
        self.probe = tuple(primes.get(axis, length) for axis, length in enumerate(shape))

    def of(self, length: int) -> Size:
        """What a length on the grid of primes is."""
        axes, rest = [], length
        for axis in self.axes:
            while rest % self.probe[axis] == 0 and rest > 0:
                axes.append(axis)
                rest //= self.probe[axis]
        if axes:
            return Size(tuple(axes), rest)
        near = next((axis for axis in self.axes if abs(length - self.probe[axis]) <= _NEAR), None)
        return Size((), 1, length - 1) if near is None else Size((near,), 1, length - self.probe[near])

    def readings(self, node: Node, run: Callable[[list[int]], Tensor], before: Tensor) -> list[Size] | None:
        """How the numbers in `numbers(node)` are read, or None where no reading fits.

        Args:
            node: one that makes or views a tensor.
            run: the node with other numbers, on the grid of primes.
            before: its first tensor on that grid; one without dimensions, if it has none.
        """
        seen = [self.of(length) for length in before.shape]
        options = [self._options(value, seen) for value in numbers(node)]
        if math.prod(map(len, options)) > _MOST:
            return None
        for reading in sorted(itertools.product(*options), key=_composed):
            if not self._whole(node, reading):
                continue
            try:
                out = run([size.at(self.probe) for size in reading])
            except (RuntimeError, ValueError, TypeError):
                continue
            if operation(node) not in _VIEWS or _follows(self._prefixes(out.shape), self._prefixes(before.shape)):
                return list(reading)
        return None

    def _whole(self, node: Node, reading: Sequence[Size]) -> bool:
        """Whether a tensor that is not viewed has each axis of the grid once, or, if it is new, none at all."""
        if operation(node) in _VIEWS:
            return True
        axes = [axis for size in reading for axis in size.axes]
        once = len(axes) == len(set(axes))
        return once and (operation(node) == "expand" or not axes or set(axes).issuperset(self.axes[1:]))

    def _options(self, value: int, seen: list[Size]) -> list[Size]:
        """Sizes that have this value on the user's grid, likely ones first."""
        alone = [Size((axis,)) for axis in self.axes if self.shape[axis] == value]
        alone = alone[::-1] if self.turned else alone
        number = Size((), 1, value - 1)
        if value < 2:
            return [*alone, number]
        whole, scaled = list[Size](), list[Size]()
        for count in range(2, len(self.axes) + 1):
            whole += [Size(axes) for axes in itertools.permutations(self.axes, count)]
        for size in [*map(Size, zip(self.axes, strict=True)), *whole]:
            length = size.at(self.shape)
            scaled += [size._replace(scale=value // length)] if value % length == 0 else []
        whole = [size for size in whole if size.at(self.shape) == value]
        return list(dict.fromkeys([*alone, *self._flattened(value, seen), *whole, number, *scaled]))

    def _flattened(self, value: int, seen: list[Size]) -> Iterator[Size]:
        """Sizes of this value that some dimensions in a row have together."""
        for low, high in itertools.combinations(range(len(seen) + 1), 2):
            length = self.of(math.prod(size.at(self.probe) for size in seen[low:high]))
            if length.at(self.shape) == value:
                yield length

    def _prefixes(self, shape: Sequence[int]) -> dict[int, set[int]]:
        """The state's axes in the first dimensions of a shape, by how many they are."""
        axes = list(itertools.accumulate(([*self.of(length).axes] for length in shape), initial=[]))
        return {len(found): set(found) for found in axes}


def _follows(one: dict[int, set[int]], other: dict[int, set[int]]) -> bool:
    """Whether two shapes have the axes in the same order; within a flattened dimension it is not known."""
    return max(one) == max(other) and all(one[count] == other[count] for count in one.keys() & other.keys())


def _composed(reading: Sequence[Size]) -> int:
    """How many sizes are neither a number nor one length."""
    return sum(len(size.axes) > 1 or bool(size.axes and (size.scale != 1 or size.offset)) for size in reading)


def numbers(node: Node) -> list[int]:
    """The sizes that a node is given as numbers; empty for one that is given none."""
    return [value for _, value in _places(node)]


def with_numbers(node: Node, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A node's arguments with other sizes."""
    args, kwargs = list(node.args), dict(node.kwargs)
    for (place, _), value in zip(_places(node), values, strict=True):
        if isinstance(place[0], str):
            kwargs[place[0]] = _replaced(kwargs[place[0]], place[1], value)
        elif len(place) == 1:
            args[place[0]] = value
        else:
            args[place[0]] = _replaced(args[place[0]], place[1], value)
    return tuple(args), kwargs


def _replaced(values: Any, index: int, value: Any) -> list[Any]:
    return [*values[:index], value, *values[index + 1 :]]


def _places(node: Node) -> list[tuple[tuple[Any, ...], int]]:
    """(where, number) of each: the index of an argument, or that and the index in a list."""
    name = operation(node)
    if node.op not in ("call_function", "call_method") or name not in (*_NEW, *_NEW_LIKE, *_VIEWS, "expand"):
        return []
    skip = 0 if name in _NEW else 1
    lists: list[tuple[Any, Any]] = [*list(enumerate(node.args))[skip:], *node.kwargs.items()]
    if name in ("full", "new_full"):
        lists = lists[:1]
    found: list[tuple[tuple[Any, ...], int]] = []
    for place, value in lists:
        if isinstance(value, (list, tuple, torch.Size)):
            found += [((place, k), number) for k, number in enumerate(value) if _is_size(number)]
        elif _is_size(value) and not isinstance(place, str):
            found.append(((place,), value))
    return found


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
