"""The tables of csrc/cuda/MODEL.md, from the sizes that the kernels are launched with and what ptxas said of them.

    python tests/backends/cuda_model.py [--write]

prints them, or puts them into the file, where tests/backends/test_cuda_compiled.py expects them. Needs nvcc and g++.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from cuda_shim.build import built
from cuda_slots import TILES, counted

from ncafast import Alive, Rule
from ncafast.backends.native_call import rule_numbers, three_axes

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "csrc" / "cuda" / "MODEL.md"
START, END = "<!-- {} -->", "<!-- end -->"

# An H200 as in the floors of the table: multiprocessors, their clock in Hz, TF32 products m16n8k8 a cycle and
# multiprocessor that mma.sync reaches (63 % of the peak on Hopper, arXiv 2501.12084), bytes/s of memory and of the L2.
UNITS, CLOCK, PRODUCTS, MEMORY, L2 = 132, 1.755e9, 0.63, 4.3e12, 5.5e12
CACHED = 40e6  # bytes of a kernel's arrays that stay in the L2
SCHEDULERS = 4  # of a multiprocessor, each of which issues an instruction of a warp in a cycle
LAUNCH = 2.0  # us from one kernel's end to the next one's work
GPUS = {"A100": (80, 108, 164), "H100": (90, 132, 228)}  # sm, multiprocessors, KiB of shared memory of each


Counts = dict[str, tuple[float, dict[str, float]]]  # of cuda_slots.counted

# Microseconds that the model said before slots were counted and kernels changed: forward, and backward with it.
BEFORE: dict[str, tuple[int, int | None]] = {
    "MaxNCA 32 x 64^2": (25, 89),
    "Med-NCA coarse 80^2, 7x7": (11, 31),
    "Med-NCA coarse 16 x 80^2, 7x7": (33, 94),
    "Med-NCA fine 320^2": (18, 55),
    "texture 8 x 128^2": (8, 29),
    "growing 8 x 72^2": (10, 19),
    "the same, filters learn": (10, 26),
    "3-D 128^3, 3^3": (306, 957),
    "the same, no norm, fixed": (103, 460),
    "3-D 128^3, 7^3": (2844, 8306),
    "8192^2, H 64": (2000, None),
    "8192^2, H 128": (2544, None),
}


@dataclass(frozen=True)
class Case:
    """A workload of the table, and the time no H200 can beat in TF32: products or memory, us a step."""

    name: str
    rule: Rule
    batch: int
    size: tuple[int, ...]
    forward: float
    both: float | None
    fixed: bool = False  # filters do not learn


_MAX = Rule(16, filter_bias=True, padding="reflect", norm="batch")
_COARSE = Rule(16, num_filters=1, hidden=64, norm="batch", kernel_size=7)
_FINE = Rule(16, num_filters=1, hidden=64, norm="batch")
_TEXTURE = Rule(12, num_filters=4, hidden=96, identity=False, padding="circular")
_CUBE = Rule(16, ndim=3, num_filters=1, hidden=64, norm="batch")
CASES = [
    Case("MaxNCA 32 x 64^2", _MAX, 32, (64, 64), 5.0, 18.1),
    Case("Med-NCA coarse 80^2, 7x7", _COARSE, 1, (80, 80), 0.2, 0.6),
    Case("Med-NCA coarse 16 x 80^2, 7x7", _COARSE, 16, (80, 80), 3.0, 10.0),
    Case("Med-NCA fine 320^2", _FINE, 1, (320, 320), 3.0, 7.6),
    Case("texture 8 x 128^2", _TEXTURE, 8, (128, 128), 3.1, 11.6, fixed=True),
    Case("growing 8 x 72^2", Rule(16, alive=Alive()), 8, (72, 72), 1.4, 5.1, fixed=True),
    Case("the same, filters learn", Rule(16, alive=Alive()), 8, (72, 72), 1.4, 5.1),
    Case("3-D 128^3, 3^3", _CUBE, 1, (128, 128, 128), 62.4, 156.0),
    Case("the same, no norm, fixed", replace(_CUBE, norm="none"), 1, (128, 128, 128), 62.4, 156.0, fixed=True),
    Case("3-D 128^3, 7^3", replace(_CUBE, kernel_size=7), 1, (128, 128, 128), 351.0, 1382.0),
    Case("8192^2, H 64", replace(_FINE, norm="none"), 1, (8192, 8192), 1998.0, None),
    Case("8192^2, H 128", replace(_FINE, norm="none", hidden=128), 1, (8192, 8192), 1998.0, None),
]


@dataclass(frozen=True)
class Kernel:
    """One launch of the model, per cell of the grid: products m16n8k8, wavefronts of shared memory or L1, bytes."""

    name: str
    box: tuple[int, ...]
    threads: int
    shared: int
    flop: float
    products: float
    wavefronts: float
    memory: float
    l2: float
    cells: int
    slots: float = 0.0  # 0 where they were not counted for this shape

    def terms(self) -> dict[str, float]:
        """Microseconds that each thing takes which all else may wait for."""
        each = self.cells / UNITS / CLOCK * 1e6
        stay = self.cells * self.memory < CACHED
        moved = self.cells * max(self.l2 / L2, 0.0 if stay else self.memory / MEMORY) * 1e6
        return {
            "products": each * self.products / PRODUCTS,
            "wavefronts": each * self.wavefronts,
            "bytes": moved,
            "slots": each * self.slots / SCHEDULERS,
        }

    def time(self) -> float:
        """Microseconds: the largest of products, wavefronts, bytes and slots."""
        return max(self.terms().values())


@cache
def module() -> Any:
    """The CUDA backend compiled for the CPU: it knows the sizes of launches."""
    spec = importlib.util.spec_from_file_location("_CUDA", built())
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def launches(case: Case, sm: int, units: int) -> list[tuple[str, tuple[int, ...], int, int, int]]:
    """(kernel, tile, tiles, threads, bytes of shared memory) on such a GPU."""
    before = os.environ.get("NCAFAST_SHIM_CAPABILITY")
    os.environ["NCAFAST_SHIM_CAPABILITY"] = str(sm)
    try:
        question = rule_numbers(case.rule), case.batch, three_axes(case.size), case.fixed, units
        found: list[Any] = module().launches(*question)
    finally:
        del os.environ["NCAFAST_SHIM_CAPABILITY"]
        if before is not None:
            os.environ["NCAFAST_SHIM_CAPABILITY"] = before
    return found


def kernels(case: Case) -> Iterator[Kernel]:
    """What the model knows of every launch that goes over the grid; arithmetic as in the kernels, in TF32."""
    rule, rate = case.rule, case.rule.fire_rate
    taps = math.prod(rule.kernel_size) if rule.num_filters else 0
    c, f, own = rule.channels, rule.num_filters, rule.channels * rule.identity
    q, c8 = -(-c // 4), 16 if c <= 16 else 32  # quads of channels
    p, h = -(-(own + f * c) // 16) * 16, -(-rule.hidden[0] // 32) * 32
    wide = p > 48 or c8 > 16
    reach = [k // 2 for k in rule.kernel_size] if rule.num_filters else [0] * rule.ndim
    reach = [0] * (3 - rule.ndim) + reach
    cells = case.batch * math.prod(case.size)
    made = launches(case, 90, UNITS)
    on_chip, norms = not any(kernel == "perception_backward" for kernel, *_ in made), rule.norm == "batch"

    def see(together: int) -> float:
        """Wavefronts of one cell's perception: states, filters and what is written."""
        passes = f // 2 + f % 2
        return q / 8 * (taps * passes + (own > 0) * 2 + f) + taps * f * q / 32 / together

    chunks = f // 4 + f % 4 // 2 + f % 2
    push = q * taps * (chunks / 4 + f / 32) + (own + f * c) / 32  # wavefronts of one cell
    state = 4 * c
    for kernel, box, _, threads, shared in made:
        around = math.prod(b + 2 * r for b, r in zip(box, reach, strict=True)) / math.prod(box)
        if case.rule.ndim == 3 and box[0] >= 2 * reach[0]:  # walking along z: only new planes are fetched
            fetched = around * box[0] / (box[0] + 2 * reach[0])
        else:
            fetched = around
        tile = fetched * q / 8  # stores of a tile's copy
        seen = 2 * taps * f * c
        edge = 1 - math.prod(max(0, b - 2 * r) / b for b, r in zip(box, reach, strict=True))
        left, taken = (around - 1) * 16 * q, (around - 1 + 2 * edge) * 16 * q  # bytes at tiles' borders
        if kernel == "step_kernel":
            macs = p * h + h * c8
            kept = min(p, 48) if c8 == 16 else 0  # columns of y whose operands a warp reads once
            reads = (kept + h / 32 * (2 * p - kept) + h / 32 * (4 + c8)) / 32
            yield Kernel(kernel, box, threads, shared, rate * (2 * macs + seen), rate * macs / 1024,
                         rate * (reads + see(4)) + tile, 2 * state, fetched * state + state, cells)  # fmt: skip
        elif kernel == "sum_moments":
            slices = p // 16
            blocks = slices // 2 + 1  # of 16 columns, that a slice of 16 rows has sums of
            yield Kernel(kernel, box, threads, shared, 32 * p * blocks + seen, slices * (2 * blocks + 1) / 8,
                         slices * (4 + 4 * blocks) / 8 + see(2) + tile, state, fetched * state, cells)  # fmt: skip
        elif kernel == "mlp_backward":
            units = 1 if wide else 2
            warps = h / 16 / units
            macs = 3 * p * h + 2 * c8 * h
            reads = warps / 16 * ((p + c8) / 8 * (4 * units + 4) + 9 * units + (c8 + p) / 2) + p / 16 * h / 8 * 12 / 32
            wave = rate * (reads + see(1)) + tile
            dy = rate * 4 * p if norms else 4 * p
            memory, l2 = state + rate * state + dy, fetched * state + rate * state + dy
            flop = rate * (2 * macs + seen)
            if on_chip and norms:
                memory, l2 = memory + taken, l2 + taken
            elif on_chip:
                wave += rate * push + around * q * 3 / 8
                memory, l2 = 3 * state + left + taken, fetched * state + (2 + rate) * state + left + taken
                flop += rate * seen
            yield Kernel(kernel, box, threads, shared, flop, rate * macs / 1024, wave, memory, l2, cells)
        elif kernel == "batch_norm_backward":
            wave = p / 8 * (4 + p / 4) / 16 + p / 32 + see(2) + tile
            wave += push + around * q * 3 / 8 if on_chip else p / 32
            rows = 0 if case.fixed else taps / rule.kernel_size[-1]
            memory = rate * 4 * p + (2 * state + left if on_chip else 4 * p)
            flop = 2 * p * p + seen * (1 + on_chip + (not case.fixed))
            yield Kernel(kernel, box, threads, shared, flop, p * p / 1024, wave + rows * f * q * 2 / 8,
                         state + memory, fetched * state + memory, cells)  # fmt: skip
        elif kernel == "filters_back":
            rows = taps / rule.kernel_size[-1]
            yield Kernel(kernel, box, threads, shared, seen, 0, rows * f * q * 2 / 8 + tile,
                         state + 4 * p, fetched * state + 4 * p, cells)  # fmt: skip
        else:
            yield Kernel(kernel, box, threads, shared, seen, 0, taps * f * (q / 8 + q / 32) + q / 2,
                         2 * state + 4 * p, 2 * state + 4 * p, cells)  # fmt: skip


