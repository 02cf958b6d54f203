"""Results: rows survive the file, the newest run is shown, pictures and README's section come from them alone."""

from __future__ import annotations

import dataclasses
import importlib
import re
import runpy
import sys
from pathlib import Path

import pytest

from ncafast.bench import report, results
from ncafast.bench.cases import CASES, SWEEPS
from ncafast.bench.chosen import Chosen
from ncafast.bench.modes import FORWARD, INFERENCE, MEMORY, TRAIN
from ncafast.bench.results import Row
from ncafast.measuring.timing import Spread

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from bench import plots, readme  # noqa: E402

SHARED = {
    "revision": "abc",
    "device": "Some CPU",
    "threads": "2",
    "size": "full",
    "shape": "1 x 8 x 8, 8 steps",
    "rounds": "7",
    "versions": "torch 2",
}


def row(provider: str, mode: str, metric: str, value: float, *, date: str = "2026-01-02 03:04:05", **more: str) -> Row:
    return Row(
        **{**SHARED, "case": "maxnca", "date": date, "p50": f"{value:g}", **more},
        provider=provider,
        mode=mode,
        metric=metric,
    )


def measured() -> list[Row]:
    """One case in two modes, the machine's ceilings, a provider that was not measured, and both sweeps."""
    rows = []
    for mode in (FORWARD, TRAIN):
        for provider, time in (("eager", 12.0), ("compile", 9.0), ("ncafast:cpu", 3.0), ("ncafast:reference", 13.0)):
            rows += [
                row(provider, mode, "time", time, unit="ms/step"),
                row(provider, mode, "arithmetic", 300 / time, unit="GFLOP/s"),
                row(provider, mode, "traffic", 30 / time, unit="GB/s"),
                row(provider, mode, "share", 200 / time, unit=results.PEAK_SHARE),
                row(provider, mode, "kept", 900.0 if provider == "eager" else 60.0),
            ]
        rows += [row("machine", mode, "matmul", 140.0), row("machine", mode, "copy", 10.0)]
        rows += [row("machine", mode, "FMA avx2", 230.0), row("machine", mode, "FMA portable", 90.0)]
        rows.append(row("cax", mode, results.ABSENT, 0, note="not installed"))
    for case in SWEEPS["grid"]:
        for provider, time in (("eager", 5.0), ("ncafast:cpu", 1.0)):
            rows.append(row(provider, INFERENCE, "time", time, case=case.name))
    for case in SWEEPS["steps"]:
        for provider, kept in (("eager", 900.0), ("ncafast:cpu", 60.0), ("ncafast:cpu:sqrt", 20.0)):
            rows.append(row(provider, MEMORY, "kept", kept, case=case.name))
    return rows


def test_rows_survive_the_file_and_are_appended(tmp_path):
    path, rows = tmp_path / "folder" / "some.csv", measured()
    rows[0] = dataclasses.replace(rows[0], note='a "note", with commas\nand lines')
    results.append(path, rows[:3])
    results.append(path, rows[3:])
    assert results.read(path) == rows
    assert path.read_text().splitlines()[0] == ",".join(results.COLUMNS)


