"""Builds the CUDA backend for the CPU: csrc/cuda and its binding, compiled by g++ with the shim in place of CUDA.

    python tests/backends/cuda_shim/build.py FOLDER [address]

compiles what has changed into FOLDER, links the module and prints its path, which NCAFAST_CUDA_SHIM takes:

    cd tests/backends
    NCAFAST_BACKEND=cuda NCAFAST_CUDA_SHIM=... python -m pytest gpu_suite.py cuda_*_suite.py

With `address` it is built with AddressSanitizer and checks of bounds and alignment; `environment` has what it wants
to be loaded. The compiler is $CXX, else g++; it must be GCC.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SHIM = ROOT / "tests" / "backends" / "cuda_shim" / "shim.h"
WARNINGS = ["-Wall", "-Wextra", "-Wswitch-enum", "-Werror", "-Wno-unknown-pragmas"]
# Emulated tensor cores are loops over small arrays, which vectors make fast; kernels ask for their FMAs by themselves.
FAST = ["-O1", "-ftree-vectorize", "-march=native", "-ffp-contract=off", "-g1"]
# What goes wrong on a GPU too. All of UndefinedBehaviorSanitizer compiles 1.4 times as long (g++ 12, 2026-11-29).
SANITIZERS = "-fsanitize=address,bounds,alignment"
SANITIZED = {
    "": FAST,
    "address": ["-O1", "-g1", "-fno-omit-frame-pointer", SANITIZERS, "-fno-sanitize-recover=all"],
}


def compiler() -> str:
    """The C++ compiler."""
    return os.environ.get("CXX", "g++")


def shim_flags(sanitize: str = "", csrc: Path = ROOT / "csrc") -> list[str]:
    """Flags that make the compiler read the files after them, .cu too, as C++ for the CPU."""
    return ["-std=c++17", *WARNINGS, *SANITIZED[sanitize], f"-I{csrc}", "-include", str(SHIM), "-x", "c++"]


def environment(sanitize: str = "") -> dict[str, str]:
    """Variables for a Python process that loads what was built."""
    if not sanitize:
        return {}
    # Python is not built with the sanitizer, so its library must come first; it wants the C++ one beside it.
    libraries = [output(compiler(), f"-print-file-name={name}") for name in ("libasan.so", "libstdc++.so")]
    return {
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:max_malloc_fill_size=1073741824:malloc_fill_byte=255",  # new memory is NaN
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def output(*command: str | Path) -> str:
    """What a command prints; RuntimeError with all of it when it fails."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def built(sanitize: str = "") -> Path:
    """The module of this checkout's sources, built once for all processes that test; its path."""
    from filelock import FileLock

    folder = ROOT / "build" / f"shim{sanitize}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        return build(folder, sanitize)


def build(folder: Path, sanitize: str = "", csrc: Path = ROOT / "csrc") -> Path:
    """Compile what has changed of these sources, two files at a time, and link; the module's path."""
    import pybind11

    folder.mkdir(parents=True, exist_ok=True)
    headers = [path for place in (csrc, SHIM.parent) for path in place.rglob("*.*h")]
    newest = max(path.stat().st_mtime for path in (*headers, Path(__file__)))
    includes = [f"-isystem{pybind11.get_include()}", f"-isystem{sysconfig.get_path('include')}"]

    def compile_one(source: Path) -> Path:
        made = folder / f"{source.stem}.o"
        if not made.exists() or made.stat().st_mtime < max(newest, source.stat().st_mtime):
            flags = [*includes, "-fPIC", "-fvisibility=hidden", *shim_flags(sanitize, csrc)]
            output(compiler(), *flags, "-c", source, "-o", made)
        return made

    sources = [csrc / "bind_cuda.cpp", *sorted((csrc / "cuda").rglob("*.cu"))]
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, sources))
    module = folder / "_cuda_shim.so"
    if module.exists() and all(made.stat().st_mtime < module.stat().st_mtime for made in objects):
        return module
    output(compiler(), "-shared", *([SANITIZERS] if sanitize else []), *objects, "-o", module)
    return module


if __name__ == "__main__":
    print(build(Path(sys.argv[1]), *sys.argv[2:]))
