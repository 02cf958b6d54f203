"""The training loop, stoppable at any moment: the same call goes on and ends with the same weights.

Every random choice is a function of the seed and of what it is for (epoch, step, sample), never of how the process got
there; model, optimiser, running sums and the job's own memory are saved together. On the CPU with one number of
threads, a run that was killed any number of times and an undisturbed one agree bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh

from ncafast import checkpoint
from ncafast.train.arguments import check_row, check_score
from ncafast.train.context import Report, Result, StepContext
from ncafast.train.distributed import Ranks
from ncafast.train.drawing import Drawing
from ncafast.train.job import Job, Row
from ncafast.train.optimiser import learning_rate
from ncafast.train.resume import SUMS, check_model, check_progress, kind_of
from ncafast.train.run_folder import RunFolder
from ncafast.train.saving import Saver
from ncafast.train.tensorboard import Board
from ncafast.train.trainer import Trainer
from ncafast.training_options import Settings, memory_of
from ncafast.utils.progress import Bar, note, say
from ncafast.utils.seeds import generator
from ncafast.utils.texts import reason
from ncafast.volume import sharding, spilling


class Loop:
    """The epochs of one run; see `ncafast.train.run`."""

    def __init__(self, job: Job, settings: Settings, folder: RunFolder, ranks: Ranks, device: torch.device) -> None:
        self.job, self.settings, self.folder, self.ranks = job, settings, folder, ranks
        shared = (ranks.shared,)
        self.mesh = init_device_mesh(device.type, shared, mesh_dim_names=("domain",)) if ranks.shared > 1 else None
        self.trainer = Trainer(job, settings, folder, ranks, device)
        self.epoch_steps = self.trainer.epoch_steps
        self.state_saver, self.model_saver = Saver(settings.save_every), Saver(settings.save_every)
        self.drawing = Drawing()
        self.epoch = 0  # epochs that are complete
        self.step = 0  # steps that are complete in the present epoch
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
            say(f"{path}: resuming at epoch {self.epoch + 1}, step {self.step + 1}")
        total, warmup = self.settings.epochs * self.epoch_steps, self.settings.warmup
        if warmup >= total:
            reached = learning_rate(self.settings, total - 1, self.epoch_steps)
            note(
                f"all {total} training steps are in the warm-up (warmup={warmup}), so the learning rate ends at "
                f"{reached:.3g}; give more epochs or a shorter warm-up"
            )
        with Board(self.folder.tensorboard, self.settings.tensorboard and self.ranks.first, self._total()) as board:
            self._run_epochs(board)
        return self._result()

    def _run_epochs(self, board: Board) -> None:
        total = self.settings.epochs * self.epoch_steps
        with Bar(total, self.settings.progress, first=self._total()) as bar:
            while self.epoch < self.settings.epochs and not self._stops_early():
                bar.describe(f"epoch {self.epoch + 1}/{self.settings.epochs}")
                self._run_steps(board, bar)
                self._finish_epoch(board)

    def _stops_early(self) -> bool:
        """Whether the last epochs brought nothing better."""
        patience = self.settings.patience
        if patience is None or self.epoch - self.best["epoch"] < patience:
            return False
        say(f"{self.folder.path}: nothing better in {patience} epochs, so training stops at epoch {self.epoch}")
        return True

    def _run_steps(self, board: Board, bar: Bar) -> None:
        started = time.perf_counter()
        self.trainer.model.train()
        for numbers in self.job.plan(self.epoch, self.trainer.batch, self.settings.seed)[self.step :]:
            with self._rollouts():
                terms = self.trainer.train_on(self._context(numbers))
            for name, value in terms.items():
                self.sums[name] = self.sums.get(name, 0) + value * len(numbers)
            self.sums["samples"] += len(numbers)
            self.step += 1
            bar.advance({"loss": math.fsum(terms.values())} | (terms if len(terms) > 1 else {}))
            board.scalars(self._total(), {f"train/{k}": v for k, v in (terms | self.trainer.curves).items()})
            if self.step < self.epoch_steps and self.ranks.first and self.state_saver.due(self._total()):
                self.sums["seconds"] += time.perf_counter() - started
                started = time.perf_counter()
                self._save(self.model_saver.due(self._total()))
        self.sums["seconds"] += time.perf_counter() - started

    def _rollouts(self) -> AbstractContextManager[None]:
        """How the rollouts of a training step run."""
        if self.mesh is not None:
            return sharding(self.mesh)
        return nullcontext() if self.settings.spill is None else spilling(self.settings.spill)

    def _context(self, numbers: Sequence[int]) -> StepContext:
        low, high = self.settings.steps
        step, seed = self._total(), self.settings.seed
        drawn = low if low == high else int(torch.randint(low, high + 1, (), generator=generator("steps", seed, step)))
        return StepContext(
            epoch=self.epoch,
            step=step,
            position=self.step * self.trainer.batch,
            numbers=numbers,
            steps=drawn,
            indices=range(0),
            run_seed=seed,
            memory=memory_of(self.settings),
        )

    def _finish_epoch(self, board: Board) -> None:
        with self.drawing.epoch():
            self._end_epoch(board)

    def _end_epoch(self, board: Board) -> None:
        draws = self._may_be_last() or self.drawing.due()
        report = Report(self.folder, board, self._total(), self.epoch + 1, draws, self.drawing)
        row = self._measured(report)
        self.history.append(row)
        self.epoch, self.step = self.epoch + 1, 0
        self.sums = dict.fromkeys(self.sums, 0)
        board.scalars(self._total(), {f"epoch/{k}": v for k, v in row.items() if isinstance(v, float)})
        better = self._is_best(row)
        if self.ranks.first:
            if better:
                self._save_model(self.folder.best)
            if report.draws:
                with report.timed():
                    self.job.draw(self.history, self.best["epoch"], report)
            self.folder.write_history(self.history)
            self._save(with_model=True)
        say(f"epoch {self.epoch}: loss {row['loss']:.4f}{self.job.headline(row)} ({row['seconds']:.0f} s)")

    def _measured(self, report: Report) -> Row:
        """The epoch's row in the history."""
        samples = self.sums["samples"]
        terms = {name: value / samples for name, value in self.sums.items() if name not in SUMS}
        row: Row = {"epoch": report.epoch, "steps": report.step, "loss": math.fsum(terms.values()), **terms}
        row["lr"] = self.trainer.optimiser.param_groups[0]["lr"]
        with self.trainer.average.shown():
            row |= self.ranks.told(check_row(self.job.validate(report)) if self.ranks.first else None)
            if report.board.written and self._is_shown(report.epoch):
                self.job.show(report)
        row["seconds"] = round(self.sums["seconds"], 1)
        return row

    def _may_be_last(self) -> bool:
        """Whether training may end with the present epoch: it is the last one, or the last to wait for a better one."""
        patience, epoch = self.settings.patience, self.epoch + 1
        return epoch == self.settings.epochs or (patience is not None and epoch - self.best["epoch"] >= patience)

    def _is_shown(self, epoch: int) -> bool:
        """The first epoch, the last one, and some in between: TensorBoard keeps ten pictures of a name."""
        epochs = self.settings.epochs
        return epoch in (1, epochs) or epoch % -(-epochs // 9) == 0

    def _is_best(self, row: Row) -> bool:
        """Whether the epoch is the best one so far. The first one is whatever its score, so that there is a checkpoint;
        NaN is never better."""
        value = check_score(self.job.score(row))
        better = value > self.best["value"] or not self.best["epoch"]
        if better:
            self.best = {"epoch": self.epoch, "value": -math.inf if math.isnan(value) else value}
        return better

    def _total(self) -> int:
        """Training steps that are complete, over all epochs."""
        return self.epoch * self.epoch_steps + self.step

    def _save(self, with_model: bool) -> None:
        """The state to go on from, last of all; and before it the model's checkpoint, which may take longer."""
        if with_model:
            with self.model_saver.timed():
                self._save_model(self.folder.last)
        with self.state_saver.timed():
            self.folder.save_resume(
                {
                    "kind": kind_of(self.trainer.model),
                    **self.trainer.state(),
                    "schedule": {"step": self._total(), "batch": self.trainer.batch},
                    "job": self.job.state(),
                    "epoch": self.epoch,
                    "step": self.step,
                    "sums": self.sums,
                    "history": self.history,
                    "best": self.best,
                }
            )

    def _save_model(self, path: Path) -> None:
        with self.trainer.average.shown():
            self.job.save_model(path, {"epoch": self.epoch, "step": self.step})

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what a stopped run has saved. Raises ValueError if it is corrupt or of another model."""
        check_model(self.trainer.model, state.get("kind"), self.folder.path)
        try:
            check_progress(state, self.epoch_steps)
            self._check_schedule(state)
            self.trainer.load_state(state)
            self.job.load_state(state["job"])
        except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            what = f"is corrupt or not of this run ({reason(error)})"
            raise ValueError(f"{self.folder.resume}: {what}; {checkpoint.anew(self.folder.resume)}") from error
        self.epoch, self.step = state["epoch"], state["step"]
        self.sums, self.history, self.best = state["sums"], state["history"], state["best"]

    def _check_schedule(self, state: dict[str, Any]) -> None:
        """Raise ValueError if the state is of batches of another size."""
        schedule, batch = state["schedule"], self.trainer.batch
        if schedule == {"step": state["epoch"] * self.epoch_steps + state["step"], "batch": batch}:
            return
        if isinstance(schedule, dict) and schedule.get("batch") != batch:
            raise ValueError(f"it was written with batch size {schedule.get('batch')}, now {batch}")
        raise ValueError(f"schedule={schedule} does not fit epochs of {self.epoch_steps} steps")

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
