"""CUDA graphs of whole rollouts: on small grids the launches cost more than the kernels, and a graph launches once.

A call that comes a third time with the same rule, sizes and plan is recorded, on buffers of its own; from then on its
inputs are copied there, the graph is replayed, and its outputs are copied out. NCAFAST_GRAPHS=0 switches it off.
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

# A model, not a measurement: a launch from Python takes some 15 us, a step's kernels reach that at about 2^17 cells.
_MOST_CELLS = 2**17
_MOST_BYTES = 2**26  # of one call's states, which a graph holds besides the caller
_ALL_BYTES = 2**29  # of all recorded calls
_CALLS_BEFORE = 2  # run plainly: kernels are compiled and loaded, and what comes once is not recorded
_REMEMBERED = 1024  # calls whose number is known

Tensors = Sequence[Any]  # Tensor or None
Run = Callable[[Tensors], list[Tensor]]
Record = Callable[[Callable[[], list[Tensor]]], tuple[Callable[[], None], list[Tensor]]]


@dataclass(frozen=True, slots=True)
class _Recorded:
    inputs: list[Tensor]
    replay: Callable[[], None]
    outputs: list[Tensor]
    size: int


class Graphs:
    """Recorded calls by what they are; the ones longest unused make room.

    Args:
        record: takes a function without arguments, returns what repeats it and the tensors that it writes.
    """

    def __init__(self, record: Record | None = None) -> None:
        self._record = record or _capture
        self._calls: OrderedDict[Hashable, int] = OrderedDict()
        self._recorded: OrderedDict[Hashable, _Recorded] = OrderedDict()
        self._refused: set[Hashable] = set()
        self._lock = threading.Lock()

    def call(self, what: Hashable, inputs: Tensors, run: Run) -> list[Tensor]:
        """`run(inputs)`, from a graph where there is one.

        Args:
            what: all that tells one call from another besides the tensors' shapes, dtypes, device and stream.
            inputs: what `run` reads of tensors; it must not read their values on the host.
            run: the call; the same number of tensors each time, none of them an input.
        """
        key = (what, _place(inputs), tuple(None if t is None else (t.shape, t.dtype) for t in inputs))
        with self._lock:
            kept = self._recorded.get(key)
            if kept is None and self._due(key):
                kept = self._make(key, inputs, run)
            if kept is not None:
                self._recorded.move_to_end(key)
                torch._foreach_copy_(kept.inputs, [t for t in inputs if t is not None])
                kept.replay()
                return [torch.empty_like(t).copy_(t) for t in kept.outputs]
        return run(inputs)

    def _due(self, key: Hashable) -> bool:
        """Counts the call; whether it is to be recorded."""
        if key in self._refused:
            return False
        times = self._calls.pop(key, 0)
        self._calls[key] = times + 1
        if len(self._calls) > _REMEMBERED:
            self._calls.popitem(last=False)
        return times >= _CALLS_BEFORE

    def _make(self, key: Hashable, inputs: Tensors, run: Run) -> _Recorded | None:
        # Tensors born in inference mode could not be written to outside of it; out of it, autograd would listen.
        with torch.inference_mode(False), torch.no_grad():
            own = [None if t is None else torch.empty_like(t).copy_(t) for t in inputs]
            try:
                replay, outputs = self._record(lambda: run(own))
            except RuntimeError as error:
                self._refused.add(key)
                warnings.warn(
                    f"a rollout could not be recorded as a CUDA graph and runs plainly: {error}", stacklevel=2
                )
                return None
        held = [t for t in own if t is not None]
        made = _Recorded(held, replay, outputs, _bytes([*held, *outputs]))
        self._make_room(made.size)
        self._recorded[key] = made
        return made

    def _make_room(self, size: int) -> None:
        while self._recorded and sum(kept.size for kept in self._recorded.values()) + size > _ALL_BYTES:
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # a graph may still be running
            self._recorded.popitem(last=False)


def worth(x: Tensor, kept: int) -> bool:
    """Whether a call may be recorded: on a GPU, small, and not part of somebody's own graph.

    Args:
        x: the state [B, C, *S].
        kept: how many states the call returns or reads besides.
    """
    if x.device.type != "cuda" or os.environ.get("NCAFAST_GRAPHS") == "0":
        return False
    small = x.numel() // x.shape[1] <= _MOST_CELLS and (kept + 2) * _bytes([x]) <= _MOST_BYTES
    return small and not torch.cuda.is_current_stream_capturing()


def _bytes(tensors: Tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _place(inputs: Tensors) -> Hashable:
    """Device and stream: a graph's buffers belong to one stream, whose order keeps calls apart."""
    device = next(t.device for t in inputs if t is not None)
    return device, torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else None


_places: dict[Hashable, tuple[Any, torch.cuda.Stream]] = {}  # memory pool, stream to record on


def _capture(run: Callable[[], list[Tensor]]) -> tuple[Callable[[], None], list[Tensor]]:
    # Graphs of one stream never run at once and leave nothing for each other, so that they can share their memory.
    current = torch.cuda.current_stream()
    place = current.device, current.cuda_stream
    if place not in _places:
        _places[place] = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
    pool, aside = _places[place]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=aside, capture_error_mode="thread_local"):
        outputs = run()
    return graph.replay, outputs


shared = Graphs()  # one for all backends, since a process can record one graph at a time
