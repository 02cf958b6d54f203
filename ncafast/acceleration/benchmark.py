"""What a call of a model costs in its own code and accelerated: time and memory, in one small table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ncafast.acceleration.double import is_patch
from ncafast.measuring.memory import peak_bytes
from ncafast.measuring.progress import Say, silent
from ncafast.measuring.timing import Spread, interleave, spread, synchronize

OWN, ACCELERATED = "own code", "accelerated"
FORWARD, TRAINING = "forward", "training step"
_SECONDS = 10.0  # about as long as all rounds of a row may take
_ROUNDS = (3, 15)  # fewest and most


@dataclass(frozen=True)
class Row:
    """One kind of call: seconds, and bytes at the peak where they can be measured; own code first."""

    name: str
    times: tuple[Spread, Spread]
    peaks: tuple[int | None, int | None]
    rounds: int

    @property
    def speedup(self) -> float:
        """Median of the own code over the median when accelerated."""
        return self.times[0].p50 / self.times[1].p50

    def __str__(self) -> str:
        own, fused = map(_milliseconds, self.times)
        lines = [_line(self.name, own, fused, f"{self.speedup:.3g}x")]
        held, less = self.peaks
        if held is not None and less is not None:
            ratio = f"{held / less:.3g}x" if less else ""
            lines.append(_line("  peak memory", f"{held / 2**20:.1f} MiB", f"{less / 2**20:.1f} MiB", ratio))
        return "\n".join(lines)


@dataclass(frozen=True)
class Benchmark:
    """Forward without gradients, and a training step: forward and backward, without an optimiser."""

    rows: list[Row]

    def __str__(self) -> str:
        note = "medians (20th to 80th percentile) of calls in turns; peak: what a call held beyond what was there"
        return "\n".join([_line("", OWN, ACCELERATED, ""), *map(str, self.rows), note])


def compare(model: nn.Module, call: Callable[[], Any], say: Say = silent) -> Benchmark:
    """Measure a call of an accelerated model, with and without what `accelerate` put into it.

    Parameters, buffers, gradients and torch's random state are as before afterwards.

    Args:
        model: accelerated.
        call: calls it; tensors in the result, also in lists, dicts and plain objects, are what gradients start from.
        say: is told what is done now.
    """
    device = next(model.parameters()).device
    learned = [p for p in model.parameters() if p.requires_grad]

    @torch.no_grad()
    def forward() -> None:
        call()
        synchronize(device)

    def training() -> None:
        losses = [t.square().mean() for t in _tensors(call()) if t.requires_grad]
        torch.autograd.grad(torch.stack(losses).sum(), learned, allow_unused=True)
        synchronize(device)

    with _untouched(model, device):
        rows = [_row(FORWARD, model, forward, device, say)]
        if learned and any(t.requires_grad for t in _tensors(call())):
            rows.append(_row(TRAINING, model, training, device, say))
    return Benchmark(rows)


@contextmanager
def own_code(model: nn.Module) -> Iterator[None]:
    """An accelerated model runs its own code for the length of a block."""
    patches = [(module, name, v) for module in model.modules() for name, v in vars(module).items() if is_patch(v)]
    for module, name, _ in patches:
        del vars(module)[name]
    try:
        yield
    finally:
        for module, name, patch in patches:
            vars(module)[name] = patch


def _row(name: str, model: nn.Module, run: Callable[[], None], device: torch.device, say: Say) -> Row:
    def own() -> None:
        with own_code(model):
            run()

    start = time.perf_counter()
    say(f"{name}: first call in its own code")
    own()
    say(f"{name}: first call accelerated")
    run()  # a first call may check its size, and compile
    rounds = int(_SECONDS / (time.perf_counter() - start))
    rounds = min(max(rounds, _ROUNDS[0]), _ROUNDS[1])
    calls = {OWN: lambda _: own(), ACCELERATED: lambda _: run()}
    seconds = interleave(calls, rounds, say=lambda text: say(f"{name}, both in turns: {text}"))
    say(f"{name}: measuring memory")
    peaks = (peak_bytes(own, device), peak_bytes(run, device))
    return Row(name, (spread(seconds[OWN]), spread(seconds[ACCELERATED])), peaks, rounds)


@contextmanager
def _untouched(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Buffers and random numbers are afterwards what they were."""
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in kept:
                    buffer.copy_(value)


def _tensors(result: Any) -> Iterator[Tensor]:
    """The floating tensors in a result."""
    leaves = pytree.tree_leaves(result)
    held = [vars(leaf).values() for leaf in leaves if hasattr(leaf, "__dict__") and not isinstance(leaf, nn.Module)]
    for leaf in (*leaves, *(value for values in held for value in values)):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            yield leaf


def _line(name: str, own: str, fused: str, ratio: str) -> str:
    return f"{name:<16}{own:>24}{fused:>24}{ratio:>9}".rstrip()


def _milliseconds(seconds: Spread) -> str:
    p20, p50, p80 = (f"{1e3 * s:.0f}" if s >= 0.1 else f"{1e3 * s:.3g}" for s in seconds)
    return f"{p50} ms ({p20}-{p80})"
