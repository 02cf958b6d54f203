"""Progress bars: drawn in a terminal, lines now and then elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from ncafast.utils import progress

pytest.importorskip("tqdm")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _advance(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.Bar(4, True, "reading") as bar:
        for number in range(4):
            bar.describe(f"reading {number}")
            bar.advance({"loss": 0.5})
    return stream.getvalue()


def test_a_terminal_has_a_bar(monkeypatch):
    assert "\r" in _advance(Terminal(), monkeypatch)


def test_a_short_work_leaves_nothing_in_a_file(monkeypatch):
    assert _advance(io.StringIO(), monkeypatch) == ""


def test_a_long_work_leaves_lines_in_a_file(monkeypatch):
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    said = _advance(io.StringIO(), monkeypatch)
    assert "\r" not in said and "\x1b" not in said and said.endswith("\n")
    lines = said.splitlines()
    assert lines[0].startswith("reading: 0 of 4 after 00:00")
    assert any(line.startswith("reading 1: 2 of 4 after") and line.endswith("loss=0.500") for line in lines)
    assert lines[-1].startswith("reading 3: 4 of 4 after") and all(lines)
