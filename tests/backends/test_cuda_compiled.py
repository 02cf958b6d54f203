"""The CUDA kernels as nvcc compiles them for GPUs that need not be there: registers, spills, tensor cores, linking.

    python tests/backends/test_cuda_compiled.py

prints the table. Everything is compiled for sm_90, which takes minutes; NCAFAST_CUDA_ARCHS="80;100" adds these.
Objects of the build are used again where it was for the same architectures.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

import cuda_model
import cuda_slots
import pybind11
import pytest
from architectures import ARCHITECTURES, skip_unless
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "csrc"))
import nvcc  # noqa: E402

REGISTERS = 65536  # of a multiprocessor, handed to warps in units of 256
WARPS = {80: 64, 90: 64, 100: 64}  # that a multiprocessor holds at most

# Bytes of spills per thread, by kernel, precision and architecture: all other instances keep everything in registers.
SPILLS: dict[tuple[str, str, int], int] = {}
# Issue slots of a tile of MaxNCA's shape at most, by architecture, as cuda_slots.py estimates them and a little more.
# The bars are 12,000 for `step_kernel`, 15,000 for `mlp_backward`, and for `sum_moments` half of what it took at first.
# Estimated in the same way, `step_kernel` took about 36,000 and `sum_moments` about 33,000 before offsets came from
# tables and operands from ldmatrix.
SLOTS = {
    "step_kernel": {80: 10_700, 90: 11_000, 100: 10_850},
    "mlp_backward": {80: 13_950, 90: 14_500, 100: 13_950},
    "sum_moments": {80: 13_000, 90: 14_800, 100: 14_000},
    "batch_norm_backward": {80: 23_300, 90: 24_600, 100: 21_500},
}
# Kernels whose products run on tensor cores, in every precision but ieee.
TENSOR = (
    *("chip_kernel", "step_kernel", "sum_moments", "mlp_backward", "batch_norm_backward"),
    *("layers_step", "layers_back", "sum_layers", "dense_back"),
)

needs_nvcc = pytest.mark.skipif(nvcc.find() is None, reason="there is no nvcc")
PRECISIONS = ("ieee", "tf32", "tf32x3", "bf16")  # in the order of csrc/rollout.h
STATES = {"7Float16": "float16", "8Bfloat16": "bfloat16", "6Stored": "any states"}  # other than float32 alone


@cache
def objects() -> tuple[Path, ...]:
    """All of csrc/cuda, compiled once for all processes that test."""
    folder = ROOT / "build" / "cuda"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        return tuple(nvcc.compile_all(nvcc.find(), ARCHITECTURES, folder))


def version() -> str:
    """The compiler's own."""
    found = re.search(r"release ([\d.]+)", nvcc.run(nvcc.find(), "--version"))
    assert found
    return found.group(1)


def names(mangled: str) -> tuple[str, str]:
    """A kernel's own name and the rest of it, with the number of a precision and the type of states in words."""
    kernel = re.search(r"4cuda(?:12_GLOBAL__N_1)?(\d+)", mangled)
    assert kernel, mangled
    start = kernel.end()
    rest = mangled[start + int(kernel.group(1)) :]
    found = re.search(r"9PrecisionE(\d)", rest)
    numbers = re.findall(r"L[ib](\d+)E", rest)
    words = [PRECISIONS[int(found.group(1))]] if found else []
    states = next((word for mark, word in STATES.items() if mark in rest), None)
    return mangled[start : start + int(kernel.group(1))], " ".join([*words, *numbers, *([states] if states else [])])


