"""A task of sixty lines gets every command: train, evaluate, predict, animate, search, and their help."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import imageio.v3 as iio
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ncafast import cli, commands, tasks
from ncafast.tasks.repeats import config

OPTIONS = """
from dataclasses import dataclass
from pathlib import Path

from ncafast.tasks.options import Animation, Progress, Runtime
from ncafast.training_options import Settings


@dataclass
class TrainConfig(Settings):
    '''Train an automaton to keep a grey level: the toy.'''

    output: Path = Path("toy-run")
    '''Folder of the run.'''

    level: float = 0.5
    '''Grey level to keep.'''


@dataclass
class EvaluateConfig(Runtime, Progress):
    '''Measure how far the grey level is.'''

    output: Path = Path("<model>/evaluation")
    '''Folder for the scores.'''


@dataclass
class PredictConfig(EvaluateConfig):
    '''Say the grey level of files of numbers.'''

    input: Path = Path("in.txt")
    '''File with a number.'''


@dataclass
class AnimateConfig(Runtime, Animation):
    '''Show the grey level.'''

    output: Path = Path("toy.gif")
    '''The film.'''

    fps: int = 5
    '''Frames per second.'''
"""

TASK = """
from types import SimpleNamespace

import numpy as np
import torch

from ncafast.nca import NCA
from ncafast.tasks.base import Task, TaskJob, initialised
from ncafast.tasks.report import Report
from ncafast.utils.option_checks import Range
from ncafast.viz.captions import Frame
from ncafast.viz.views import View
from ncafast.viz.visual import Visual


class Scores(Report):
    def __init__(self, distance):
        self.distance = distance

    def table(self):
        return f"distance {self.distance:.3f}"

    def contents(self):
        return {"scores.csv": [{"distance": self.distance}]}


class ToyJob(TaskJob):
    samples = 4

    def __init__(self, task, options):
        self.task, self.options = task, options
        self.model = initialised(lambda: NCA(channels=2, hidden=4), options.seed)

    @property
    def metadata(self):
        return {"level": str(self.options.level)}

    def checksums(self):
        return {"train": {"level": 1}}

    def load(self, at):
        return torch.full((len(at.micro_batch), 2, 5, 6), 0.1)

    def losses(self, batch, at):
        return (self.model(batch, at.steps, **at.options) - self.options.level).square().mean()

    def validate(self, report):
        return {"val_distance": 1.0}

    def visuals(self):
        return [Visual("grey", [View("input", torch.full((5, 6), 0.1))])]


class Toy(Task):
    name, unit, models = "toy", "levels", (NCA,)
    limits = {"level": Range(0, 1, whole=False)}
    evaluation_files = ("scores.csv",)

    def rank_by(self, options):
        return "val_distance"

    def job(self, options):
        return ToyJob(self, options)

    def read(self, model, metadata):
        return float(metadata["level"])

    def evaluate(self, trained, options):
        return Scores(trained.spec)

    def inputs(self, options):
        return [options.input]

    def predict(self, trained, files, options):
        return SimpleNamespace(skipped=(), lines=lambda: [f"level {float(files[0].read_text()) - trained.spec:.2f}"])

    def frames(self, trained, options):
        return (Frame.at(np.full((4, 4, 3), 100 * k, np.uint8), k, 2) for k in range(3))


TASK = Toy()
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The package `toytask` on the path, and in the list of tasks."""
    package = tmp_path / "code" / "toytask"
    package.mkdir(parents=True)
    for name, text in (("__init__", ""), ("options", OPTIONS), ("task", TASK)):
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(tasks.TASKS, "toy", "toytask")
    caches = commands.commands, config.grid_options
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()
    for name in [name for name in sys.modules if name.startswith("toytask")]:
        del sys.modules[name]


def test_a_task_of_sixty_lines_gets_every_command(toy, tmp_path, capsys):
    assert len([line for line in TASK.splitlines() if line.strip()]) <= 60
    short = ["--epochs", "1", "--batch-size", "2", "--steps", "1", "2", "--no-progress", "--no-tensorboard"]
    assert cli.main(["train", "toy", *short[:-1]]) == 0
    assert EventAccumulator("toy-run/tensorboard").Reload().Tags()["images"] == ["grey"]
    assert "best checkpoint: toy-run/best.safetensors (epoch 1, distance 1)" in capsys.readouterr().out
    assert cli.main(["evaluate", "toy", "--model", "toy-run"]) == 0
    assert "distance 0.500" in capsys.readouterr().out
    assert (tmp_path / "toy-run" / "evaluation" / "scores.csv").read_text() == "distance\n0.5\n"
    Path("in.txt").write_text("0.75")
    assert cli.main(["predict", "toy", "--model", "toy-run"]) == 0
    assert "level 0.25" in capsys.readouterr().out
    assert cli.main(["animate", "toy", "--model", "toy-run"]) == 0
    assert len(iio.imread("toy.gif")) == 3
    assert cli.main(["search", "toy", *short, "--over", "lr=0.1,0.2"]) == 0
    rows = json.loads(Path("toy-search/results.json").read_text())
    assert sorted(row["lr"] for row in rows) == [0.1, 0.2]


@pytest.mark.parametrize(
    ("action", "method"), [("evaluate", "evaluate"), ("predict", "predict"), ("animate", "frames")]
)
def test_what_uses_a_model_keeps_to_the_threads_that_are_asked_for(toy, monkeypatch, action, method):
    words = ["--epochs", "1", "--batch-size", "2", "--steps", "1", "--no-progress", "--no-tensorboard"]
    assert cli.main(["train", "toy", *words]) == 0
    Path("in.txt").write_text("0.75")
    kind, seen = type(sys.modules["toytask.task"].TASK), []
    own = getattr(kind, method)
    monkeypatch.setattr(kind, method, lambda *words: seen.append(torch.get_num_threads()) or own(*words))
    before = torch.get_num_threads()
    assert cli.main([action, "toy", "--model", "toy-run", "--threads", str(before + 1)]) == 0
    assert (seen, torch.get_num_threads()) == ([before + 1], before)
    assert cli.main([action, "toy", "--model", "toy-run", "--threads", "0"]) == 1


@pytest.mark.parametrize("action", ["train", "evaluate", "predict", "animate", "search"])
def test_its_options_are_explained_and_checked(toy, capsys, action):
    assert cli.main([action, "--help"]) == 0
    assert "  toy " in capsys.readouterr().out
    assert cli.main([action, "toy", "--help"]) == 0
    assert f"usage: ncafast {action} toy" in capsys.readouterr().out
    if action == "train":
        assert cli.main(["train", "toy", "--level", "2"]) == 1
        assert "level=2.0 is not allowed; give a number from 0 to 1" in capsys.readouterr().err
