"""What a machine can do at most, measured in the same rounds as what is compared with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from ncafast import native
from ncafast.measuring.timing import Call, Spread, spread, synchronize

Rates = Mapping[str, tuple[Spread, str]]  # billions per second, and the unit

_FMA = "FMA "  # followed by the instruction set
_LEVEL_1 = 32 * 2**10  # bytes, where the system does not tell


class Ceiling(NamedTuple):
    """A call, how much it does (operations or bytes), and the unit of a billion of them per second."""

    call: Call
    work: float
    unit: str


class Ceilings:
    """The ceilings of a device.

    On every device: a large matrix product ("matmul") and a large copy ("copy"). Where `ncafast._C` is there, on the
    CPU also: multiply-adds on registers for every instruction set ("FMA avx512", ...), and copies that stay in a
    cache ("copy L1", ...).
    """

    def __init__(self, device: torch.device, side: int = 0) -> None:
        """`side` of the square matrices; 0 takes 1536 on a CPU, 8192 on a GPU. With any other, all calls are short."""
        self.device = device
        gpu = device.type == "cuda"
        count = 2**28 if gpu else 2**25 if side == 0 else 2**16
        rounds = 2**18 if side == 0 else 2**8
        side = side or (8192 if gpu else 1536)
        self._a, self._b = (torch.randn(side, side, device=device) for _ in range(2))
        self._out = torch.empty(side, side, device=device)
        self._from, self._to = torch.ones(count, device=device), torch.empty(count, device=device)
        self._found = {
            "matmul": Ceiling(self._matmul, 2.0 * side**3, "GFLOP/s"),
            "copy": Ceiling(self._copy, 2.0 * 4 * count, "GB/s"),
        }
        if not gpu:
            self._found |= _processor(torch.get_num_threads(), rounds)

    def calls(self) -> dict[str, Call]:
        """To be interleaved with what they are the ceilings of."""
        return {name: ceiling.call for name, ceiling in self._found.items()}

    def work(self, name: str) -> float:
        """Operations or bytes of one call."""
        return self._found[name].work

    def rates(self, seconds: Mapping[str, list[float]]) -> Rates:
        """Rates of the calls that took so long, in billions per second, with their units."""
        return {
            name: (spread(seconds[name]).under(1e-9 * ceiling.work), ceiling.unit)
            for name, ceiling in self._found.items()
        }

    def _matmul(self, number: int) -> None:
        with torch.no_grad():
            torch.matmul(self._a, self._b, out=self._out)
        synchronize(self.device)

    def _copy(self, number: int) -> None:
        self._to.copy_(self._from)
        synchronize(self.device)


def peak(rates: Rates, own: bool) -> float | None:
    """FMA peak in operations per second, or None where it is not known.

    It is the 80th percentile over the rounds, not the median: other programs only ever slow the loop down.

    Args:
        rates: of `Ceilings`.
        own: that of the instruction set that ncafast's kernels run on, which NCAFAST_CPU_ISA may name; otherwise that
            of the best one that this processor has.
    """
    extension = native.load()
    if extension is None:
        return None
    names = [extension.instruction_set()] if own else extension.instruction_sets()[:1]
    return next((1e9 * rates[_FMA + name][0].p80 for name in names if _FMA + name in rates), None)


def _processor(threads: int, rounds: int) -> dict[str, Ceiling]:
    extension = native.load()
    if extension is None:
        return {}
    found = {}
    for name in extension.instruction_sets():
        found[_FMA + name] = _loop(partial(extension.multiply_add, name, threads, rounds), "GFLOP/s")
    for level, size in _caches(threads).items():
        repeats = max(1, rounds * 64 // size)
        found[f"copy {level}"] = _loop(partial(extension.copy, threads, size // 2, repeats), "GB/s")
    return found


def _loop(run: Callable[[], float], unit: str) -> Ceiling:
    """A call that returns how much it did, which is always the same."""
    return Ceiling(lambda number: run(), run(), unit)


def _caches(threads: int) -> dict[str, int]:
    """Bytes of each level's data cache that a thread has: all of its own, and its part of one that threads share."""
    sizes = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, size, shared = (
                (index / name).read_text().strip() for name in ("type", "level", "size", "shared_cpu_list")
            )
        except OSError:
            continue
        number = re.fullmatch(r"(\d+)K", size)
        if kind != "Instruction" and number:
            sizes[f"L{level}"] = int(number[1]) * 2**10 // (threads if re.search("[-,]", shared) else 1)
    return sizes or {"L1": _LEVEL_1}
