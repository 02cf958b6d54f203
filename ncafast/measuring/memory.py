"""Memory: bytes that autograd keeps for backward, and the peak of what a call holds beyond what was there before."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from ncafast import native


def kept_bytes(forward: Callable[[], object], not_counted: Iterable[Tensor] = ()) -> int:
    """Bytes that autograd holds between forward and backward, every piece of memory counted once.

    Args:
        forward: runs with gradients on and returns its result, which keeps the graph alive.
        not_counted: tensors that are there anyway: parameters, the input.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in not_counted}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    total = sum(kept.values())
    del result  # it kept the tensors alive, so that no address was counted for two of them
    return total


def peak_bytes(run: Callable[[], object], device: torch.device) -> int | None:
    """The most memory that `run` held at any moment beyond what was held before; None where it cannot be measured."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    if not _reset_peak():
        return None
    before = _status("VmRSS")
    run()
    return max(0, _status("VmHWM") - before)


def _reset_peak() -> bool:
    """Give freed memory back and let the kernel's peak start anew; False where that is not possible."""
    native.release_memory()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return False
    return True


def _status(key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found.group(1)) * 1024
