"""What tables and pictures show: every case's newest run, looked up by case, provider, mode and metric."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ncafast.bench import results
from ncafast.bench.cases import LARGEST, SWEEPS
from ncafast.bench.results import ABSENT, MACHINE, ROUNDED, WRONG, Row

_SWEPT = {case.name for group in (*SWEEPS.values(), LARGEST) for case in group}


class Chosen:
    """The newest rows of one device's file; those of the quick size only where asked for."""

    def __init__(self, rows: Iterable[Row], quick: bool = False) -> None:
        fitting = [row for row in rows if row.case and (quick or row.size != "quick")]
        self.rows = results.newest(fitting, lambda row: (row.case, row.mode))
        self._found = {(row.case, row.provider, row.mode, row.metric): row for row in self.rows}

    def get(self, case: str, provider: str, mode: str, metric: str) -> Row | None:
        """One figure."""
        return self._found.get((case, provider, mode, metric))

    def value(self, case: str, provider: str, mode: str, metric: str) -> float | None:
        """One figure's median."""
        row = self.get(case, provider, mode, metric)
        return None if row is None else row.value

    def cases(self) -> list[str]:
        """Cases of the main table in the order of the file, the sweeps left out."""
        return [name for name in dict.fromkeys(row.case for row in self.rows) if name not in _SWEPT]

    def modes(self, case: str) -> list[str]:
        """Modes in which the case was measured."""
        return list(dict.fromkeys(row.mode for row in self.rows if row.case == case))

    def fastest(self, case: str, mode: str) -> str | None:
        """ncafast's fastest backend there, in float32."""
        wanted = case, mode, "time"
        times = [row for row in self.rows if (row.case, row.mode, row.metric) == wanted and _is_ours(row.provider)]
        return min(times, key=lambda row: row.value).provider if times else None

    def speedup(self, case: str, provider: str, mode: str, over: str = "eager") -> float | None:
        """How many times as fast as another provider, from medians of one run."""
        own, other = self.value(case, provider, mode, "time"), self.value(case, over, mode, "time")
        return None if own is None or other is None else other / own

    def absent(self) -> dict[tuple[str, str], list[str]]:
        """(provider, reason) -> cases, of all that was not measured or failed its parity check."""
        found: dict[tuple[str, str], list[str]] = {}
        for row in self.rows:
            if row.metric in (ABSENT, WRONG):
                reason = row.note if row.metric == ABSENT else f"parity check failed ({row.note})"
                cases = found.setdefault((row.provider, reason), [])
                if row.case not in cases:
                    cases.append(row.case)
        return found

    def ceiling(self, metric: str) -> list[float]:
        """All values of a ceiling of the machine, "matmul", "copy", "FMA avx2" and so on."""
        return [row.value for row in self.rows if row.provider == MACHINE and row.metric == metric]

    def fma(self) -> list[float]:
        """All values of the FMA peak of the best instruction set."""
        names = {row.metric for row in self.rows if row.provider == MACHINE and row.metric.startswith("FMA ")}
        found = [self.ceiling(name) for name in names]
        return max(found, key=max, default=[])


def _is_ours(provider: str) -> bool:
    return provider.startswith("ncafast:") and provider != ROUNDED


def files(folder: Path) -> list[Path]:
    """The results' files, one per device."""
    return sorted(folder.glob("*.csv"))
