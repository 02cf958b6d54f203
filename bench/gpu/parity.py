"""Parity tests of a backend on many processes, and those that failed once more.

    python -m bench.gpu.parity BACKEND OUT SCRATCH SECONDS [PYTEST-OPTIONS...]    run, and keep what failed
    python -m bench.gpu.parity --again OUT SCRATCH SECONDS                        plain launches, then synchronous ones

Results go to OUT/parity.txt as they come, with all that pytest says of a failure.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

from bench.gpu.pool import Pool, Result

WORKERS = max(min(12, (os.cpu_count() or 1) * 3 // 4), 1)
SECONDS = {"cuda": 20.0, "triton": 60.0}  # of a test; Triton compiles a rule's kernels first
_MOST_AGAIN = 12
SWITCHES = ("NCAFAST_CUDA_PLAIN_LAUNCH", "NCAFAST_CUDA_SYNC")


def main(words: list[str]) -> int:
    """Returns 1 where something failed, or nothing was run."""
    if words[0] == "--again":
        return again(Path(words[1]), Path(words[2]), float(words[3]))
    backend, out, scratch, seconds, *options = words
    results = tested(backend, options, Path(out), time.monotonic() + float(seconds), Path(scratch))
    failed = [result.test for result in results if not result.good]
    Path(scratch, f"failed-{backend}.json").write_text(json.dumps(failed))
    return int(bool(failed) or not results)


def again(out: Path, scratch: Path, seconds: float) -> int:
    """The CUDA tests that failed: does it help to launch plainly; which kernel is it?"""
    kept = scratch / "failed-cuda.json"
    failed = json.loads(kept.read_text())[:_MOST_AGAIN] if kept.exists() else []
    if not failed:
        print("no CUDA test has failed")
        return 0
    end = time.monotonic() + seconds
    for left, switch in zip((2, 1), SWITCHES, strict=True):
        os.environ[switch] = "1"
        until = time.monotonic() + (end - time.monotonic()) / left
        tested(f"cuda, {switch}=1", failed, out, until, scratch)
        del os.environ[switch]
    return 1


def tested(title: str, options: list[str], out: Path, until: float, scratch: Path) -> list[Result]:
    """Run tests and tell of them; results of those that ran."""
    backend = os.environ["NCAFAST_BACKEND"] = title.split(",")[0]
    workers = int(os.environ.get("WORKERS", WORKERS))
    with out.joinpath("parity.txt").open("a", encoding="utf-8") as file:

        def tell(result: Result) -> None:
            file.write(f"{result.outcome} {result.test} ({result.seconds:.1f} s)\n")
            if not result.good:
                file.write(f"{result.text}\n")
                if result.outcome != "was not run":
                    print(f"{result.outcome}: {result.test}: {result.reason}", flush=True)
            file.flush()

        file.write(f"== {title}\n")
        pool = Pool(options, workers, SECONDS.get(backend, 60.0), until, tell)
        results = pool.run()
    counts = Counter(result.outcome for result in results)
    line = f"{title}: " + (", ".join(f"{n} {outcome}" for outcome, n in counts.most_common()) or "no test was run")
    if pool.problem:
        line += f"; {pool.problem}"
    print(line, flush=True)
    with scratch.joinpath("summary.txt").open("a", encoding="utf-8") as file:
        file.write(line.splitlines()[0] + "\n")
    return [result for result in results if result.outcome != "was not run"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
