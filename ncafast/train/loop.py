"""The training loop, stoppable at any moment: the same call goes on and ends with the same weights.

Every random choice is a function of the seed and of what it is for (epoch, step, sample), never of how the process got
there; model, optimiser, running sums and the job's own memory are saved together. On the CPU with one number of
threads, a run that was killed any number of times and an undisturbed one agree bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ncafast.train.arguments import check_fit, check_job, check_row, check_score, check_settings_kind
from ncafast.train.distributed import Ranks, check_norm, joined
from ncafast.train.ema import Average
from ncafast.train.gradients import make_optimiser, shape_gradient
from ncafast.train.job import FunctionJob, Job, Losses, Moment, Report, Row, bare_reason, to_device
from ncafast.train.losses import holds_nan, terms_of
from ncafast.train.resume import SUMS, check_model, check_optimiser, check_progress, kind_of, take_weights
from ncafast.train.run_folder import FREE, RunFolder
from ncafast.train.saving import Saver
from ncafast.train.schedules import learning_rate
from ncafast.train.settings import Settings, check_settings, memory_of
from ncafast.train.tensorboard import Board
from ncafast.utils.devices import determinism, threads
from ncafast.utils.lock import locked
from ncafast.utils.progress import Bar, say
from ncafast.utils.seeds import generator, mix

_SKIPPED_MOST = 50  # steps in a row without a finite gradient after which fp16's scale is not to blame


class TrainingStopped(RuntimeError):
    """Training cannot go on, because the loss is no longer a number."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run has come to."""

    folder: Path
    best: Path
    """The checkpoint of the epoch with the highest `Job.score`."""
    last: Path
    best_epoch: int
    best_score: float
    history: tuple[Row, ...]
    """One row per epoch, as in history.csv and history.json."""
    train: tuple[str, ...] = ()
    """Names of the samples that were trained on."""
    held_out: tuple[str, ...] = ()
    """Names of those that were held out."""
    skipped: Sequence[Any] = ()
    """What was left out since it cannot be used, and why; see `Job.skipped`."""

    @property
    def measures(self) -> dict[str, Any]:
        """Of the best epoch: all that was measured on held-out samples or from validation, val_... by name."""
        return {name: value for name, value in self.history[self.best_epoch - 1].items() if name.startswith("val_")}

    def __getattr__(self, name: str) -> Any:
        """best_dice and the like, which results of some tasks had: val_dice of `measures`."""
        if name.startswith("best_"):
            measures = self.measures
            column = name.replace("best_", "val_", 1)
            if column in measures:
                return measures[column]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def fit(
    model: nn.Module,
    data: Any,
    loss: Callable[[nn.Module, Any, Moment], Losses],
    settings: Settings | None = None,
    *,
    validate: Callable[[nn.Module], Row] | None = None,
    score: Callable[[Row], float] | None = None,
) -> Result:
    """Train a model with a loss function; `run` takes a `Job` where that is not enough.

    Args:
        model: any module.
        data: a tensor or a tuple of tensors, whose first axis counts samples, or any data set with len() and []. A run
            goes on with the same tensors alone, or with a data set of the same length.
        loss: `loss(model, batch, at)` gives a tensor [], a mean over the batch, or several by name to be added. Pass
            `at.steps` and `**at.options` to the model for random step counts, memory policy and exact resume.
        settings: see `Settings`; None takes the defaults.
        validate: `validate(model)` gives columns for the history, after every epoch.
        score: `score(row)` says what an epoch is worth; the best one's weights are kept.

    Raises:
        TypeError, ValueError: options, data, a model, a loss or a run folder that cannot be used; another process has
            the folder.
        TrainingStopped: the loss or the gradient became infinite or NaN.
    """
    check_fit(model, data, loss, settings, validate, score)
    job = FunctionJob(model, data, loss, validate, score)
    return run(job, settings or Settings(), data={"train": job.checksums(), "held_out": {}})


