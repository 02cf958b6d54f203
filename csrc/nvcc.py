"""Compiles csrc/cuda with NVIDIA's compiler: finding it, for which GPUs, and the command. For setup.py and the tests.

Objects are kept in build/cuda, beside each what ptxas said of its kernels, and made again only when a source changed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).resolve().parent  # csrc
ARCHITECTURES = ("80", "90", "100")  # A100, and RTX 30 and 40, which run its code; H100; B200
OLDEST = 80  # bfloat16 and TF32 products, asynchronous copies
# NVIDIA's compiler from PyPI, all parts of one version: that of PyTorch's own wheels, so no newer driver is needed.
WHEELS = [
    f"nvidia-{part}==13.0.*; platform_system == 'Linux'"
    for part in ("cuda-nvcc", "cuda-crt", "nvvm", "cuda-cccl", "cuda-runtime")
]
FLAGS = [
    "-O3",
    "-std=c++17",
    "--expt-relaxed-constexpr",
    "-Xcompiler=-fPIC,-fvisibility=hidden,-Werror=switch",
    "-Xptxas=-v",
]


class Unavailable(Exception):
    """There will be no CUDA kernels, and why."""


class NoCudaTorch(Unavailable):
    """The PyTorch that ncafast is built for cannot use GPUs."""


MODES = ("auto", "force", "wheels", "0")  # of NCAFAST_CUDA


def from_wheels() -> bool:
    """Whether the build shall bring NVIDIA's compiler along."""
    return os.environ.get("NCAFAST_CUDA") == "wheels"


def check_wanted(compiler: str | None) -> None:
    """Whether the CUDA kernels are to be compiled: by default only where they can run, as compiling takes minutes.

    Raises:
        Unavailable: no; the message says why.
    """
    mode = os.environ.get("NCAFAST_CUDA") or "auto"
    if mode not in MODES:
        raise Unavailable(f"NCAFAST_CUDA={mode!r} is not known: choose one of {', '.join(MODES)}")
    if mode == "0":
        raise Unavailable("switched off by NCAFAST_CUDA=0")
    if compiler is None:
        raise Unavailable(
            "no nvcc was found: neither in $CUDA_HOME, nor on PATH, nor NVIDIA's wheels; "
            "with NCAFAST_CUDA=wheels pip brings it along"
        )
    if mode != "auto" or os.environ.get("NCAFAST_CUDA_ARCHS"):
        return
    if torch_is_for_cpu():
        raise NoCudaTorch(
            "when ncafast was built, the installed PyTorch was a build for the CPU; "
            "NCAFAST_CUDA=force compiles nevertheless"
        )
    if not _of_gpus():
        raise Unavailable(
            f"when ncafast was built, no NVIDIA GPU of sm_{OLDEST} or newer was found (nvidia-smi listed none); "
            "NCAFAST_CUDA=force compiles nevertheless"
        )


def torch_is_for_cpu() -> bool:
    """Whether the PyTorch of this environment cannot use GPUs. It is read, not imported: pip hides it from builds."""
    file = Path(sysconfig.get_path("purelib"), "torch", "version.py")
    return file.is_file() and re.search(r"^cuda\b.*= None$", file.read_text(), re.MULTILINE) is not None


def find() -> str | None:
    """The CUDA compiler of $CUDA_HOME, else the one on PATH, else that of NVIDIA's wheels, which can be asked for."""
    home = os.environ.get("CUDA_HOME")
    folders = [Path(home, "bin")] if home else []
    folders += [Path(folder) for folder in os.get_exec_path()]
    wheels = [made for place in sys.path for made in sorted(Path(place or ".").glob("nvidia/cu*/bin"))]
    folders = wheels if from_wheels() else [*folders, *wheels]
    return next((found for folder in folders if (found := shutil.which("nvcc", path=str(folder)))), None)


def architectures(compiler: str) -> list[str]:
    """What to compile for: $NCAFAST_CUDA_ARCHS, else this machine's GPUs, else all that the compiler knows of ours.

    Raises:
        Unavailable: NCAFAST_CUDA_ARCHS is no such list, or asks for what cannot be.
    """
    known = re.findall(r"compute_(\d+)", run(compiler, "--list-gpu-arch"))
    asked = os.environ.get("NCAFAST_CUDA_ARCHS")
    if not asked:
        return sorted(set(_of_gpus()) & set(known), key=int) or [a for a in ARCHITECTURES if a in known]
    wanted = sorted({word.strip() for word in asked.split(";") if word.strip()}, key=lambda word: (len(word), word))
    for word in wanted:
        if word not in known or int(word) < OLDEST:
            allowed = ";".join(a for a in known if int(a) >= OLDEST)
            raise Unavailable(f"NCAFAST_CUDA_ARCHS={asked!r}: {word!r} is not among {allowed}, which this nvcc knows")
    return wanted


def _of_gpus() -> list[str]:
    try:
        printed = run("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader")
    except Unavailable:
        return []
    found = [line.strip().replace(".", "") for line in printed.splitlines()]
    return [a for a in found if a.isdigit() and int(a) >= OLDEST]


def compile_all(compiler: str, wanted: list[str], folder: Path, host: str | None = None) -> list[Path]:
    """Objects of csrc/cuda/*.cu for these architectures; the last one's PTX is for GPUs that are newer still.

    Raises:
        Unavailable: a file does not compile; the message is the compiler's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    newest = max(path.stat().st_mtime for path in (Path(__file__), *SOURCES.rglob("*.h"), *SOURCES.rglob("*.cuh")))
    codes = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in wanted]
    codes.append(f"-gencode=arch=compute_{wanted[-1]},code=compute_{wanted[-1]}")
    command = [compiler, *FLAGS, *([f"-ccbin={host}"] if host else []), *codes, f"-I{SOURCES}"]

    def compile_one(source: Path) -> Path:
        made, words = folder / f"{source.stem}.o", folder / f"{source.stem}.command"
        fresh = made.exists() and words.exists() and words.read_text() == " ".join(command)
        if not fresh or made.stat().st_mtime < max(newest, source.stat().st_mtime):
            made.unlink(missing_ok=True)
            said = run(*command, "-c", str(source), "-o", str(made))
            folder.joinpath(f"{source.stem}.ptxas").write_text(said)
            words.write_text(" ".join(command))
        return made

    sources = sorted(SOURCES.joinpath("cuda").rglob("*.cu"), key=lambda path: -path.stat().st_size)  # longest first
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, sources))


def link(compiler: str, objects: list[Path], made: Path, host: str | None = None) -> None:
    """A shared library that needs neither libcudart nor libcuda to be loaded.

    Raises:
        Unavailable: it cannot be linked.
    """
    chosen = [f"-ccbin={host}"] if host else []
    libraries = Path(compiler).resolve().parent.parent / "lib"  # of NVIDIA's wheels, where nvcc does not look itself
    run(compiler, *chosen, "-shared", "-cudart=static", f"-L{libraries}", *map(str, objects), "-o", str(made))


def run(*command: str) -> str:
    """What a command prints, to both streams.

    Raises:
        Unavailable: it cannot be run, or fails.
    """
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        raise Unavailable(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}\n{done.stdout}".strip())
    return done.stdout