def test_a_foreign_file_is_left_alone(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    for use in (lambda: results.append(path, measured()), lambda: results.read(path)):
        with pytest.raises(ValueError, match="is not a file of results: its columns are a, b"):
            use()
    assert path.read_text() == "a,b\n1,2\n"


def test_figures_have_four_digits():
    assert results.figures(Spread(1.23456, 2.0, 3e-7)) == {"p20": "1.235", "p50": "2", "p80": "3e-07"}
    assert results.figures(12345.6) == {"p50": "1.235e+04"}


def test_the_newest_run_of_each_case_is_shown():
    old = [row("eager", FORWARD, "time", 20.0, date="2025-01-01 00:00:00")]
    other = [row("eager", FORWARD, "time", 7.0, date="2025-01-01 00:00:00", case="texture")]
    quick = [row("eager", FORWARD, "time", 1.0, date="2027-01-01 00:00:00", size="quick")]
    chosen = Chosen([*old, *other, *measured(), *quick])
    assert chosen.value("maxnca", "eager", FORWARD, "time") == 12.0
    assert chosen.value("texture", "eager", FORWARD, "time") == 7.0
    assert Chosen([*measured(), *quick], quick=True).value("maxnca", "eager", FORWARD, "time") == 1.0


def test_fastest_backend_and_its_speedup():
    chosen = Chosen(measured())
    assert chosen.fastest("maxnca", TRAIN) == "ncafast:cpu"
    assert chosen.speedup("maxnca", "ncafast:cpu", TRAIN) == 4.0
    assert chosen.speedup("maxnca", "ncafast:cpu", TRAIN, over="compile") == 3.0
    assert chosen.speedup("maxnca", "cax", TRAIN) is None
    assert chosen.cases() == ["maxnca"]
    assert chosen.absent() == {("cax", "not installed"): ["maxnca"]}


def test_page_holds_the_figures_and_what_is_missing(tmp_path):
    results.append(tmp_path / "bench" / "some.csv", measured())
    text = readme.page(tmp_path / "bench", tmp_path)
    line = next(line for line in text.splitlines() if "MaxNCA" in line and "| train |" in line)
    assert [cell.strip() for cell in line.strip("|").split("|")][1:] == ["train", "12", "9", "", "3", "4", "3", "67 %"]
    assert "2026-01-02" in text and "Some CPU, 2 threads" in text and "`abc`" in text
    assert "15 to 15 times less than plain PyTorch (at best 60 bytes instead of 900)" in text
    assert "* cax: not installed (maxnca)" in text
    assert "Not measured: any GPU." in text


def test_section_holds_the_training_of_published_models_alone(tmp_path):
    one = [r for r in measured() if r.mode in (FORWARD, TRAIN)]
    rows = [dataclasses.replace(r, case=case) for case in ("maxnca-bn", "maxnca") for r in one]
    results.append(tmp_path / "bench" / "some.csv", rows)
    text = readme.section(tmp_path / "bench", tmp_path / "docs")
    (line,) = [line for line in text.splitlines() if line.startswith("| MaxNCA")]
    assert "batch norm" in line and "| train |" in line
    assert re.search(
        r"\[All cases\]\(docs/benchmarks.md\): training 3 \(MaxNCA .*\) to 4 \(MaxNCA .*\) times as fast", text
    )
    assert len(readme.DECISIVE) == 8 and set(readme.DECISIVE) <= {case.name for case in CASES}


def test_section_says_when_there_is_nothing(tmp_path):
    assert readme.section(tmp_path, tmp_path).startswith("Nothing has been measured with this version yet.")


def test_update_writes_between_the_markers_only(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{readme.START}\nold\n{readme.END}\nafter\n")
    results.append(tmp_path / "bench" / "some.csv", measured())
    new = readme.section(tmp_path / "bench", tmp_path)
    assert readme.update(path, new)
    text = path.read_text()
    assert text.startswith(f"before\n{readme.START}\n") and text.endswith(f"\n{readme.END}\nafter\n")
    assert "old" not in text and new in text
    assert not readme.update(path, new)
    path.write_text("no markers")
    with pytest.raises(ValueError, match="must hold"):
        readme.update(path, new)


def test_the_device_measured_last_is_shown_in_full_and_others_by_a_line(tmp_path):
    results.append(tmp_path / "old.csv", [dataclasses.replace(r, device="Old CPU") for r in measured()])
    newer = [dataclasses.replace(r, device="New CPU", date="2026-02-02 00:00:00") for r in measured()]
    results.append(tmp_path / "new.csv", newer)
    text = readme.section(tmp_path, tmp_path)
    assert text.startswith("Measured 2026-02-02 on New CPU")
    (line,) = [line for line in text.splitlines() if "Old CPU" in line]
    assert line.startswith("Also measured, 2026-01-02 on Old CPU, revision `abc`: training 3 to 4 times as fast")
    assert "[results](old.csv)" in line


@pytest.mark.parametrize(("name", "text"), [("README.md", readme.section), ("docs/benchmarks.md", readme.page)])
def test_what_is_written_agrees_with_the_results(name, text):
    """After new results: python -m bench plot, python -m bench readme."""
    document = ROOT / name
    between = document.read_text(encoding="utf-8").split(readme.START)[1].split(readme.END)[0]
    assert between.strip("\n") == text(ROOT / "bench" / "results", document.parent)


def test_pictures_show_the_results(tmp_path):
    pytest.importorskip("matplotlib")
    results.append(tmp_path / "some.csv", measured())
    drawn = plots.draw(tmp_path)
    assert [path.name for path in drawn] == [
        f"some-{name}.png" for name in ("speedup", "memory", "scaling", "roofline")
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000 for path in drawn)
    assert "![How many times as fast as plain PyTorch](some-speedup.png)" in readme.section(tmp_path, tmp_path)


def test_picture_axes_hold_the_figures():
    """The bars of ncafast are 4 times plain PyTorch; its memory line is 1/15 of the other."""
    pytest.importorskip("matplotlib")
    chosen = Chosen(measured())
    bars = [patch.get_width() for patch in plots._speedup(chosen).axes[0].patches]
    assert bars == pytest.approx([12 / 9, 4.0])
    eager, own, root = (line.get_ydata() for line in plots._memory(chosen).axes[0].lines)
    assert eager[0] / own[0] == pytest.approx(15) and eager[0] / root[0] == pytest.approx(45)
    steps = plots._memory(chosen).axes[0].lines[0].get_xdata()
    assert list(steps) == [4, 8, 16, 32, 64]
    sides = plots._scaling(chosen).axes[0].lines[0].get_xdata()
    assert list(sides) == [32, 64, 128, 256, 512, 1024, 2048, 4096]


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(ValueError, match="there are no results"):
        plots.draw(tmp_path)
    results.append(tmp_path / "some.csv", [row("eager", FORWARD, results.ABSENT, 0, note="why")])
    assert plots.draw(tmp_path) == []


def test_summary_has_a_line_per_case_and_mode():
    lines = report.summary(Chosen(measured())).splitlines()
    assert lines[1].split() == ["maxnca", "forward", "12", "9", "3", "4", "3", "ncafast:cpu"]
    assert lines[-1] == "cax: not installed (maxnca)"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (1234.5, "1234"), (12.34, "12.3"), (0.01234, "0.0123"), (1.2e-7, "1.2e-07")]
)
def test_short_numbers(number, text):
    assert report.short(number) == text


def test_the_module_of_a_checkout_prints_a_table(tmp_path, monkeypatch, capsys):
    """`python -m bench table FOLDER` from the root of a checkout."""
    if importlib.util.find_spec("bench") is None:
        monkeypatch.syspath_prepend(str(ROOT))
    results.append(tmp_path / "some.csv", measured())
    monkeypatch.setattr(sys, "argv", ["bench", "table", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "bench" / "__main__.py"), run_name="__main__")
    assert stop.value.code == 0
    assert "Some CPU, 2 threads" in capsys.readouterr().out
