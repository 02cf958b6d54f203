"""What the machine can do at most: a large copy and large products, kept for the processes that time cases.

python -m bench.gpu.ceilings OUT SCRATCH DATE [tiny]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from ncafast.bench import results
from ncafast.bench.ceilings import Ceilings
from ncafast.measuring.timing import spread

Rates = dict[str, tuple[float, str]]  # per second, and the unit
_FILE = "ceilings.json"


def main(words: list[str]) -> int:
    """Measure and keep them."""
    from bench.gpu.core import as_eager, timed
    from bench.gpu.rows import Rows
    from bench.gpu.turns import turn

    out, scratch, date, *tiny = words
    device = torch.device("cpu" if tiny else "cuda")
    rates: Rates = {}
    with turn(Path(scratch), 20):
        rows = Rows(Path(out), date, "tiny" if tiny else "gpu")
        limits = Ceilings(device, 64 if tiny else 0)
        for name, precision, work, unit in (
            ("copy", "ieee", limits.work("copy"), "B/s"),
            ("FMA", "ieee", limits.work("matmul"), "FLOP/s"),
            ("TF32", "tf32", limits.work("matmul"), "FLOP/s"),
        ):
            as_eager(precision)
            call = limits.calls()["copy" if name == "copy" else "matmul"]
            found = spread(timed(call, 10, device)).under(work)
            rates[name] = found.p50, unit
            rows.add(results.MACHINE, name, found.scaled(1e-9), f"G{unit}")
            print(f"{name}: {found.p50 / 1e9:.0f} G{unit}", flush=True)
    Path(scratch, _FILE).write_text(json.dumps(rates))
    return 0


def read(scratch: Path) -> Rates:
    """What was measured, or nothing."""
    path = scratch / _FILE
    return {name: (rate, unit) for name, (rate, unit) in json.loads(path.read_text()).items()} if path.exists() else {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
