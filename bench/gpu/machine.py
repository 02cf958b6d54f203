"""What the machine has, asked before anything else: GPU, driver, compilers, Python and its packages.

python -m bench.gpu.machine
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

_COMMANDS = (
    ("nvidia-smi", "--query-gpu=name,driver_version,compute_cap,memory.total,clocks.sm,clocks.max.sm", "--format=csv"),
    ("nvcc", "--version"),
    ("compute-sanitizer", "--version"),
    ("gcc", "--version"),
)
_PACKAGES = ("torch", "triton", "numpy", "safetensors", "pytest", "hypothesis", "pybind11", "setuptools")


def main() -> int:
    """Print it; 1 where torch finds no GPU."""
    for line in lines():
        print(line, flush=True)
    import torch

    print(f"torch {torch.__version__} for CUDA {torch.version.cuda}", flush=True)
    if not torch.cuda.is_available():
        print("torch finds no GPU: every step will say so at its first launch")
        return 1
    found = torch.cuda.get_device_properties(0)
    print(f"{found.name}: sm_{found.major}{found.minor}, {found.multi_processor_count} multiprocessors")
    return 0


def lines() -> Iterator[str]:
    """All but torch, which takes seconds to import."""
    yield f"Python {platform.python_version()} ({sys.executable}), {os.cpu_count()} processors"
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    yield f"missing packages: {', '.join(missing) or 'none'}"
    header = Path(sysconfig.get_path("include"), "Python.h")
    yield f"{header}: {'there' if header.is_file() else 'missing'}"
    for command in _COMMANDS:
        if shutil.which(command[0]) is None:
            yield f"{command[0]}: not on PATH"
            continue
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=10)
        yield "\n".join(line for line in done.stdout.splitlines() if line.strip() and "Copyright" not in line)


if __name__ == "__main__":
    sys.exit(main())
