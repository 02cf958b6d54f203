"""Tiles on their way: the next one is read and the last one written while one is computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ncafast.volume.array import Array
from ncafast.volume.boxes import Box


class Loaded(NamedTuple):
    """A box of a state on the device that computes, once its copy there is done."""

    x: Tensor
    copied: Any  # a CUDA event, or None


class Transfer(AbstractContextManager["Transfer"]):
    """Reads and writes boxes for one device, each in a thread of its own.

    On CUDA boxes go through pinned memory, and their copies run on a stream per direction beside the computation.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        cuda = device.type == "cuda" and torch.cuda.is_available()
        self._in: Any = torch.cuda.Stream(device) if cuda else None
        self._out: Any = torch.cuda.Stream(device) if cuda else None
        self._reader, self._writer = ThreadPoolExecutor(1, "tiles-read"), ThreadPoolExecutor(1, "tiles-write")
        self._writing: Future[None] | None = None

    def __exit__(self, *error: object) -> None:
        self._reader.shutdown(cancel_futures=True)
        self._writer.shutdown(cancel_futures=True)

    def boxes(self, source: Array, boxes: Iterable[Box]) -> Iterator[Tensor]:
        """The cells of each box in turn, on the device; the next box is read meanwhile."""
        waiting: list[Future[Loaded]] = []
        for box in boxes:
            waiting.append(self._reader.submit(self._load, source, box))
            if len(waiting) > 1:
                yield self._arrived(waiting.pop(0))
        for last in waiting:
            yield self._arrived(last)

    def _load(self, source: Array, box: Box) -> Loaded:
        if self._in is None or source.device == self._device:
            return Loaded(source.read(box).to(self._device), None)
        host = source.read(box, pinned=True)
        with torch.cuda.stream(self._in):
            return Loaded(host.to(self._device, non_blocking=True), self._in.record_event())

    def _arrived(self, future: Future[Loaded]) -> Tensor:
        x, copied = future.result()
        if copied is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(copied)
            x.record_stream(current)
        return x

    def write(self, target: Array, box: Box, values: Tensor) -> None:
        """Store a result once the one before is stored; returns before this one is."""
        self.finish()
        computed = torch.cuda.current_stream(self._device).record_event() if self._out is not None else None
        self._writing = self._writer.submit(self._store, target, box, values, computed)

    def _store(self, target: Array, box: Box, values: Tensor, computed: Any) -> None:
        if self._out is None or target.device == self._device:
            if computed is not None:
                computed.synchronize()
            target.write(box, values.to(target.device))
            return
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        with torch.cuda.stream(self._out):
            self._out.wait_event(computed)
            host.copy_(values, non_blocking=True)
        self._out.synchronize()
        target.write(box, host)

    def finish(self) -> None:
        """Wait until all results are stored."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()
