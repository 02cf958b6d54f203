"""What the CPU's stand-in for a GPU claims of tensor cores, copies, clusters and barriers, asked of the GPU itself.

    python -m bench.gpu.selftest build PROGRAM [shim]    compile it, for this machine's GPU or for the CPU
    python -m bench.gpu.selftest run PROGRAM OUT DATE [ROUNDS MULTIPROCESSORS]

prints what is not as it should be, then times launches and barriers, whose rows go to the results.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

from bench.gpu.rows import Rows
from ncafast.bench import results
from ncafast.measuring.timing import Spread

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "backends"), str(ROOT / "csrc")]

import nvcc  # noqa: E402
from cuda_shim.build import compiler, shim_flags  # noqa: E402
from cuda_shim.selftest import ON_GPU  # noqa: E402

SOURCE = ROOT / "tests" / "backends" / "cuda_shim" / "selftest.cu"
_SECONDS = 10  # that a kernel may take


def main(words: list[str]) -> int:
    """Returns 1 where something is not as it should be."""
    if words[0] == "build":
        return build(Path(words[1]), "shim" in words[2:])
    program, out, date, *sizes = words[1:]
    failed = [name for name in ON_GPU if not right(program, name)]
    print(f"{len(ON_GPU) - len(failed)} of {len(ON_GPU)} are as they should be")
    return time_all([program, "time", *sizes], Rows(Path(out), date)) or int(bool(failed))


def build(program: Path, shim: bool) -> int:
    """Compile the program."""
    if shim:
        command = [compiler(), *shim_flags(), str(SOURCE), "-o", str(program)]
    else:
        found = nvcc.find()
        if found is None:
            print("there is no nvcc")
            return 1
        codes = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in nvcc.architectures(found)]
        command = [found, "-std=c++17", "-w", *codes, f"-I{ROOT / 'csrc'}", str(SOURCE), "-o", str(program)]
    return subprocess.run(command).returncode


def right(program: str, name: str) -> bool:
    """Whether a kernel, in a process of its own, does what it should."""
    try:
        done = subprocess.run([program, name], stdout=subprocess.PIPE, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{name}: {error}", flush=True)
        return False
    if done.returncode:
        print(f"{name}: exit code {done.returncode}: {done.stdout.strip()}", flush=True)
    return done.returncode == 0


def time_all(command: list[str], rows: Rows) -> int:
    """Rows of what launches and barriers cost, in microseconds."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=3 * _SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"times: {error}")
        return 1
    print(done.stdout, end="")
    lines = [line for line in done.stdout.splitlines() if "," in line and not line.startswith("#")]
    for found in csv.DictReader(lines):
        shape = f"{found['blocks']} blocks"
        if found["cluster"] != "1":
            shape += f", clusters of {found['cluster']}"
        note = "" if found["stores"] == "none" else f"stores {found['stores']}"
        value = Spread(*(float(found[name]) / 1e3 for name in ("p20", "p50", "p80")))
        rows.add(results.MACHINE, found["metric"], value, "us", shape=shape, note=note)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
