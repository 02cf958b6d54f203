"""A workload: its sizes, its two modules with the same weights, and the states that it starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ncafast.bench.modes import FORWARD, TRAIN
from ncafast.bench.originals import Original

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Size:
    """How much work: samples, cells per axis, steps per call."""

    batch: int
    grid: tuple[int, ...]
    steps: int

    @property
    def cells(self) -> int:
        """Cells of the whole batch."""
        count = self.batch
        for length in self.grid:
            count *= length
        return count

    def __str__(self) -> str:
        return f"{self.batch} x {' x '.join(map(str, self.grid))}, {self.steps} steps"


@dataclass(frozen=True)
class Case:
    """One workload.

    Attributes:
        name: as given to --case.
        title: for people.
        original: builds the published model in plain PyTorch.
        fused: builds ncafast's counterpart.
        last: the original's parameter that writes the update, whose size is set here; None leaves it as it is, or
            random where it starts at 0.
        sizes: by the names of SIZES.
        modes: what is measured: forward, train, inference, memory.
        convert: the original's tensors by name -> the counterpart's. Linear, so it maps gradients as well.
        start: "noise"; "alive": every cell lives, and does so to the end; "seed": one living cell per sample; "ring":
            an image like a digit in the last channel, whose surroundings are dead.
        spread: standard deviation of the random last layer.
        check_steps: steps of the parity check.
        every_cell: whether every cell fires in that check, since the original takes no masks.
        providers: the only ones that are measured, or None for all.
    """

    name: str
    title: str
    original: Callable[[], Original]
    fused: Callable[[], nn.Module]
    last: str | None
    sizes: Mapping[str, Size]
    modes: tuple[str, ...] = (TRAIN, FORWARD)
    convert: Callable[[Tensors], dict[str, Tensor]] = dict
    start: str = "noise"
    spread: float = 0.05
    check_steps: int = 2
    every_cell: bool = False
    providers: tuple[str, ...] | None = None

    def build(self) -> Original:
        """The original with random weights, the same ones every time, float32."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = self.original()
            with torch.no_grad():
                for parameter in module.parameters():
                    if not (parameter - parameter.flatten()[0]).any():  # zeros, or a norm's ones, would hide errors
                        parameter.add_(torch.randn(parameter.shape), alpha=0.1 if parameter.dim() == 1 else self.spread)
                if self.last is not None:
                    last = module.get_parameter(self.last)
                    last.copy_(self.spread * torch.randn(last.shape))
                    if self.start == "seed":
                        _grow(last)
        return module

    def fuse(self, original: Original) -> nn.Module:
        """The counterpart with the original's weights."""
        module = self.fused()
        state = module.state_dict()
        state.update(self.convert(original.state_dict()))
        module.load_state_dict(state)
        return module

    def state(self, size: Size, channels: int, generator: torch.Generator) -> Tensor:
        """A first state [B, C, *S], float32."""
        shape = (size.batch, channels, *size.grid)
        if self.start == "seed":
            x = torch.zeros(shape)
            x.flatten(2)[:, 3:, _centre(size.grid)] = 1.0
            return x
        x = torch.randn(shape, generator=generator)
        if self.start == "alive":
            x[:, 3] = 1.0 + 0.1 * x[:, 3].abs()
        if self.start == "ring":
            x[:, -1] = _ring(size.grid)
        return x

    def tiny(self) -> Size:
        """A size for tests: two samples, odd axes of different lengths."""
        return Size(2, (9, 11) if len(self.sizes["full"].grid) == 2 else (5, 7, 6), self.check_steps)


def _grow(last: Tensor) -> None:
    """Weights under which alpha rises wherever a neighbour lives.

    After 64 steps about an eighth of 72 x 72 cells lives, as with the checkpoint of MECLab's growing tutorial.
    """
    last.mul_(0.2)
    last[3] = 0.008


def _centre(grid: tuple[int, ...]) -> int:
    """Row-major index of the middle cell."""
    index = 0
    for length in grid:
        index = index * length + length // 2
    return index


def _ring(grid: tuple[int, ...]) -> Tensor:
    """[*grid]: 1 on a stroke three cells wide, which as in MNIST leaves two thirds of the cells dead."""
    axes = [torch.arange(length) - (length - 1) / 2 for length in grid]
    radius = sum(axis**2 for axis in torch.meshgrid(*axes, indexing="ij")) ** 0.5
    return ((radius - min(grid) / 4).abs() < 1.5).float()
