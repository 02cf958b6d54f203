"""CUDA graphs of whole rollouts: on small grids the launches cost more than the kernels, and a graph launches once.

The third call with the same rule, shapes and plan is captured into a CUDA graph with static buffers. Later calls copy
their inputs into these buffers, replay the graph, and copy the outputs out. All static buffers together take at most an
eighth of the GPU's memory; NCAFAST_GRAPHS=0 disables capture. When that is full, graphs that were not used for long are
dropped to make room, and without any such graph the call runs without capture: a number of steps that is drawn anew for
every call must not evict and capture graphs in turn.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# By count, unverified on hardware: a launch from Python takes some 15 us, and a step under batch norm, which has six,
# runs as long at 2^18 to 2^19 cells on an H200. Copying a state in and out takes about a tenth of its step.
_MOST_CELLS = 2**19
_ONE_SHARE = 32  # a call's states, which a graph holds besides the caller, take a 32nd of the GPU's memory at most
_ALL_SHARE = 8  # all recorded calls of a GPU an eighth
_UNUSED = 256  # calls after which a recorded one may be dropped for another
_CALLS_BEFORE = 2  # not captured: kernels are compiled and loaded, and a call that comes once is not worth it
_REMEMBERED = 1024  # kinds of calls that are counted

Tensors = Sequence[Any]  # Tensor or None
Run = Callable[[Tensors], list[Tensor]]
Record = Callable[[Callable[[], list[Tensor]]], tuple[Callable[[], None], list[Tensor]]]


@dataclass(slots=True)
class _Recorded:
    inputs: list[Tensor]
    replay: Callable[[], None]
    outputs: list[Tensor]
    device: torch.device
    size: int
    used: int  # the number of the call that used it last


@dataclass(slots=True)
class _Counted:
    times: int = 0
    size: int = 0  # bytes of inputs and outputs


class Graphs:
    """Captured graphs by the call that they replay; the least recently used ones are dropped first.

    Args:
        record: takes a function without arguments, returns what repeats it and the tensors that it writes.
    """

    def __init__(self, record: Record | None = None) -> None:
        self._record = record or _capture
        self._counted: OrderedDict[Hashable, _Counted] = OrderedDict()
        self._recorded: OrderedDict[Hashable, _Recorded] = OrderedDict()
        self._refused: set[Hashable] = set()
        self._number = 0  # of this call
        self._lock = threading.Lock()

    def call(self, what: Hashable, inputs: Tensors, run: Run) -> list[Tensor]:
        """`run(inputs)`, from a graph where there is one.

        Args:
            what: all that tells one call from another besides the tensors' shapes, dtypes, device and stream.
            inputs: what `run` reads of tensors; it must not read their values on the host.
            run: the call; the same number of tensors each time, none of them an input.
        """
        device = next(t.device for t in inputs if t is not None)
        key = (what, device, _stream(device), tuple(None if t is None else (t.shape, t.dtype) for t in inputs))
        with self._lock:
            self._number += 1
            kept = self._recorded.get(key)
            counted = None if kept is not None or key in self._refused else self._count(key)
            if counted is not None and counted.times > _CALLS_BEFORE and self._make_room(device, counted.size):
                kept = self._make(key, device, inputs, run)
            if kept is not None:
                self._recorded.move_to_end(key)
                kept.used = self._number
                torch._foreach_copy_(kept.inputs, [t for t in inputs if t is not None])
                kept.replay()
                return [torch.empty_like(t).copy_(t) for t in kept.outputs]
        outputs = run(inputs)
        if counted is not None:
            counted.size = _bytes([*(t for t in inputs if t is not None), *outputs])
        return outputs

    def _count(self, key: Hashable) -> _Counted:
        counted = self._counted.pop(key, None) or _Counted()
        counted.times += 1
        self._counted[key] = counted
        if len(self._counted) > _REMEMBERED:
            self._counted.popitem(last=False)
        return counted

    def _make(self, key: Hashable, device: torch.device, inputs: Tensors, run: Run) -> _Recorded | None:
        # Tensors born in inference mode could not be written to outside of it; out of it, autograd would listen.
        with torch.inference_mode(False), torch.no_grad():
            try:
                static = [None if t is None else torch.empty_like(t).copy_(t) for t in inputs]
                replay, outputs = self._record(lambda: run(static))
            except RuntimeError as error:
                self._refused.add(key)
                warnings.warn(
                    f"a rollout could not be recorded as a CUDA graph and runs plainly: {error}", stacklevel=2
                )
                return None
        held = [t for t in static if t is not None]
        made = _Recorded(held, replay, outputs, device, _bytes([*held, *outputs]), self._number)
        self._recorded[key] = made
        return made

    def _make_room(self, device: torch.device, size: int) -> bool:
        """Drops calls of a GPU that were not used for long until `size` bytes more may be held; whether they may."""
        there = [(key, kept) for key, kept in self._recorded.items() if kept.device == device]
        over = sum(kept.size for _, kept in there) + size - memory(device) // _ALL_SHARE
        dropped: list[Hashable] = []
        for key, kept in there:  # the longest unused first
            if over <= 0 or self._number - kept.used < _UNUSED:
                break
            over -= kept.size
            dropped.append(key)
        if over > 0:
            return False
        if dropped and device.type == "cuda":
            torch.cuda.synchronize(device)  # a graph may still be running
        for key in dropped:
            del self._recorded[key]
        return True


def worth(x: Tensor, kept: int) -> bool:
    """Whether a call may be captured: on a GPU, small, and not while the caller captures a graph.

    Args:
        x: the state [B, C, *S].
        kept: how many states the call returns or reads besides.
    """
    if x.device.type != "cuda" or os.environ.get("NCAFAST_GRAPHS") == "0":
        return False
    few = x.numel() // x.shape[1] <= _MOST_CELLS
    small = few and (kept + 2) * _bytes([x]) <= memory(x.device) // _ONE_SHARE
    return small and not torch.cuda.is_current_stream_capturing()


def _bytes(tensors: Tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def memory(device: torch.device) -> int:
    """Bytes that a GPU has; of a CPU, where there is a stand-in for graphs, as many as it takes."""
    if device.type != "cuda":
        return 2**63
    return int(torch.cuda.get_device_properties(device).total_memory)


def _stream(device: torch.device) -> int | None:
    """A graph's buffers belong to one stream, whose order keeps calls apart."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else None


_pools: dict[Hashable, tuple[Any, torch.cuda.Stream]] = {}  # by device and stream: memory pool, capturing stream


def _capture(run: Callable[[], list[Tensor]]) -> tuple[Callable[[], None], list[Tensor]]:
    # Graphs of one stream never run at once and leave nothing for each other, so that they can share their memory.
    current = torch.cuda.current_stream()
    key = current.device, current.cuda_stream
    if key not in _pools:
        _pools[key] = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
    pool, aside = _pools[key]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=aside, capture_error_mode="thread_local"):
        outputs = run()
    return graph.replay, outputs


shared = Graphs()  # one for all backends, since a process can capture one graph at a time
