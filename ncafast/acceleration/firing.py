"""Which cells update: the sense and the rate of the user's random numbers, measured by turning them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.fx import Node

from ncafast.acceleration.errors import NotAccelerated, arguments, at_node, operation
from ncafast.acceleration.graph import StepGraph
from ncafast.acceleration.layout import Grid

UNIFORM = ("rand", "rand_like", "uniform", "uniform_")
BERNOULLI = ("bernoulli", "bernoulli_")
_OTHER = (
    "randn",
    "randn_like",
    "normal",
    "normal_",
    "randint",
    "randperm",
    "multinomial",
    "exponential",
    "native_dropout",
)
RANDOM = (*UNIFORM, *BERNOULLI, *_OTHER)
_BITS = {torch.float32: 24, torch.float64: 53}  # of torch's uniform numbers

Moves = Callable[[float, torch.dtype], bool]  # whether the state moves if every random number has that value


@dataclass
class Firing:
    """How the user's draws decide who fires."""

    node: Node
    rate: float
    above: bool  # whether large numbers fire
    limits: dict[torch.dtype, float]  # the smallest number of the upper part
    axes: tuple[int, ...]  # of the draws' shape: -1 a length of 1, 0 batch, 1.. space
    order: tuple[int, ...] = ()  # of these axes in memory
    dtype: torch.dtype | None = None  # of the draws, None that of the state
    replays: bool = False  # whether `draw` is known to give the user's own draws

    @property
    def surely(self) -> float:
        """A random number for which a cell updates."""
        return 1 - 2.0**-24 if self.above or operation(self.node) in BERNOULLI else 0.0

    def fires(self, draws: Tensor) -> Tensor:
        """The mask in the draws' own layout."""
        if operation(self.node) in BERNOULLI:
            return draws > 0.5
        upper = draws >= self.limits[draws.dtype]
        return upper if self.above else ~upper

    def learn(self, draws: Tensor) -> None:
        """Note how the user's code stores its draws: they are made in the order of memory."""
        strides = draws.stride()
        self.order = tuple(sorted(range(draws.dim()), key=lambda axis: -strides[axis]))
        self.dtype = None if draws.dtype is torch.float64 else draws.dtype

    def draw(self, x: Tensor) -> Tensor:  # [B, C, *S] -> [B, 1, *S]
        """The user's own draw for one step of a state, from torch's generator; who fires."""
        lengths = (x.shape[0], *x.shape[2:])
        shape = [1 if axis < 0 else lengths[axis] for axis in self.axes]
        order = self.order or tuple(range(len(shape)))
        device = self.node.meta["val"].device
        like = torch.empty([shape[axis] for axis in order], dtype=self.dtype or x.dtype, device=device)
        like = like.permute([order.index(axis) for axis in range(len(shape))])
        if operation(self.node) in UNIFORM:
            drawn = torch.rand_like(like).to(x.dtype)
        elif _given_rate(self.node) is not None:
            drawn = like.bernoulli_(self.rate)
        else:
            drawn = torch.bernoulli(like.fill_(self.rate))
        return self.by_cell(self.fires(drawn)).to(x.device)

    def by_cell(self, mask: Tensor) -> Tensor:
        """A mask in the draws' layout as [B, 1, *S]."""
        kept = [axis for axis in self.axes if axis >= 0]
        mask = mask.reshape([size for size, axis in zip(mask.shape, self.axes, strict=True) if axis >= 0])
        return mask.permute([kept.index(axis) for axis in range(len(kept))])[:, None]


def random_node(graph: StepGraph, grid: Grid, units: Collection[Node] = ()) -> Node | None:
    """The one draw of a step beside those of hidden units, or None.

    Raises:
        NotAccelerated: several draws, or not one number per cell.
    """
    drawn = (node for node in graph.nodes if node in graph.used and operation(node) in RANDOM)
    found = [node for node in drawn if node not in units]
    if not found:
        return None
    strange = next((node for node in found if operation(node) in _OTHER), None)
    if strange is not None:
        raise NotAccelerated(f"a step draws noise or drops units: {at_node(strange)}")
    if len(found) > 1:
        counted = Counter(map(at_node, found))
        places = ", ".join(place if count == 1 else f"{place}, {count} times" for place, count in counted.items())
        loops = "; if that is a loop over steps, give the name of the argument that counts them, as in steps='n'"
        why = loops if len(counted) < len(found) else ""
        raise NotAccelerated(f"a step draws {len(found)} random masks, a rule has one: {places}{why}")
    _axes(found[0], grid)
    return found[0]