def table() -> list[dict[str, str | int]]:
    """A row for each instance and architecture, from what ptxas said."""
    pattern = re.compile(
        r"entry function '(?P<name>\w+)' for 'sm_(?P<sm>\d+)a?'.*?(?P<stack>\d+) bytes stack frame, "
        r"(?P<stored>\d+) bytes spill stores, (?P<loaded>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers"
        r"(?:[^\n]*?(?P<shared>\d+) bytes smem)?",
        re.DOTALL,
    )
    rows = []
    for made in objects():
        for found in pattern.finditer(made.with_suffix(".ptxas").read_text()):
            kernel, instance = names(found["name"])
            sm, registers = int(found["sm"]), int(found["registers"])
            rows.append(
                {"kernel": kernel, "instance": instance, "sm": sm, "registers": registers,
                 "spills": int(found["stored"]) + int(found["loaded"]), "shared": int(found["shared"] or 0),
                 "warps": min(WARPS[sm], REGISTERS // (-(-registers // 8) * 256))}
            )  # fmt: skip
    return rows


def tool(name: str) -> str | None:
    """A program of the CUDA toolkit, which Triton brings too."""
    folders = [Path(nvcc.find() or "").parent]
    triton = importlib.util.find_spec("triton")
    if triton and triton.origin:
        folders.append(Path(triton.origin).parent / "backends" / "nvidia" / "bin")
    return next((found for folder in folders if (found := shutil.which(name, path=str(folder)))), shutil.which(name))


@needs_nvcc
def test_kernels_keep_everything_in_registers():
    rows = table()
    assert {row["sm"] for row in rows} == {int(a) for a in ARCHITECTURES}
    for row in rows:
        assert row["spills"] <= SPILLS.get((row["kernel"], row["instance"], row["sm"]), 0), row
        assert row["shared"] <= 48 * 1024, row
        assert row["warps"] >= 8, row


@needs_nvcc
@pytest.mark.skipif(tool("cuobjdump") is None, reason="there is no cuobjdump")
def test_products_run_on_tensor_cores():
    """Where the precision is meant for them, and not in plain float32."""
    seen = set()
    for made in objects():
        text = subprocess.run(
            [tool("cuobjdump"), "-sass", "-arch", "sm_90", made], capture_output=True, text=True, check=True
        ).stdout
        for part in text.split("Function : ")[1:]:
            kernel, instance = names(part.split(None, 1)[0])
            if kernel not in TENSOR:
                continue
            seen.add(kernel)
            kinds = set(re.findall(r"\b(HMMA\.\S+)", part))
            wanted = {"ieee": set(), "tf32": {"TF32"}, "tf32x3": {"TF32"}, "bf16": {"BF16"}}[instance.split()[0]]
            if kernel == "step_kernel" and instance.endswith(" 1"):  # under batch norm it sums moments too
                wanted |= {"TF32"}
            if kernel == "mlp_backward" and wanted:  # under batch norm it makes the map of all cells' dL/dy too
                wanted |= {"TF32"}
            assert {kind.rsplit(".", 1)[1] for kind in kinds} == wanted, (kernel, instance, kinds)
    assert seen == set(TENSOR)


@needs_nvcc
@pytest.mark.skipif(tool("cuobjdump") is None or tool("nvdisasm") is None, reason="there is no disassembler")
@pytest.mark.parametrize("sm", WARPS)
def test_kernels_keep_within_their_issue_slots(sm):
    skip_unless(sm, ARCHITECTURES)
    counts = cuda_slots.counted(objects(), sm)
    assert counts.keys() == SLOTS.keys()
    for kernel, (total, shares) in counts.items():
        assert total <= SLOTS[kernel][sm], (kernel, shares)


@needs_nvcc
def test_the_model_tells_of_these_kernels():
    """After a change `python tests/backends/cuda_model.py --write` puts the new tables into csrc/cuda/MODEL.md."""
    skip_unless(80, ARCHITECTURES)
    text = cuda_model.FILE.read_text()
    if f"nvcc {version()}" not in text:
        pytest.skip("its registers are another compiler's")
    assert text == cuda_model.written(table(), cuda_slots.counted(objects(), 90), version())


@needs_nvcc
def test_the_module_needs_no_cuda_to_be_loaded(tmp_path):
    """It is linked as setup.py does, from the objects above, and loaded where there is no GPU."""
    folders = [ROOT / "csrc", pybind11.get_include(), sysconfig.get_path("include")]
    binding, module = tmp_path / "bind_cuda.o", tmp_path / "_CUDA.so"
    flags = ["-std=c++17", "-fPIC", "-fvisibility=hidden", *(f"-I{folder}" for folder in folders)]
    nvcc.run(os.environ.get("CXX", "g++"), *flags, "-c", str(ROOT / "csrc" / "bind_cuda.cpp"), "-o", str(binding))
    nvcc.link(nvcc.find(), [*objects(), binding], module)
    linked = nvcc.run("ldd", str(module))
    for library in ("libtorch", "libc10", "libcuda", "libcudart", "libpython"):
        assert library not in linked
    code = "import importlib.util as u; s = u.spec_from_file_location('ncafast._CUDA', sys.argv[1])"
    code = f"import sys; {code}; m = u.module_from_spec(s); s.loader.exec_module(m); print(m.__name__)"
    assert nvcc.run(sys.executable, "-c", code, str(module)).strip() == "ncafast._CUDA"


def main() -> None:
    """Prints the table."""
    rows = table()
    for row in [dict(zip(rows[0], rows[0], strict=True)), *rows]:
        print("  ".join(f"{value!s:<14}" for value in row.values()))


if __name__ == "__main__":
    main()
