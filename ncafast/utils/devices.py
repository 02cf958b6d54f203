"""Where and how to compute: device, threads, determinism, from the options' text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def resolve_device(text: str) -> torch.device:
    """The device of "auto", "cpu", "cuda" or "cuda:N". Raises ValueError if this machine has no
    such device."""
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(text)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device={text!r} cannot be used on this machine; use auto or cpu") from error
    return device


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Compute with this many CPU threads inside; None leaves torch's choice."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if number is None else number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Have torch use deterministic algorithms alone inside, if wanted."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it, before its first call
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