def measure_firing(graph: StepGraph, node: Node, grid: Grid, moves: Moves, tensors: Sequence[Tensor]) -> Firing:
    """Sense and rate of the mask.

    Args:
        graph: the step.
        node: what `random_node` found.
        grid: the sizes of the step.
        moves: whether cells update when every random number has a value.
        tensors: values of the module's tensors.

    Raises:
        NotAccelerated: the mask is no threshold of its random numbers.
    """
    axes = _axes(node, grid)
    if operation(node) in BERNOULLI:
        rate = bernoulli_rate(graph, node, tensors)
        if moves(0.0, torch.float64) or not moves(1.0, torch.float64):
            raise NotAccelerated(f"the random mask does not stop cells that are drawn as 0: {at_node(node)}")
        return Firing(node, rate, True, {}, axes)
    above = moves(1 - 2.0**-24, torch.float64)
    if not above and not moves(0.0, torch.float64):
        raise NotAccelerated(f"no random number makes a cell update: {at_node(node)}")
    limits = {dtype: _bisect(partial(_upper, moves, dtype, above), bits) for dtype, bits in _BITS.items()}
    limit = limits[torch.float64]
    for k in range(17):
        value = (k + 0.31) / 17.5
        if moves(value, torch.float64) != ((value >= limit) == above):
            raise NotAccelerated(f"the random mask is no threshold of its random numbers: {at_node(node)}")
    return Firing(node, round(1 - limit if above else limit, 9), above, limits, axes)


def _upper(moves: Moves, dtype: torch.dtype, above: bool, value: float) -> bool:
    """Whether a random number belongs to the upper part."""
    return moves(value, dtype) == above


def _bisect(upper: Callable[[float], bool], bits: int) -> float:
    """The smallest k / 2**bits for which `upper` holds; 1 if none."""
    low, high = -1, 2**bits
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if upper(middle / 2**bits) else (middle, high)
    return high / 2**bits


def bernoulli_rate(graph: StepGraph, node: Node, tensors: Sequence[Tensor]) -> float:
    """The probability of a 1.

    Raises:
        NotAccelerated: it is not one number.
    """
    given = _given_rate(node)
    if given is not None:
        return given
    if arguments(node)[0] in graph.dependent and node.all_input_nodes[0] in graph.dependent:
        raise NotAccelerated(f"the probability of an update depends on the state: {at_node(node)}")
    chances = graph.evaluate(arguments(node)[0], {}, tensors)
    if float(chances.max()) != float(chances.min()):
        raise NotAccelerated(f"the probability of an update differs from cell to cell: {at_node(node)}")
    return float(chances.max())


def _given_rate(node: Node) -> float | None:
    """The probability of a `bernoulli` that has it as a number; others take a tensor of probabilities."""
    return next((float(value) for value in arguments(node)[1:2] if isinstance(value, (int, float))), None)


def _axes(node: Node, grid: Grid) -> tuple[int, ...]:
    lengths = (grid.batch, *grid.sizes)
    shape = node.meta["val"].shape
    axes = tuple(lengths.index(size) if size in lengths else -1 for size in shape)
    whole = sorted(axis for axis in axes if axis >= 0) == list(range(len(lengths)))
    wide = any(size != 1 for size, axis in zip(shape, axes, strict=True) if axis < 0)
    if not whole or wide:
        hint = "" if wide else "; ncafast.NCA and ncafast.rollout take any mask of cells as fire_mask="
        raise NotAccelerated(f"a random mask of shape {list(shape)} is not one number per cell: {at_node(node)}{hint}")
    return axes
