"""The kernels of a call, from torch's profiler."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch

MOST = 12


def of(call: Callable[[], object], device: torch.device) -> list[tuple[str, float, int]]:
    """(name, microseconds, launches) of the longest; none on a CPU, or where the profiler does not work."""
    if device.type != "cuda":
        return []
    try:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            call()
            torch.cuda.synchronize(device)
        events: list[Any] = list(profile.key_averages())
    except RuntimeError as error:
        print(f"the profiler does not work: {error}")
        return []
    found = [(short(event.key), float(event.self_device_time_total), int(event.count)) for event in events]
    return sorted((kernel for kernel in found if kernel[1] > 0), key=lambda kernel: -kernel[1])[:MOST]


def short(name: str) -> str:
    """A kernel's name without return type, namespaces and arguments."""
    name = name.replace("(anonymous namespace)::", "").removeprefix("void ")
    name = re.sub(r"\(.*", "", re.sub(r"\((?:[\w:]+)\)(\d)", r"\1", name))
    return re.sub(r"\b\w+::", "", name)[:60]
