"""GPUs that the tests compile every kernel for: sm_90, and those of NCAFAST_CUDA_ARCHS. Each takes minutes."""

from __future__ import annotations

import os
from collections.abc import Collection

import pytest

ARCHITECTURES = sorted({"90", *os.environ.get("NCAFAST_CUDA_ARCHS", "90").split(";")}, key=int)


def skip_unless(architecture: int, compiled: Collection[str]) -> None:
    """Skip the test that runs, unless kernels are compiled for this architecture."""
    if str(architecture) not in compiled:
        pytest.skip(f"not compiled, to save time; NCAFAST_CUDA_ARCHS={architecture} adds it")
