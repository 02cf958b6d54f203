"""Checkpoints, runs and resume files of an earlier version: `tests/tasks/earlier`, written by commit a222035."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import earlier_runs
import pytest

HOME = Path(__file__).with_name("earlier")


@pytest.fixture(params=list(earlier_runs.TASKS))
def task(request, tmp_path, monkeypatch):
    """A task, in whose folder the test runs."""
    shutil.copytree(HOME / request.param, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return request.param


def test_a_run_of_an_earlier_version_goes_on_and_its_checkpoint_scores_the_same(task):
    expected = json.loads(Path("expected.json").read_text())
    assert earlier_runs.evaluate(task) == pytest.approx(expected["evaluation"], rel=1e-2, abs=1e-3)
    found = earlier_runs.numbers(earlier_runs.train(task, 2).history)
    assert [row["epoch"] for row in found] == [1, 2]
    for row, before in zip(found, expected["history"], strict=True):
        assert {name: row[name] for name in before} == pytest.approx(before, rel=1e-2, abs=1e-3)
