"""Compiles every kernel that some rollouts launch, for GPUs that need not be there, and reports what they use.

    python tests/backends/triton_suite/compiled.py [80 90 100] [RULE ...] [ieee] [float16]

prints a table: registers, spilled bytes, shared memory, tensor-core instructions, and how often it rounds to the
nearest number of half precision.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature

from ncafast import Alive, Rule
from ncafast.backends import triton as backend
from ncafast.backends.plan import Call, Plan
from ncafast.backends.precision import precision, use_precision
from ncafast.backends.triton_kernels import chosen, rollout, rollout_back

# The published models' rules, and one that takes several chunks; sizes are those of the benchmark.
RULES = {
    "maxnca": (Rule(16, filter_bias=True, padding="reflect", norm="batch", mutable=(3, 16)), (64, 64)),
    "maxnca plain": (Rule(16, filter_bias=True, padding="reflect", mutable=(3, 16)), (64, 64)),
    "med fine": (Rule(16, num_filters=1, hidden=64, norm="batch", filter_bias=True), (320, 320)),
    "med coarse": (Rule(16, num_filters=1, hidden=64, norm="batch", kernel_size=7), (80, 80)),
    "texture": (Rule(12, num_filters=4, hidden=96, identity=False, padding="circular"), (128, 128)),
    "texture 128": (Rule(128, num_filters=4, hidden=128, identity=False, padding="circular"), (128, 128)),
    "growing": (Rule(16, alive=Alive()), (72, 72)),
    "digits": (
        Rule(20, perception="dense", dense_channels=80, dense_activation="relu", identity=False, hidden=80,
             alive=Alive(), restore=(19, 20)), (28, 28),
    ),
    "3d": (Rule(16, ndim=3, num_filters=1, hidden=64, norm="batch"), (48, 48, 48)),
    "3d 7": (Rule(16, ndim=3, num_filters=1, hidden=64, norm="batch", kernel_size=7), (48, 48, 48)),
    "wide": (Rule(32, num_filters=3, hidden=256, activation="gelu"), (64, 64)),
    "deep": (Rule(16, hidden=(64, 64, 64), norm="running", extra=2), (64, 64)),
    "layer norm": (Rule(16, norm="layer"), (64, 64)),
    "group norm": (Rule(16, norm="group", norm_groups=8), (64, 64)),
}  # fmt: skip


def launches(
    rule: Rule, size: tuple[int, ...], architecture: int, dtype: torch.dtype
) -> list[tuple[Any, dict[str, Any]]]:
    """(kernel, arguments by name) of everything that two steps forward and backward launch; nothing is run."""
    seen: list[tuple[Any, dict[str, Any]]] = []

    def record(kernel: Any, grid: Any) -> Any:
        def note(*args: Any, **kwargs: Any) -> None:
            seen.append((kernel, dict(zip(kernel.arg_names, args, strict=False)) | kwargs))

        return note

    before = JITFunction.__getitem__, chosen.capability
    JITFunction.__getitem__, chosen.capability = record, lambda device: architecture // 10
    try:
        x = torch.zeros(1, rule.channels, *size, dtype=dtype)
        params = [torch.zeros(shape) for shape in rule.param_shapes().values()]
        extra = torch.zeros(1, rule.extra, *size, dtype=dtype) if rule.extra else None
        plan = Plan(2, 0, 0, 1, 1, precision())
        done = backend.outputs(rule, x, plan)
        ready = rollout.Rollout(Call(rule, x, params, extra, None, torch.zeros(1, dtype=torch.int64), plan))
        ready.programs = 264
        rollout.forward(ready, done)
        wanted = {name: "running" not in name for name in rule.param_shapes()}
        back = rollout_back.Backward(ready, done.tape, wanted, None)
        back.run(done.history, torch.zeros_like(x), None)
    finally:
        JITFunction.__getitem__, chosen.capability = before
    return seen


def source(kernel: Any, given: dict[str, Any], target: GPUTarget) -> tuple[ASTSource, dict[str, Any]]:
    """What the compiler takes for such a launch, as Triton itself finds it from the arguments, and its options."""
    backend = make_backend(target)
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    arguments, specialization, options = bind(**given, debug=False)
    _, signature, constants, attributes = kernel._pack_args(backend, options, arguments, specialization, options)
    return ASTSource(kernel, signature, constants, attributes), options


def resources(cubin: bytes, ptx: str) -> dict[str, int]:
    """Registers per thread, bytes of stack (where spills go) and how many instructions run on tensor cores."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"

    def printed(option: str) -> str:
        return subprocess.run([tool, option, file.name], capture_output=True, text=True, check=True).stdout

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        ((registers, stack),) = re.findall(r"REG:(\d+) STACK:(\d+)", printed("-res-usage"))
        # What has neither product nor stack need not be disassembled, which takes as long as compiling it.
        sass = printed("-sass") if "mma" in ptx or int(stack) else ""
    return {"registers": int(registers), "stack": int(stack), "local": len(re.findall(r"\b(?:LDL|STL)\b", sass)),
            "tensor": len(re.findall(r"\b(?:HMMA|HGMMA|UTCHMMA|UTC\w*MMA)", sass))}  # fmt: skip


def table(architectures: list[int], names: list[str], rounding: str, dtype: torch.dtype) -> list[dict[str, Any]]:
    """A row for each kernel variant that is not the same as one before."""
    rows, done = [], set()
    for name in names:
        for architecture in architectures:
            with use_precision(rounding):
                found = launches(*RULES[name], architecture, dtype)
            for kernel, given in found:
                target = GPUTarget("cuda", architecture, 32)
                src, options = source(kernel, given, target)
                key = (src.hash(), architecture, str(options))
                if key in done:
                    continue
                done.add(key)
                compiled = triton.compile(src, target=target, options=options)
                rows.append(
                    {"rule": name, "kernel": kernel.__name__, "sm": architecture, "precision": rounding,
                     "shared": compiled.metadata.shared, "warps": compiled.metadata.num_warps,
                     "narrowed": len(re.findall(r"cvt\.rn\.(?:b?f16)", compiled.asm["ptx"])),
                     **resources(compiled.asm["cubin"], compiled.asm["ptx"])}
                )  # fmt: skip
    return rows


def main() -> None:
    """Prints the table as text, or with --json as one JSON line per row."""
    words = [word for word in sys.argv[1:] if word not in ("--json",)]
    numbers = [int(word) for word in words if word.isdigit()] or [80, 90, 100]
    rounding = next((word for word in words if word in ("ieee", "tf32", "tf32x3", "bf16")), "tf32")
    names = [word for word in words if word in RULES] or list(RULES)
    dtype = next((getattr(torch, word) for word in words if word in ("float16", "bfloat16")), torch.float32)
    rows = table(numbers, names, rounding, dtype)
    if "--json" in sys.argv:
        print("\n".join(json.dumps(row) for row in rows))
        return
    for row in [dict(zip(rows[0], rows[0], strict=True)), *rows]:
        print("  ".join(f"{value!s:<14}" for value in row.values()))


if __name__ == "__main__":
    main()
