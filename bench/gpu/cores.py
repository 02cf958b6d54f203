"""Core times: a process per case and way, several of them importing while one has the GPU.

python -m bench.gpu.cores cuda|triton|eager OUT SCRATCH DATE SECONDS [tiny]
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

AHEAD = 4  # processes at once
_PATIENCE = 120  # seconds of a process, its wait for the GPU included
_CUDA = {  # the most telling first: what comes last is left out where time is short
    "maxnca-bn": ("steps", "cooperative"),
    "growing": ("cluster", "steps"),
    "texture": ("cluster", "steps"),
    "med-fine": ("steps", "cooperative"),
    "med-coarse": ("cooperative", "steps"),
    "maxnca": ("steps", "cooperative", "cluster"),
    "3d-k3": ("steps",),
}
_TRITON = {"graphs": {}, "launches": {"NCAFAST_GRAPHS": "0"}}
_MATCHED = (  # (case, precision): what plain PyTorch does by default first
    ("maxnca-bn", "tf32"),
    ("med-fine", "tf32"),
    ("growing", "ieee"),
    ("texture", "ieee"),
    ("growing", "tf32"),
    ("texture", "tf32"),
)


class Job(NamedTuple):
    """A process of core.py."""

    case: str
    provider: str
    label: str
    precision: str
    variables: dict[str, str]


def jobs(kind: str) -> Iterator[Job]:
    """The processes of a step."""
    if kind == "cuda":
        for rank in range(3):
            for case, ways in _CUDA.items():
                if rank < len(ways):
                    yield _cuda(case, ways[rank], "tf32")
    elif kind == "triton":
        for graphs, variables in _TRITON.items():
            for case in list(_CUDA)[:5]:
                variables = variables | {"NCAFAST_BACKEND": "triton"}
                yield Job(case, "ncafast:triton", f"ncafast:triton:{graphs}:tf32", "tf32", variables)
    else:
        for case, precision in _MATCHED:
            yield Job(case, "eager", f"eager:{precision}", precision, {})
            if precision == "ieee":  # where layers are linear, plain PyTorch rounds nothing
                yield from (_cuda(case, _CUDA[case][0], own) for own in ("tf32x3", "ieee"))


def _on_cpu(name: str) -> str:
    return name.replace("ncafast:cuda", "ncafast:cpu")


def _cuda(case: str, way: str, precision: str) -> Job:
    variables = {"NCAFAST_BACKEND": "cuda", "NCAFAST_CUDA_ROLLOUT": way}
    return Job(case, "ncafast:cuda", f"ncafast:cuda:{way}:{precision}", precision, variables)


def main(words: list[str]) -> int:
    """Returns how many processes failed, at most 100."""
    kind, out, scratch, date, seconds, *tiny = words
    until = time.monotonic() + float(seconds)
    planned = list(jobs(kind))[: (2 if kind == "cuda" else 1) if tiny else None]
    if tiny and not os.environ.get("NCAFAST_CUDA_SHIM"):  # the CPU backend stands in for all of them
        planned = [
            job._replace(provider=_on_cpu(job.provider), label=_on_cpu(job.label), variables={}) for job in planned
        ]

    def run(job: Job) -> int:
        if time.monotonic() > until:
            print(f"{job.case} {job.label}: left out, no time is left", flush=True)
            return 1
        command = [sys.executable, "-m", "bench.gpu.core", *job[:4], out, scratch, date, *tiny]
        return finished(command, job)

    Path(scratch).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(AHEAD) as pool:
        return min(sum(map(bool, pool.map(run, planned))), 100)


def finished(command: list[str], job: Job) -> int:
    """The exit code of a process, whose output is printed in one piece."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            env=os.environ | job.variables,
        )
    except subprocess.TimeoutExpired:
        print(f"{job.case} {job.label}: stopped after {_PATIENCE} s", flush=True)
        return 1
    text = done.stdout
    if done.returncode not in (0, 1, 2) or not text:  # 1: parity is red; 2: it says why it cannot run
        end = "\n".join(done.stderr.strip().splitlines()[-3:])
        how = "took too long" if done.returncode == -signal.SIGALRM else f"exit code {done.returncode}"
        text += f"{job.case} {job.label}: {how}\n{end}\n"
    print(text, end="", flush=True)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
