"""The short table at the end of a run, from the rows of its file and the lines that the tests left.

python -m bench.gpu.table OUT SCRATCH DATE
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ncafast.bench import report, results
from ncafast.bench.modes import FORWARD, TRAIN
from ncafast.bench.results import MACHINE, Row

MOST = 11_000  # characters: what people see of a remote machine's output is often no more than its end
_KERNELS = 6  # of a case


def main(words: list[str]) -> int:
    """Print it."""
    out, scratch, date = words
    rows = [row for path in sorted(Path(out).glob("*.csv")) for row in results.read(path) if row.date >= date]
    summary = Path(scratch, "summary.txt")
    print("\n".join(table(rows, summary.read_text().splitlines() if summary.exists() else [])))
    return 0


def table(rows: Sequence[Row], tests: Sequence[str]) -> list[str]:
    """Lines, the most telling ones last."""
    blocks = [list(block) for block in (_kernels(rows), _machine(rows), tests, _times(rows))]
    lines = [line for block in blocks if block for line in ("", *block)]
    while sum(len(line) + 1 for line in lines) > MOST:
        del lines[0]
    return lines


def _times(rows: Sequence[Row]) -> Iterator[str]:
    """A line per case and provider."""
    found = {(row.case, row.provider, row.mode, row.metric): row for row in rows}
    names = dict.fromkeys((row.case, row.provider) for row in rows if row.case)
    columns = ("train", "forward", "x eager", "error", "gradients", "floor")
    yield f"{'case':<11}{'provider':<31}" + "".join(f"{name:>10}" for name in columns) + "  ms/step"
    for case, provider in names:
        absent = found.get((case, provider, TRAIN, results.ABSENT))
        if absent is not None:
            yield f"{case:<11}{provider:<31}not measured: {absent.note}"[:150]
            continue
        precision = provider.rpartition(":")[2]
        precision = "ieee" if precision == "tf32x3" else precision  # its error is that of float32
        eager = found.get((case, f"eager:{precision}", TRAIN, "time")) or found.get((case, "eager", TRAIN, "time"))
        train = found.get((case, provider, TRAIN, "time"))
        ratio = f"{eager.value / train.value:.2f}" if eager and train else "-"
        shares = [row.value for row in rows if _is_share(row, case, provider)]
        cells = [
            _value(train),
            _value(found.get((case, provider, FORWARD, "time"))),
            ratio,
            *(_value(found.get((case, provider, TRAIN, metric))) for metric in ("error", "gradient error")),
            f"{max(shares):.0f} %" if shares else "-",
        ]
        red = "  RED" if (case, provider, TRAIN, results.WRONG) in found else ""
        yield f"{case:<11}{provider:<31}" + "".join(f"{cell:>10}" for cell in cells) + red


def _is_share(row: Row, case: str, provider: str) -> bool:
    """Whether it is a share of the copy, or of what products of this precision reach."""
    products = "share of TF32" if provider.endswith(":tf32") else "share of FMA"
    return (row.case, row.provider, row.mode) == (case, provider, TRAIN) and row.metric in ("share of copy", products)


def _value(row: Row | None) -> str:
    return "-" if row is None else report.short(row.value)


def _machine(rows: Sequence[Row]) -> Iterator[str]:
    """Ceilings, launches, barriers."""
    for row in rows:
        if row.provider == MACHINE and row.p50:
            where = ", ".join(part for part in (row.shape, row.note) if part)
            yield f"{row.metric:<30}{row.value:>9.3g} {row.unit:<10}{where}"


def _kernels(rows: Sequence[Row]) -> Iterator[str]:
    """The longest kernels of each case on the first of our providers that has some."""
    first: dict[str, str] = {}
    for row in rows:
        if row.metric == "kernel" and row.provider.startswith("ncafast:cuda"):
            first.setdefault(row.case, row.provider)
    for case, provider in first.items():
        mine = [row for row in rows if (row.case, row.provider, row.metric) == (case, provider, "kernel")]
        parts = [f"{report.short(row.value)} {row.note}" for row in mine[:_KERNELS]]
        yield f"{case}, {provider}, us/step: {'; '.join(parts)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
