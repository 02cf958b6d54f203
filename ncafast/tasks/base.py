"""What a task is, and the commands that are made of one: train, evaluate, predict, animate.

A task is a `Task` object in `ncafast.tasks.<name>.task`, listed in `ncafast.tasks.TASKS`. It says what is trained
(`job`), how a trained model is scored (`evaluate`), and how it is shown (`frames`). Checks of options, checkpoints and
output files, which every task needs, are here.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import nn

from ncafast import checkpoint, pretrained
from ncafast.free_memory import limited_by_options
from ncafast.tasks.report import Report
from ncafast.train import Job, Result, run
from ncafast.train.context import Report as EpochReport
from ncafast.train.run_folder import FREE
from ncafast.training_options import Settings, check_settings
from ncafast.utils.devices import resolve_device, threads
from ncafast.utils.option_checks import Range, check_options
from ncafast.utils.outputs import check_folder, check_free
from ncafast.utils.progress import is_first, note, say
from ncafast.utils.seeds import mix
from ncafast.utils.texts import reason
from ncafast.viz import charts
from ncafast.viz.animation import check_animation, write_animation
from ncafast.viz.captions import Frame, captioned, in_style
from ncafast.viz.figures import write_png
from ncafast.viz.styles import style_of
from ncafast.viz.visual import Visual

S = TypeVar("S")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Trained(Generic[S]):
    """A trained model, and what its task keeps beside it in the checkpoint."""

    model: Any
    spec: S
    path: Path


class TaskJob(Job):
    """A training job of a task, see `Task.job`."""

    task: Task[Any]
    panels: ClassVar[Sequence[charts.Panel]] = (charts.training_loss(),)
    """Of curves.png."""

    @property
    def metadata(self) -> dict[str, str]:
        """What the checkpoint holds beside the model, as `Task.read` takes it."""
        raise NotImplementedError

    def checksums(self) -> dict[str, dict[str, int]]:
        """Of every sample by name: {"train": {...}, "held_out": {...}}."""
        raise NotImplementedError

    def opening(self) -> str:
        """The line that is printed when training starts."""
        return ""

    @property
    def unit(self) -> str:
        """What its samples are called in messages, a plural noun."""
        return self.task.unit

    def settings(self, options: Any) -> tuple[Settings, Any]:
        """The settings of the training loop, and the options that the run keeps, with nothing left open."""
        return options, options

    def visuals(self) -> Iterable[Visual]:
        """A few samples as the model handles them now, those held out if there are any, for TensorBoard."""
        return ()

    def picture(self, report: EpochReport, path: Path, draw: Callable[[], Any], shown: str = "") -> None:
        """Write the picture [height, width, 3] uint8 that `draw` makes, and add it to TensorBoard under the name
        `shown`; nothing where pictures are not due."""
        if not report.draws:
            return
        with report.timed():
            pixels = draw()
            write_png(path, pixels)
            if shown:
                report.board.picture(report.step, shown, pixels)

    def show(self, report: EpochReport) -> None:
        """Add the pictures of `visuals` to TensorBoard, where pictures are due."""
        if not report.draws:
            return
        self.model.eval()
        with torch.no_grad(), report.timed():
            for visual in self.visuals():
                report.board.picture(report.step, visual.name, visual.draw())

    def draw(self, history: Sequence[dict[str, Any]], best_epoch: int, report: EpochReport) -> None:
        """Write curves.png."""
        write_png(report.folder.curves, charts.curves(history, self.panels, best_epoch))

    def finish(self, done: Result) -> None:
        """Called once training has ended, in the first process."""

    def save_model(self, path: Path, facts: dict[str, int]) -> None:
        """Write a checkpoint that `load` reads; `facts` are kept for people."""
        checkpoint.save(path, self.model, task=self.task.name, facts=json.dumps(facts), **self.metadata)


class Task(Generic[S]):
    """One kind of training and what is done with its models. S is the type of what a checkpoint holds beside the model.

    Attributes:
        name: as on the command line.
        unit: what its samples are called in messages, a plural noun.
        models: the classes that its checkpoints may hold.
        limits: bounds of options that other tasks do not have, see `check_options`.
        free: training options that may differ when a run is continued.
        evaluation_files: what `evaluate` writes into its folder.
        hold: seconds for which an animation shows its last frame.
        stills: whether `animate` also writes a .png file, of the last frame.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    models: ClassVar[tuple[type[nn.Module], ...]]
    limits: ClassVar[dict[str, int | Range]] = {}
    free: ClassVar[frozenset[str]] = frozenset()
    evaluation_files: ClassVar[tuple[str, ...]] = ()
    hold: ClassVar[float] = 1.0
    stills: ClassVar[bool] = False

    def check(self, options: Any) -> None:
        """Raise ValueError for training options that contradict each other, before any file is read."""

    def check_use(self, options: Any) -> None:
        """Raise ValueError for options of another command that cannot be used, before a model is read."""

    def resolved(self, options: Any) -> Any:
        """Training options with what the user left open, as the run keeps them."""
        return options

    def samples(self, options: Any) -> tuple[Sequence[str], Sequence[str] | None]:
        """The names of all samples that may be trained on, and their classes where they have any.

        Raises:
            ValueError: options or data that cannot be used, or that do not go with cross-validation.
        """
        raise NotImplementedError

    def rank_by(self, options: Any) -> str:
        """The column of history.csv that a search ranks by if --by is not given."""
        raise NotImplementedError

    def job(self, options: Any) -> TaskJob:
        """What `train` runs."""
        raise NotImplementedError

    def read(self, model: Any, metadata: dict[str, str]) -> S:
        """What a checkpoint holds beside the model.

        Raises:
            ValueError, KeyError, TypeError: it does not fit.
        """
        raise NotImplementedError

    def evaluate(self, trained: Trained[S], options: Any) -> Report:
        """The scores of a trained model."""
        raise NotImplementedError

    def inputs(self, options: Any) -> Sequence[Path]:
        """The files that `predict` takes.

        Raises:
            ValueError: an input that cannot be used, or an output that cannot be written.
        """
        raise NotImplementedError

    def predict(self, trained: Trained[S], files: Sequence[Path], options: Any) -> Any:
        """Results for these files: an object with `lines()` (text to print) and `skipped` (not empty: exit code 1)."""
        raise NotImplementedError

    def frames(self, trained: Trained[S], options: Any) -> Iterable[Frame]:
        """The pictures of an animation; their figures get the colours of its style."""
        raise NotImplementedError