def with_slots(case: Case, counts: Counts) -> list[Kernel]:
    """The case's kernels with the slots of those whose shape is the one that cuda_slots.py counts for."""
    rule, found = case.rule, list(kernels(case))
    same = (rule.channels, rule.num_filters, rule.kernel_size, rule.hidden, rule.identity) == (
        16, 2, (3, 3), (128,), True)  # fmt: skip
    pushes = not any(
        kernel.name in ("perception_backward", "batch_norm_backward") for kernel in found
    )  # as it is not counted
    made = []
    for kernel in found:
        tile = TILES[kernel.name][1] if kernel.name in TILES else None
        fits = same and tile and kernel.box == (1, *tile.box) and kernel.threads == tile.threads
        if tile and fits and not (kernel.name == "mlp_backward" and pushes):
            kernel = replace(kernel, slots=counts[kernel.name][0] / tile.cells)
        made.append(kernel)
    return made


def small_launches(rule: Rule, *, backward: bool) -> int:
    """Launches of a step that do next to nothing: sums over blocks, folding a norm, the alive mask."""
    return 0 if backward else 3 * (rule.alive is not None)


def blocks(registers: int, memory: int, threads: int, shared: int) -> int:
    """Blocks on a multiprocessor at once, with so many registers a thread and so many KiB in all."""
    warps = 65536 // (-(-registers // 8) * 256)
    return min(memory * 1024 // (shared + 1024), warps // (threads // 32), 2048 // threads, 32)


def resources(rows: list[dict[str, Any]]) -> dict[tuple[str, int], int]:
    """Registers of the narrow TF32 instance that the cases take, by kernel and architecture."""
    wanted = {
        "step_kernel": "tf32 2 0",
        "sum_moments": "tf32 6",
        "mlp_backward": "tf32 0",
        "batch_norm_backward": "tf32 6",
    }
    wanted |= {"filters_back": "3", "perception_backward": ""}
    return {(r["kernel"], r["sm"]): r["registers"] for r in rows if wanted.get(r["kernel"]) == r["instance"]}


def table(head: str, rows: list[str]) -> str:
    """Markdown."""
    return "\n".join([head, "|".join(["", *["---"] * (head.count("|") - 1), ""]), *rows])


def by_kernel(registers: dict[tuple[str, int], int], counts: Counts) -> str:
    """A row for each kernel of each case."""
    rows = []
    for case in CASES:
        there = {name: {made[0]: made for made in launches(case, sm, units)} for name, (sm, units, _) in GPUS.items()}
        for kernel in with_slots(case, counts):
            if case.both is None and kernel.name != "step_kernel":
                continue
            words = []
            for name, (sm, _, memory) in GPUS.items():
                *_, threads, shared = there[name][kernel.name]
                count = blocks(registers[kernel.name, sm], memory, threads, shared)
                words.append(f"{count} of {threads}, {shared / 1024:.0f} KiB")
            box = " x ".join(str(n) for n in kernel.box[3 - case.rule.ndim :])
            rows.append(
                f"| {case.name} | `{kernel.name}` | {box} | {' | '.join(words)} | {kernel.flop / 1000:.1f} | "
                f"{kernel.memory:.0f} | {kernel.products:.1f} | {kernel.wavefronts:.1f} | "
                f"{f'{kernel.slots:.0f}' if kernel.slots else ''} | {kernel.time():.0f} |"
            )
    head = "| case | kernel | tile | A100 | H100 | kFLOP | bytes | products | wavefronts | slots | us |"
    return table(head, rows)


def largest(found: list[Kernel], launched: float) -> str:
    """What most of a step's time is taken by."""
    shares = {"launches": launched}
    for kernel in found:
        name, share = max(kernel.terms().items(), key=lambda term: term[1])
        shares[f"{name} of `{kernel.name}`"] = share
    return max(shares, key=lambda name: shares[name])


def by_case(counts: Counts) -> str:
    """A row for each case: the model's time of a step, the one without slots, the floor, the largest term."""
    rows = []
    for case in CASES:
        found = with_slots(case, counts)
        forward = [k for k in found if k.name in ("step_kernel", "sum_moments")]
        backward = [k for k in found if k not in forward]
        launched = LAUNCH * (len(forward) + small_launches(case.rule, backward=False))
        first = launched + sum(k.time() for k in forward)
        before = BEFORE[case.name]
        words = [f"{before[0]}", f"{first:.0f}", f"{case.forward:g}", f"{first / case.forward:.1f}"]
        if case.both is not None:
            launched += LAUNCH * (len(backward) + small_launches(case.rule, backward=True))
            both = launched + sum(k.time() for k in found)
            words += [f"{before[1]}", f"{both:.0f}", f"{case.both:g}", f"{both / case.both:.1f}"]
            words.append(largest(found, launched))
        else:
            words += ["", "", "", "", largest(forward, launched)]
        rows.append(f"| {case.name} | {' | '.join(words)} |")
    return table("| case | old | forward | floor | ratio | old | forward + backward | floor | ratio | largest |", rows)


def of_kernels(rows: list[dict[str, Any]]) -> str:
    """Registers of every TF32 instance and of those without a precision, A100 and H100."""
    shown: dict[tuple[str, str], dict[int, int]] = {}
    for row in rows:
        if not row["instance"].startswith(("ieee", "tf32x3", "bf16")):
            shown.setdefault((row["kernel"], row["instance"]), {})[row["sm"]] = row["registers"]
    lines = [f"| `{name}` | {words} | {regs[80]} | {regs[90]} |" for (name, words), regs in sorted(shown.items())]
    return table("| kernel | instance | sm_80 | sm_90 |", lines)


def written(rows: list[dict[str, Any]], counts: Counts, version: str) -> str:
    """The file with its tables as they should be, from this nvcc."""
    text = re.sub(r"nvcc [\d.]+", f"nvcc {version}", FILE.read_text())
    parts = {"registers": of_kernels(rows), "kernels": by_kernel(resources(rows), counts), "cases": by_case(counts)}
    for name, made in parts.items():
        before, rest = text.split(START.format(name) + "\n", 1)
        text = before + START.format(name) + "\n" + made + "\n" + END + rest.split(END, 1)[1]
    return text


if __name__ == "__main__":
    from test_cuda_compiled import objects, version
    from test_cuda_compiled import table as compiled

    made = written(compiled(), counted(objects(), 90), version())
    if "--write" in sys.argv:
        FILE.write_text(made)
    else:
        print(made)