def run(
    job: Job,
    settings: Settings,
    *,
    config: Any = None,
    data: dict[str, dict[str, int]] | None = None,
    free: Iterable[str] = FREE,
    things: str = "samples",
    opening: str = "",
) -> Result:
    """Train, or go on with the run that was begun in `settings.output`.

    Args:
        job: what is trained.
        settings: how.
        config: the task's own dataclass of options, for config.json; None takes `settings`.
        data: checksums of the samples by name, {"train": {...}, "held_out": {...}}, for split.json.
        free: names of options that may differ when the run is continued.
        things: what the samples are called in messages.
        opening: what to say once nothing stands against the run.

    Raises:
        TypeError, ValueError: a job, options or a run folder that cannot be used.
        TrainingStopped: the loss or the gradient became infinite or NaN.
    """
    check_job(job)
    check_settings_kind(settings)
    check_settings(settings)
    folder = RunFolder(settings.output, things)
    settled = folder.settled()
    if settings.schedule == "cosine" and settled.get("epochs", settings.epochs) != settings.epochs:
        raise ValueError(
            f"{settings.output}: the cosine schedule of this run ends after {settled['epochs']} epochs, not after "
            f"epochs={settings.epochs}; give the same number to continue it, or another folder with --output"
        )
    number = settings.threads or settled.get("threads") or torch.get_num_threads()
    config = replace(settings if config is None else config, threads=number)
    with ExitStack() as stack:
        stack.enter_context(threads(number))
        stack.enter_context(determinism(settings.deterministic))
        ranks, device = joined(settings.device)
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        check_norm(job.model, ranks, settings.local_norm)
        loop = _Loop(job, settings, folder, ranks, device)
        stack.enter_context(locked(settings.output))
        state = ranks.told(folder.claim(config, data or {}, free) if ranks.first else None)
        if state is not None:
            loop.restore(state)
        if opening:
            say(f"{opening}; the run is in {settings.output}")
        _announce_bare(job, settings.output)
        try:
            done = loop.run(begun=state is not None)
        except KeyboardInterrupt:
            say(f"{settings.output}: stopped; the same command goes on from the last save")
            raise
    names = data or {}
    return replace(done, train=tuple(names.get("train", ())), held_out=tuple(names.get("held_out", ())))


def _announce_bare(job: Job, folder: Path) -> None:
    """Say before the training if its checkpoints will hold tensors alone."""
    reason = bare_reason(job.model) if type(job).save_model is Job.save_model else None
    if reason is not None:
        rest = ", ".join(key for key, value in job.model.state_dict().items() if not isinstance(value, Tensor))
        without = f" without {rest} (resume.pt has it)" if rest else ""
        say(
            f"{folder}: best.safetensors and last.safetensors will hold bare tensors{without}, since {reason}; "
            "read them with module.load_state_dict(safetensors.torch.load_file(...))"
        )