def check(task: Task[Any], options: Any) -> None:
    """Raise ValueError for training options that cannot be used, before any file is read."""
    limits = _limits(task, options)
    if isinstance(options, Settings):
        check_settings(options, **limits)
    else:  # what is left open is decided when the data are known
        check_options(options, **limits)
    task.check(options)


@limited_by_options
def train(task: Task[Any], options: Any) -> Result:
    """Train as configured, or continue the run in the folder `options.output`.

    Raises:
        ValueError: options, data or a run folder that cannot be used.
        TrainingStopped: the loss became infinite or NaN.
    """
    check(task, options)
    options = task.resolved(options)
    job = task.job(options)
    settings, kept = job.settings(options)
    shared: dict[str, Any] = {"data": job.checksums(), "free": FREE | task.free, "things": job.unit}
    done = run(job, settings, config=kept, opening=job.opening(), **shared)
    if is_first():
        job.finish(done)
    return done


def load(task: Task[S], path: Path, device: torch.device) -> Trained[S]:
    """The model of a checkpoint, in float32, or of the best one of a run folder, or the one that comes with the task.

    Raises:
        ValueError: one line that names the file, if it is none of this task or corrupt.
    """
    given, path = path, pretrained.find(task.name, path)
    if given.is_dir() and path.name == "last.safetensors":
        note(f"{given} has no best.safetensors yet, as no epoch is complete; {path.name} is taken")
    metadata = checkpoint.describe(path)
    writer = metadata.get("task")
    if writer != task.name:
        kind = f"was written by ncafast train {writer}" if writer else "is a checkpoint, but of no task"
        raise ValueError(f"{path}: {kind}; give one of ncafast train {task.name}")
    model = checkpoint.load(path, device).float()
    if not isinstance(model, task.models):
        names = " or ".join(kind.__name__ for kind in task.models)
        raise ValueError(f"{path}: holds a {type(model).__name__}, not a {names}; give another checkpoint")
    try:
        for name, tensor in model.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{name} holds NaN or infinite weights")
        return Trained(model, task.read(model, metadata), path)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: is corrupt ({reason(error)}); give another checkpoint or train again") from error


def _uses(command: F) -> F:
    """A command that uses a trained model: its options are checked first, and it keeps to --memory-limit and to
    --threads."""

    @functools.wraps(command)
    def run(task: Task[Any], options: Any) -> Any:
        check_options(options, **_limits(task, options))
        task.check_use(options)
        with threads(getattr(options, "threads", None)):
            return command(task, options)

    return limited_by_options(run)  # type: ignore[return-value]


@_uses
def evaluate(task: Task[Any], options: Any) -> Report:
    """Score a trained model; print the table, and write the files of `task.evaluation_files` to `options.output`.

    Raises:
        ValueError: options, data or a checkpoint that cannot be used.
    """
    check_folder("--output", options.output)
    check_free("--output", [options.output / name for name in task.evaluation_files], options.overwrite)
    report = task.evaluate(load(task, options.model, resolve_device(options.device)), options)
    report.write(options.output)
    for line in report.table().splitlines():
        say(line)
    return report


@_uses
def predict(task: Task[Any], options: Any) -> Any:
    """Run a trained model on the files of `options.input`, and write what it finds to `options.output`.

    Raises:
        ValueError: options, a checkpoint or an input that cannot be used; of a folder, only if no file can.
    """
    files = task.inputs(options)
    return task.predict(load(task, options.model, resolve_device(options.device)), files, options)


@_uses
def animate(task: Task[Any], options: Any) -> Path:
    """Write an animation to `options.output`, a .gif or .mp4 file, and return that path.

    Raises:
        ValueError: options or a checkpoint that cannot be used.
    """
    still = task.stills and options.output.suffix.lower() == ".png"
    if still:
        check_folder("--output", options.output.parent)
        check_free("--output", [options.output], options.overwrite)
    else:
        check_animation(options.output, overwrite=options.overwrite)
    style = style_of(options.style)
    with style.figures():
        frames = task.frames(load(task, options.model, resolve_device(options.device)), options)
    if still:
        (last,) = deque(in_style(frames, style), maxlen=1)
        write_png(options.output, last.picture)
    else:
        total = len(frames) if isinstance(frames, Sized) else getattr(options, "frames", None)
        shown = captioned(in_style(frames, style), style, label=options.step_label, bar=options.step_bar)
        write_animation(options.output, shown, fps=options.fps, hold=task.hold, total=total, progress=options.progress)
    return Path(options.output)


def initialised(make: Any, seed: int) -> Any:
    """`make()`, a model, with initial weights that follow from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix("init", seed))
        return make()


def _limits(task: Task[Any], options: Any) -> dict[str, int | Range]:
    names = {field.name for field in dataclasses.fields(options)}
    return {name: limit for name, limit in task.limits.items() if name in names}
