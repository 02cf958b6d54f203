"""The ablations of docs/training.md: every change is an option of its task, and the table is what was measured."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace

from bench import ablations
from ncafast.tasks import base, on_demand
from ncafast.train import TrainingStopped


def test_a_change_is_an_option_with_another_value_than_the_default():
    for task, found in ablations.ABLATIONS.items():
        config = on_demand.options_of(task).TrainConfig
        defaults = {field.name: field.default for field in fields(config)}
        assert found.data in defaults and found.small.keys() <= defaults.keys()
        for options in found.changes.values():
            assert all(defaults[name] != value for name, value in options.items())


def test_the_table_has_mean_and_deviation_and_measures_nothing_twice(monkeypatch, tmp_path):
    seen = []

    def train(task, config):
        seen.append((config.seed, config.ema))
        if config.ema == 0 and config.seed == 1:
            raise TrainingStopped("the loss became nan")
        return SimpleNamespace(measures={"val_accuracy": 0.5 + 0.1 * config.seed + config.ema})

    monkeypatch.setattr(base, "train", train)
    data, folder = tmp_path / "cells.npz", tmp_path / "out"
    table = ablations.run("classification", data, folder, 1)
    assert table.splitlines()[2:] == ["| as by default | 1.4900 +- 0.0000 |", "| `ema` 0 | 0.5000 +- 0.0000 |"]
    table = ablations.run("classification", data, folder, 2)
    assert table.splitlines() == [
        "|  | val_accuracy |",
        "| --- | --- |",
        "| as by default | 1.5400 +- 0.0707 |",
        "| `ema` 0 | nan +- nan |",
    ]
    assert seen == [(0, 0.99), (0, 0.0), (1, 0.99), (1, 0.0)]
