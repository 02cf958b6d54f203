"""The notebooks in examples/ run, in small, and a notebook has the cells of its script and no outputs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from test_docs import ROOT

FOLDER = ROOT / "examples"
SMALL: dict[str, dict[str, Any]] = {  # what stands in for the cell of parameters
    "a_texture_and_its_web_page": {"size": 32, "epochs": 1, "epoch_length": 2},
    "a_volume_in_tiles": {"side": 24, "steps": 8},
    "accelerate_somebodys_model": {"side": 16, "steps": 4, "rounds": 1},
    "classify_cells": {"training_steps": 2, "batch_size": 4, "held_out": 8, "cells": 8},
    "grow_an_emoji": {"size": 8, "margin": 2, "epochs": 1},
    "segment_a_brain_slice": {"training_steps": 1, "batch_size": 2, "millimetres": 4},
}
Cell = tuple[str, str]  # what stands behind its marker, and its text


def cells(script: Path) -> list[Cell]:
    """Cells of a script in jupytext's percent format, without its header."""
    parts = re.split(r"^# %%(.*)$\n", script.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = []
    for marker, text in zip(parts[::2], parts[1::2], strict=True):
        if "[markdown]" in marker:
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        found.append((marker.strip(), text.strip()))
    return found


def test_every_script_is_listed():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(SMALL) == {path.stem for path in FOLDER.glob("*.ipynb")}


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_has_the_cells_of_its_script(name):
    """After a change, `jupytext --update --to ipynb examples/*.py`."""
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    kept = [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in notebook["cells"]]
    want = [("markdown" if "[markdown]" in marker else "code", text) for marker, text in cells(FOLDER / f"{name}.py")]
    assert kept == want
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook["cells"])


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    drawn = 0
    with matplotlib.rc_context(), torch.random.fork_rng():
        plt.switch_backend("Agg")
        for marker, text in cells(FOLDER / f"{name}.py"):
            if "[markdown]" in marker:
                continue
            exec(text, names)
            if "parameters" in marker:
                assert SMALL[name].keys() <= names.keys()
                names |= SMALL[name]
            drawn += len(plt.get_fignums())
            plt.close("all")
    assert drawn
