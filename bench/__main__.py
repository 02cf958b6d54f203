"""`python -m bench` in a checkout: the options of `ncafast bench`, or one word that turns results into something.

plot draws pictures, readme writes the README's section and docs/benchmarks.md, `table FOLDER` prints a short table of
the results in FOLDER, weights draws the pictures of docs/bring-your-own-weights.md, and compaction that of
docs/why-fast.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench import compaction, plots, readme, weights
from ncafast import cli
from ncafast.bench import report, results
from ncafast.bench.chosen import Chosen, files

HERE = Path(__file__).resolve().parent


def main(words: list[str]) -> int:
    """Run one command. Returns the exit code."""
    if words[:1] == ["plot"]:
        for path in plots.draw(HERE / "results"):
            print(path.relative_to(HERE.parent))
        return 0
    if words[:1] in (["weights"], ["compaction"]):
        for path in {"weights": weights, "compaction": compaction}[words[0]].draw(HERE.parent / "docs" / "images"):
            print(path.relative_to(HERE.parent))
        return 0
    if words[:1] == ["readme"]:
        root = HERE.parent
        for name, text in (("README.md", readme.section), ("docs/benchmarks.md", readme.page)):
            document = root / name
            changed = readme.update(document, text(HERE / "results", document.parent))
            print(f"{name}: " + ("written again" if changed else "up to date"))
        return 0
    if words[:1] == ["table"]:
        for path in files(Path(words[1]) if words[1:] else HERE / "results"):
            rows = results.read(path)
            print(f"{rows[-1].device}, {rows[-1].threads} threads; milliseconds per step\n")
            print(report.summary(Chosen(rows, quick=True)))
        return 0
    return cli.main(["bench", *words])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
