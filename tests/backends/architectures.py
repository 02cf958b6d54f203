"""GPUs that the tests compile every kernel for: sm_80 and sm_90, and those of NCAFAST_CUDA_ARCHS."""

from __future__ import annotations

import os

import pytest

ARCHITECTURES = sorted({"80", "90", *os.environ.get("NCAFAST_CUDA_ARCHS", "90").split(";")}, key=int)


def skip_unless_compiled(architecture: int) -> None:
    """Skip the test that runs, unless kernels are compiled for this architecture."""
    if str(architecture) not in ARCHITECTURES:
        pytest.skip(f"not compiled, to save time; NCAFAST_CUDA_ARCHS={architecture} adds it")
