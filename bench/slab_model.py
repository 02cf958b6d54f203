"""A rollout on slabs on GPUs, on paper: what has to be computed, moved and sent is counted, the machine is assumed.

`python -m bench.slab_model` prints the table of docs/sharding.md. With --measure it measures what an exchange takes on
this machine's CPU beside the step. Nothing here was measured on a GPU.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ncafast.bench import work
from ncafast.bench.case import Case, Size
from ncafast.bench.cases import SWEEPS
from ncafast.bench.problem import Problem
from ncafast.bench.ranks import Ranks
from ncafast.rule import Rule
from ncafast.volume import moments
from ncafast.volume.boxes import Box
from ncafast.volume.masks import fire_masks
from ncafast.volume.reach import needs_whole_grid, reach
from ncafast.volume.slabs import steps_between

_FLOAT, _DOUBLE = 4, 8  # bytes
CASES = {case.name: case for case in SWEEPS["volume"]}
NORMS = {"no norm": CASES["ranks-64"], "batch norm": CASES["ranks-64-bn"]}
COUNTS = (1, 8, 64)


@dataclass(frozen=True)
class Machine:
    """Nodes of NVIDIA H100 SXM GPUs. Rates are those of NVIDIA's data sheets; shares, latencies and host are assumed.

    Attributes:
        flops: in float32 without tensor cores, per second.
        memory: bytes per second of HBM3.
        inside: bytes per second and direction of one GPU's NVLink (900 GB/s both ways).
        between: the same of one port of NDR InfiniBand (400 Gb/s) per GPU.
        per_node: GPUs.
        share_flops, share_memory, share_links: what of it is reached.
        hop_inside, hop_between: seconds until a small message has arrived.
        host: seconds of Python and launches per exchange, as `measure` finds on a CPU: without norm, with batch norm.
    """

    flops: float = 67e12
    memory: float = 3.35e12
    inside: float = 450e9
    between: float = 50e9
    per_node: int = 8
    share_flops: float = 0.5
    share_memory: float = 0.7
    share_links: float = 0.8
    hop_inside: float = 10e-6
    hop_between: float = 20e-6
    host: tuple[float, float] = (1.0e-3, 3.3e-3)  # AMD EPYC (model 25-17), 2026-11-29, load 13

    def computes(self, flop: float, traffic: float) -> float:
        """Seconds for so many operations and bytes of memory traffic."""
        return max(flop / (self.flops * self.share_flops), traffic / (self.memory * self.share_memory))


class Step(NamedTuple):
    """Seconds of one step on the rank that has most to do, and bytes that it sends."""

    cells: float  # the step of its slab and halo
    masks: float  # drawing who fires
    copies: float  # of slab and halo into one tensor
    moments: float  # of the perception
    halo: float
    reduce: float
    again: float  # reading the state once more, where a norm is measured
    host: float  # hidden behind the device's work where that takes longer
    halo_bytes: float
    reduce_bytes: float
    per_exchange: int

    @property
    def seconds(self) -> float:
        """In all; the engine overlaps none of it."""
        return max(math.fsum(self[:6]), self.host)

    @property
    def fused(self) -> float:
        """In all, if kernels drew the masks within the step and read the state once for the moments, as on one GPU."""
        return max(self.seconds - self.masks - self.moments + self.again, self.host)


def step(rule: Rule, grid: Sequence[int], count: int, machine: Machine) -> Step:
    """One step without gradients on a grid that is cut along its first axis for so many GPUs; `count` divides it."""
    plane, slab, measures = math.prod(grid[1:]), grid[0] // count, needs_whole_grid(rule)
    plain, state = rule.replace(norm="none"), _FLOAT * rule.channels
    again = plane * slab * machine.computes(work.forward(rule).flop - work.forward(plain).flop, state * measures)
    todo = work.forward(plain)
    if count == 1:
        return Step(plane * slab * machine.computes(todo.flop, todo.bytes), 0, 0, again, 0, 0, again, 0, 0, 0, 0)
    steps, r = steps_between(rule, 0, [slab] * count), reach(rule)[0]
    cells, outer = plane * (slab + 2 * steps * r), plane * 2 * r  # per step
    far = count > machine.per_node
    side, hop = outer / 2 * state, machine.hop_between if far else machine.hop_inside
    links = machine.share_links * machine.inside, machine.share_links * machine.between
    sent = max(2 * side / links[0], side / links[1] if far else 0.0)
    reduced = _DOUBLE * (rule.perception_size**2 + rule.perception_size) * measures
    moments_flop, moments_bytes = 2.0 * rule.perception_size**2, traffic_of_moments(rule)
    return Step(
        cells=cells * machine.computes(todo.flop, todo.bytes + 1),
        masks=cells * machine.computes(0, traffic_of_masks(plain)),
        copies=(cells / steps + 2 * outer) * machine.computes(0, 2 * state),
        moments=plane * slab * machine.computes(moments_flop, moments_bytes) * measures,
        halo=sent + hop / steps,
        reduce=(2 * 2 * math.ceil(math.log2(count)) * hop + 2 * reduced / links[far]) * measures,  # two of them
        again=again,
        host=machine.host[measures] / steps,
        halo_bytes=2 * side,
        reduce_bytes=reduced,
        per_exchange=steps,
    )


def traffic_of_masks(rule: Rule) -> float:
    """Bytes that drawing the masks of a part reads and writes per cell and step on a GPU, where it is plain PyTorch."""
    box, whole = Box((8, 0, 0), (24, 32, 32)), (64, 32, 32)
    seed = torch.zeros(1, dtype=torch.int64, device="meta")
    return _traffic(lambda: fire_masks(rule, box, whole, 1, 2, seed)) / (2 * math.prod(box.size))


def traffic_of_moments(rule: Rule) -> float:
    """Bytes that `moments.sums` reads and writes per cell on a GPU, where it is plain PyTorch, in float32."""
    shape = (16, 32, 32)
    x = torch.zeros(1, rule.channels, shape[0] + 2, *shape[1:], dtype=torch.float64)  # no kernel here takes it
    params = {name: torch.zeros(size, dtype=x.dtype) for name, size in rule.param_shapes().items()}
    shift = torch.zeros(1, rule.perception_size, dtype=x.dtype)
    core = (slice(None), slice(None), slice(1, -1), slice(None), slice(None))
    return _traffic(lambda: moments.sums(x, core, rule, params, None, shift)) / math.prod(shape) / 2


def _traffic(run: Callable[[], object]) -> float:
    counter = _Traffic()
    with torch.no_grad(), counter:
        run()
    return counter.bytes


class _Traffic(TorchDispatchMode):
    """Adds up the bytes that operations read and write; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0.0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = operation(*args, **(kwargs or {}))
        if not operation.is_view:
            self.bytes += sum(tensor.nbytes for tensor in _tensors((args, out)))
        return out


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)


