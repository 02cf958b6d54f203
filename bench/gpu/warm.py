"""Compiles the Triton kernels of the cases that are timed later, by running two steps of each on a process of its own.

    python -m bench.gpu.warm PROCESSES [CASE]

Triton keeps on disk what it compiled. Meant to run beside other steps; it stops while anything is timed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from bench.gpu.core import as_eager
from ncafast.backends.precision import use_precision
from ncafast.bench.cases import select
from ncafast.bench.modes import FORWARD, TRAIN
from ncafast.bench.problem import Problem
from ncafast.bench.providers import Fused, TorchRunner
from ncafast.measuring.timing import synchronize

CASES = ("maxnca-bn", "growing", "texture", "med-fine", "med-coarse")


def main(words: list[str]) -> int:
    """Compile all, or one case in this process."""
    if words[1:]:
        run(words[1])
        return 0
    with ThreadPoolExecutor(int(words[0])) as pool:
        return max(pool.map(_process, CASES))


def _process(case: str) -> int:
    environment = os.environ | {"NCAFAST_BACKEND": "triton", "NCAFAST_GRAPHS": "0"}
    done = subprocess.run([sys.executable, "-m", "bench.gpu.warm", "1", case], env=environment)
    print(f"{case}: exit code {done.returncode}", flush=True)
    return abs(done.returncode)


def run(name: str) -> None:
    """Forward and backward, and forward alone, at the size that is timed."""
    case = select([name])[0]
    device = torch.device("cuda")
    as_eager("tf32")
    with use_precision("tf32"):
        problem = Problem(case, replace(case.sizes["gpu"], steps=2), device)
        runner = Fused("triton").open(problem)
        assert isinstance(runner, TorchRunner)
        for mode in (TRAIN, FORWARD):
            runner.queued(mode)(0)
    synchronize(device)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
