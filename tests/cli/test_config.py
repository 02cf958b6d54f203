"""Options out of a file: --config takes what a training wrote, and says what else it holds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from ncafast import cli
from ncafast.tasks import TASKS, mednca
from ncafast.tasks.on_demand import options_of
from ncafast.train.run_folder import RunFolder

# Of every kind that options have, all unlike the defaults.
CHANGES = {
    "mednca": {"data": Path("brains"), "crop": 64, "kernel_sizes": (5, 3), "structures": ("left", "right")},
    "segmentation": {"images": Path("a b"), "masks": Path("c"), "classes": ("cell=#ff0000",), "scales": (2, 1)},
    "depth": {"data": Path("rooms"), "max_depth": 3.5, "steps": (9, 5, 4), "flip": False},
    "classification": {"data": Path("cells.npz"), "balanced": False, "loss": "focal", "steps": (5, 7)},
    "texture": {"image": Path("gravel.png"), "weights": Path("vgg.pth"), "seed": 7},
    "growing": {"image": Path("lizard.png"), "lr_milestones": (3, 4), "schedule": "multistep"},
    "selfclassify": {"data": Path("digits"), "dropout": 0.25, "amp": "bf16"},
}


@pytest.fixture
def given(monkeypatch):
    """The options that commands would have begun with."""
    seen = []
    monkeypatch.setattr(cli, "_load", lambda name: lambda *words: seen.append(words[-1]))
    return seen


@pytest.mark.parametrize("task", TASKS)
def test_what_a_run_wrote_gives_the_same_options(tmp_path, given, task):
    kind = options_of(task).TrainConfig
    options = kind(**CHANGES[task], output=tmp_path / "run", lr=0.0123, betas=(0.5, 0.75), progress=False)
    RunFolder(tmp_path / "run").claim(options, {"train": {}, "held_out": {}})
    assert cli.main(["train", task, "--config", str(tmp_path / "run" / "config.json")]) == 0
    assert given == [options]
    for field in dataclasses.fields(kind):
        value, default = getattr(options, field.name), getattr(given[0], field.name)
        assert type(value) is type(default), field.name


def test_the_command_line_wins(tmp_path, given):
    file = tmp_path / "options.json"
    file.write_text('{"data": "brains", "lr": 0.5, "flip": true, "steps": [5, 6]}')
    words = ["--lr", "0.25", f"--config={file}", "--no-flip", "--steps", "7"]
    assert cli.main(["train", "mednca", *words]) == 0
    assert given == [mednca.TrainConfig(data=Path("brains"), lr=0.25, flip=False, steps=(7,))]


def test_a_file_gives_what_is_required(tmp_path, given):
    file = tmp_path / "options.json"
    file.write_text('{"model": "run", "input": "scan.nii.gz"}')
    assert cli.main(["predict", "mednca", "--config", str(file)]) == 0
    assert given == [mednca.PredictConfig(Path("run"), Path("scan.nii.gz"))]


def test_repeated_trainings_leave_the_folder_of_a_run_alone(tmp_path, given):
    file = tmp_path / "config.json"
    file.write_text('{"data": "brains", "hidden": 32, "output": "run"}')
    assert cli.main(["search", "mednca", "--config", str(file), "--over", "lr=1,2"]) == 0
    assert (given[0].hidden, given[0].output) == (32, Path("mednca-search"))


def test_names_of_earlier_versions_are_taken(tmp_path, given):
    file = tmp_path / "config.json"
    file.write_text('{"image": "a.png", "out": "run", "channels": 14}')
    assert cli.main(["train", "growing", "--config", str(file)]) == 0
    assert (given[0].output, given[0].state_channels) == (Path("run"), 14)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"lr": "x"}', 'lr="x" is not allowed; give a number'),
        ('{"flip": 1}', "flip=1 is not allowed; give true or false"),
        ('{"flip": null}', "flip=null is not allowed; give true or false"),
        ('{"steps": [1.5]}', "steps=[1.5] is not allowed; give a list of whole numbers or leave it out (null)"),
        ('{"betas": [0.5]}', "betas=[0.5] is not allowed; give a list of 2 numbers"),
        ('{"axis": "up"}', 'axis="up" is not allowed; choose from sagittal, coronal, axial, auto'),
        ('{"output": 3}', "output=3 is not allowed; give a path as text"),
        ('{"output": ""}', 'output="" is not allowed; give a path as text'),
        ('{"fliip": true}', "'fliip' is no option of this command; did you mean 'flip'?"),
        ('{"xyz": true}', "'xyz' is no option of this command; there are "),
        ('{"image": "a", "regime": "growing"}', "holds options of ncafast train growing, not of ncafast train mednca"),
        ("[1]", "holds no JSON object; give a file such as config.json"),
        ("{", "holds no JSON object"),
        ("[" * 100000, "holds no JSON object"),
        ("\0\xff", "holds no JSON object"),
    ],
)
def test_what_a_file_may_not_hold_is_one_line(tmp_path, capsys, text, said):
    file = tmp_path / "file.json"
    file.write_text(text)
    assert cli.main(["train", "mednca", "--config", str(file)]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"ncafast: error: --config {file}: ") and shown.err.count("\n") == 1
    assert said in shown.err and not shown.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config"], "--config needs a JSON file"),
        (["--config="], "--config is followed by empty text"),
        (["--config", "a", "--config", "b"], "--config is given twice; give one file"),
        (["--config", "none.json"], "--config none.json: No such file or directory; give a JSON file, such as"),
        (["--config", "."], "--config .: is a folder; give a file, such as config.json"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "mednca", *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"ncafast: error: {said}") and err.count("\n") == 1


def test_values_out_of_range_are_refused_like_those_of_the_command_line(tmp_path, capsys):
    file = tmp_path / "file.json"
    file.write_text(json.dumps({"data": str(tmp_path), "lr": float("nan")}))
    assert cli.main(["train", "mednca", "--config", str(file)]) == 1
    assert "lr=nan is not allowed; give a number above 0" in capsys.readouterr().err