def table(machine: Machine) -> str:
    """Strong scaling of 1024^3 cells and weak scaling of 512^3 cells per GPU, in Markdown."""
    lines = [f"| {' | '.join(_HEAD)} |", "|---" * len(_HEAD) + "|"]
    for name, case in NORMS.items():
        rule = case.fused().rule
        assert isinstance(rule, Rule)
        for sides in ((1024, 1024, 1024), (512, 1024, 2048)):
            alone = step(rule, (sides[0],) * 3, 1, machine).seconds
            for side, count in zip(sides, COUNTS, strict=True):
                found = step(rule, (side,) * 3, count, machine)
                ideal = alone * (side / sides[0]) ** 3 / count
                lines.append(f"| {' | '.join((name, *_row(side, count, found, ideal)))} |")
    return "\n".join(lines)


_HEAD = (
    "norm", "grid", "GPUs", "planes each", "K", "sent per step", "cells, ms", "masks", "copies", "moments", "halo",
    "all-reduce", "ms per step", "efficiency", "with kernels",
)  # fmt: skip


def _row(side: int, count: int, found: Step, ideal: float) -> list[str]:
    parts = [_ms(seconds) if seconds else "" for seconds in found[:6]]
    sent = f"{found.halo_bytes / 1e6:.0f} MB" + (f" + {found.reduce_bytes / 1e3:.0f} kB" if found.reduce_bytes else "")
    between = (str(found.per_exchange), sent) if count > 1 else ("", "")
    shares = (_percent(ideal / seconds) if count > 1 else "" for seconds in (found.seconds, found.fused))
    return [f"{side}^3", str(count), str(side // count), *between, *parts, _ms(found.seconds), *shares]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.{0 if seconds > 0.01 else 1 if seconds > 1e-3 else 2}f}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def measure(case: Case, steps: int = 64, rounds: int = 10) -> float:
    """Seconds of a core that an exchange takes beside the step: slabs of next to nothing, on two processes and one."""
    problem = Problem(case, Size(1, (8, 4, 4), steps), torch.device("cpu"))
    least = []
    for count in (1, 2):
        runner = Ranks("cpu", count).open(problem)
        least.append(min(runner.busiest() or 0.0 for _ in range(rounds)))
        runner.close()
    return (least[1] - least[0]) / steps


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        for name, case in NORMS.items():
            print(f"{name}: {measure(case) * 1e3:.2f} ms of a core per exchange")
    else:
        print(table(Machine()))
