"""Work on copies of the user's module that leaves no trace: random numbers, threads, modes and warnings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def aside(module: nn.Module) -> Iterator[None]:
    """Random numbers that are always the same and leave the user's as they were; gradients, whatever the user's mode.

    One thread, since grids are small. No warnings: of a state of another shape than the module's, PyTorch may warn.
    """
    devices = {p.device for p in module.parameters() if p.device.type == "cuda"}
    threads = torch.get_num_threads()
    quiet = warnings.catch_warnings()
    with quiet, torch.random.fork_rng(devices=list(devices)), torch.inference_mode(False), torch.enable_grad():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
