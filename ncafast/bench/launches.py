"""Kernel launches of a call on a GPU, from torch's profiler. Unverified on hardware."""

from __future__ import annotations

from collections.abc import Callable

import torch

_STARTS = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")


def count_launches(call: Callable[[], object], device: torch.device) -> int | None:
    """How many kernels and graphs one call starts; None on a CPU, where there is nothing to start."""
    if device.type != "cuda":
        return None
    with torch.profiler.profile(activities=list(torch.profiler.supported_activities())) as profile:
        call()
    return sum(event.count for event in profile.key_averages() if event.key.startswith(_STARTS))