class _Loop:
    def __init__(self, job: Job, settings: Settings, folder: RunFolder, ranks: Ranks, device: torch.device) -> None:
        self.job, self.settings, self.folder, self.ranks, self.device = job, settings, folder, ranks, device
        self.model = job.model.to(device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError(
                f"the {type(self.model).__name__} has no weight to train: all are frozen, or it has none; "
                "call model.requires_grad_(True)"
            )
        self.optimiser = make_optimiser(
            settings.optimiser, self.parameters, settings.lr, settings.betas, settings.weight_decay
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.amp == "fp16")
        self.average = Average(self.model, settings.ema)
        self.memory = memory_of(settings)
        self.batch = settings.batch_size * settings.accumulate * ranks.count
        self.epoch_steps = job.steps_per_epoch(self.batch)
        self.state_saver, self.model_saver = Saver(settings.save_every), Saver(settings.save_every)
        self.epoch = 0  # epochs that are complete
        self.step = 0  # steps that are complete in the present epoch
        self.skipped = 0  # steps in a row that fp16 has skipped
        self.sums: dict[str, float] = dict.fromkeys(SUMS, 0)
        self.history: list[Row] = []
        self.best: dict[str, Any] = {"epoch": 0, "value": -math.inf}

    def run(self, begun: bool) -> Result:
        """Do what is left to do."""
        path = self.folder.path
        if begun:
            if self.epoch >= self.settings.epochs:
                say(f"{path}: this run is finished ({self.epoch} epochs); raise epochs to train longer")
                return self._result()
            say(f"{path}: going on at epoch {self.epoch + 1}, step {self.step + 1}")
        wanted = self.settings.tensorboard and self.ranks.first
        with Board(self.folder.tensorboard, wanted, self._global_step()) as board:
            self._run_epochs(board)
        return self._result()

    def _run_epochs(self, board: Board) -> None:
        bar = Bar(self.settings.epochs * self.epoch_steps, self._global_step(), self.settings.progress)
        try:
            while self.epoch < self.settings.epochs and not self._rests():
                bar.describe(f"epoch {self.epoch + 1}/{self.settings.epochs}")
                self._run_steps(board, bar)
                self._finish_epoch(board)
        finally:
            bar.close()

    def _rests(self) -> bool:
        """Whether the last epochs brought nothing better, so that training stops early."""
        patience = self.settings.patience
        if patience is None or self.epoch - self.best["epoch"] < patience:
            return False
        say(f"{self.folder.path}: nothing better in {patience} epochs, so training stops at epoch {self.epoch}")
        return True

    def _run_steps(self, board: Board, bar: Bar) -> None:
        started = time.perf_counter()
        self.model.train()
        for numbers in self.job.plan(self.epoch, self.batch, self.settings.seed)[self.step :]:
            terms = self._train_on(numbers)
            for name, value in terms.items():
                self.sums[name] = self.sums.get(name, 0) + value * len(numbers)
            self.sums["samples"] += len(numbers)
            self.step += 1
            bar.advance({"loss": math.fsum(terms.values())} | (terms if len(terms) > 1 else {}))
            board.scalars(self._global_step(), {f"train/{name}": value for name, value in terms.items()})
            if self.step < self.epoch_steps and self.ranks.first and self.state_saver.due(self._global_step()):
                self.sums["seconds"] += time.perf_counter() - started
                started = time.perf_counter()
                self._save(self.model_saver.due(self._global_step()))
        self.sums["seconds"] += time.perf_counter() - started

    def _train_on(self, numbers: Any) -> dict[str, float]:
        """One training step; its losses over the whole batch."""
        at = self._moment(numbers)
        self.job.begin_step(at)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.settings, at.step, self.epoch_steps)
        self.optimiser.zero_grad()
        terms: dict[str, Tensor] = {}
        for places in self.ranks.parts(len(numbers), self.settings.accumulate):
            for name, value in self._backward(at.at(places)).items():
                terms[name] = terms[name] + value if name in terms else value
        terms = self._exchange(terms)
        self.scaler.unscale_(self.optimiser)
        norm = shape_gradient(self.parameters, normalise=self.settings.normalise_gradient, clip=self.settings.clip)
        values = dict(zip(terms, torch.stack([*terms.values()]).tolist(), strict=True))
        self._guard(math.fsum(values.values()), norm.item(), at)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.average.follow()
        kept = torch.cat(at.kept) if at.kept else None
        if kept is not None:
            kept = self.ranks.gather(kept, len(numbers), self.settings.accumulate)
        self.job.end_step(at, kept)
        return values

    def _moment(self, numbers: Any) -> Moment:
        low, high = self.settings.steps
        step, seed = self._global_step(), self.settings.seed
        drawn = low if low == high else int(torch.randint(low, high + 1, (), generator=generator("steps", seed, step)))
        return Moment(
            epoch=self.epoch,
            step=step,
            position=self.step * self.batch,
            numbers=numbers,
            steps=drawn,
            places=range(0),
            run_seed=seed,
            memory=self.memory,
        )

    def _backward(self, at: Moment) -> dict[str, Tensor]:
        """Add the gradient of a part's share of the loss; its losses times that share."""
        batch = to_device(self.job.load(at), self.device)
        torch.manual_seed(mix("torch", self.settings.seed, at.step, at.places.start))
        with self._autocast():
            terms = terms_of(self.job.losses(batch, at))
        share = len(at.places) / len(at.numbers)
        terms = {name: value.float() * share for name, value in terms.items()}
        total = sum(terms.values(), start=torch.zeros((), device=self.device))
        self.scaler.scale(total).backward()
        return {name: value.detach() for name, value in terms.items()}

    def _autocast(self) -> torch.autocast:
        dtype = torch.float16 if self.settings.amp == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.settings.amp != "off")

    def _exchange(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses over all processes; their gradients are summed in place."""
        if self.ranks.count == 1:
            return terms
        names = self.ranks.told(list(terms))
        own = [terms.get(name, torch.zeros((), device=self.device)) for name in names]
        for parameter in self.parameters:
            if parameter.grad is None:  # this process had no sample to spare
                parameter.grad = torch.zeros_like(parameter)
        self.ranks.add_up([*(p.grad for p in self.parameters if p.grad is not None), *own])
        return dict(zip(names, own, strict=True))

    def _guard(self, loss: float, norm: float, at: Moment) -> None:
        """Raise TrainingStopped, before the weights change, when there is nothing to go on with."""
        finite = math.isfinite(norm)
        self.skipped = 0 if finite else self.skipped + 1
        if math.isfinite(loss) and (finite or (self.scaler.is_enabled() and self.skipped < _SKIPPED_MOST)):
            return
        kept = f"; the last good weights are in {self.folder.last}" if self.folder.last.exists() else ""
        what = f"the loss became {loss}" if not math.isfinite(loss) else "the gradient became infinite or NaN"
        remedy = f"a lower lr (now {self.settings.lr:g}) or clip (now {self.settings.clip:g})"
        parts = self.ranks.parts(len(at.numbers), self.settings.accumulate)
        own = not self.job.state()  # what comes from a pool is the automaton's work
        if own and any(holds_nan(self.job.load(at.at(places))) for places in parts):
            what, remedy = f"the data hold NaN or infinite values, so {what}", "data that hold none"
        where = f"in epoch {self.epoch + 1}, step {self.step + 1}"
        raise TrainingStopped(f"{what} {where}{kept}. Train again in another folder and with {remedy}")

    def _finish_epoch(self, board: Board) -> None:
        samples = self.sums["samples"]
        terms = {name: value / samples for name, value in self.sums.items() if name not in SUMS}
        row: Row = {"epoch": self.epoch + 1, "steps": self._global_step(), "loss": math.fsum(terms.values())}
        row |= terms
        row["lr"] = self.optimiser.param_groups[0]["lr"]
        report = Report(self.folder, board, self._global_step(), self.epoch + 1)
        with self.average.shown():
            row |= self.ranks.told(check_row(self.job.validate(report)) if self.ranks.first else None)
        row["seconds"] = round(self.sums["seconds"], 1)
        self.history.append(row)
        self.epoch, self.step = self.epoch + 1, 0
        self.sums = dict.fromkeys(self.sums, 0)
        board.scalars(self._global_step(), {f"epoch/{k}": v for k, v in row.items() if isinstance(v, float)})
        value = check_score(self.job.score(row))
        # The first epoch is the best so far whatever its score, so that there is a checkpoint; NaN is never better.
        better = value > self.best["value"] or not self.best["epoch"]
        if better:
            self.best = {"epoch": self.epoch, "value": -math.inf if math.isnan(value) else value}
        if self.ranks.first:
            if better:
                self._save_model(self.folder.best)
            self.job.draw(self.history, self.best["epoch"], report)
            self.folder.write_history(self.history)
            self._save(with_model=True)
        say(f"epoch {self.epoch}: loss {row['loss']:.4f}{self.job.headline(row)} ({row['seconds']:.0f} s)")

    def _global_step(self) -> int:
        return self.epoch * self.epoch_steps + self.step

    def _save(self, with_model: bool) -> None:
        """The state to go on from, last of all; and before it the model's checkpoint, which may take longer."""
        if with_model:
            with self.model_saver.timed():
                self._save_model(self.folder.last)
        with self.state_saver.timed():
            self.folder.save_resume(
                {
                    "kind": kind_of(self.model),
                    "model": self.model.state_dict(),
                    "optimiser": self.optimiser.state_dict(),
                    "schedule": {"step": self._global_step(), "batch": self.batch},
                    "scaler": self.scaler.state_dict(),
                    "average": self.average.state(),
                    "job": self.job.state(),
                    "epoch": self.epoch,
                    "step": self.step,
                    "sums": self.sums,
                    "history": self.history,
                    "best": self.best,
                }
            )

    def _save_model(self, path: Path) -> None:
        with self.average.shown():
            self.job.save_model(path, {"epoch": self.epoch, "step": self.step})

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what a stopped run has saved. Raises ValueError if it is damaged or of another model."""
        check_model(self.model, state.get("kind"), self.folder.path)
        try:
            check_progress(state, self.epoch_steps)
            take_weights(self.model, state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            check_optimiser(self.optimiser)
            done = state["epoch"] * self.epoch_steps + state["step"]
            if state["schedule"] != {"step": done, "batch": self.batch}:
                raise ValueError(f"schedule={state['schedule']} does not fit: batches are of {self.batch} now")
            self.scaler.load_state_dict(state["scaler"])
            self.average.load(state["average"])
            self.job.load_state(state["job"])
        except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
            raise ValueError(
                f"{self.folder.resume}: is damaged or not of this run ({what}); delete it to start the run anew"
            ) from error
        self.epoch, self.step = state["epoch"], state["step"]
        self.sums, self.history, self.best = state["sums"], state["history"], state["best"]

    def _result(self) -> Result:
        return Result(
            folder=self.folder.path,
            best=self.folder.best,
            last=self.folder.last,
            best_epoch=self.best["epoch"],
            best_score=self.best["value"],
            history=tuple(self.history),
            skipped=self.job.skipped,
        )
