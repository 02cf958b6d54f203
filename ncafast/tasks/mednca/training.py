"""Training, stoppable at any moment: the same command goes on and ends with the same weights.

Every random choice is a function of the seed and of what it is for (epoch, step, sample), never of
how the process got there; model, optimiser, schedule and running sums are saved together. On the
CPU with one number of threads, a run that was killed any number of times and an undisturbed one
agree bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from ncafast.models import MedNCA
from ncafast.tasks.mednca import pictures
from ncafast.tasks.mednca.board import Board
from ncafast.tasks.mednca.cache import CachedVolume
from ncafast.tasks.mednca.config import TrainConfig
from ncafast.tasks.mednca.data import Batch, TrainingSlices, load_sides
from ncafast.tasks.mednca.device import resolve_device
from ncafast.tasks.mednca.loss import dice_bce
from ncafast.tasks.mednca.model_file import MOST_SCALE, save_model
from ncafast.tasks.mednca.outputs import check_folder
from ncafast.tasks.mednca.pairs import Skipped, find_pairs, resolve_folders
from ncafast.tasks.mednca.resume import check_optimiser, check_progress
from ncafast.tasks.mednca.run_folder import MOST_THREADS, RunFolder
from ncafast.tasks.mednca.seeds import mix
from ncafast.tasks.mednca.slices import Array, Recipe
from ncafast.tasks.mednca.texts import printable
from ncafast.tasks.mednca.validation import validate

_STEPS = 1500  # of the default length: 1803 steps on 96 hippocampi reach a held-out Dice of 0.857


class TrainingStopped(RuntimeError):
    """Training cannot go on, because the loss is no longer a number."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run has come to."""

    folder: Path
    best: Path
    """The checkpoint with the highest held-out Dice (with nothing held out, the lowest training
    loss)."""
    last: Path
    best_epoch: int
    best_dice: float | None
    """Mean over the held-out volumes; None if nothing was held out."""
    history: tuple[dict[str, Any], ...]
    """One row per epoch, as in history.csv."""
    train: tuple[str, ...]
    held_out: tuple[str, ...]
    skipped: tuple[Skipped, ...]


def train(config: TrainConfig) -> Result:
    """Train as configured, or go on with the run that was begun in ``config.out``.

    Raises ValueError for options, data or a run folder that cannot be used, and TrainingStopped if
    the loss becomes infinite or NaN.
    """
    _check(config)
    folder = RunFolder(config.out)
    settled = folder.settled()
    threads = config.threads or settled.get("threads") or torch.get_num_threads()
    device = resolve_device(config.device)
    with _threads(threads):
        trainer = _Trainer(replace(config, threads=threads, device=str(device)), folder, settled)
        try:
            return trainer.run()
        except KeyboardInterrupt:
            _say(f"{config.out}: stopped; the same command goes on from the last save")
            raise


class _Trainer:
    def __init__(self, config: TrainConfig, folder: RunFolder, settled: dict[str, Any]) -> None:
        self.folder, self.device = folder, torch.device(config.device)
        pairs, unpaired = find_pairs(*resolve_folders(config.data, config.images, config.labels))
        self.recipe = Recipe.of(config, [pair.image for pair in pairs])
        self.train, self.held_out, self.skipped = load_sides(config, self.recipe, pairs, unpaired)
        self.slices = TrainingSlices(
            self.train,
            classes=len(self.recipe.values),
            multiple=config.scale,
            batch_size=config.batch_size,
            seed=config.seed,
            skip_empty=config.skip_empty,
            crop=config.crop,
            flip=config.flip,
        )
        self.epochs = config.epochs or settled.get("epochs") or max(3, -(-_STEPS // self.slices.steps))
        lr_step = config.lr_step or settled.get("lr_step") or -(-self.epochs // 3)
        self.config = config = replace(config, epochs=self.epochs, lr_step=lr_step)
        self.model = _new_model(config, self.recipe).to(self.device)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=config.lr)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimiser, lr_step, config.lr_gamma)
        self.epoch = 0  # epochs that are complete
        self.step = 0  # steps that are complete in the present epoch
        self.sums = {"dice_loss": 0.0, "bce": 0.0, "slices": 0, "seconds": 0.0}
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"epoch": 0, "value": -math.inf}

    def run(self) -> Result:
        """Do what is left to do."""
        volumes = {
            "train": {volume.name: volume.checksum for volume in self.train},
            "held_out": {volume.name: volume.checksum for volume in self.held_out},
        }
        state = self.folder.claim(self.config, volumes)
        if state is None:
            _say(
                f"training on {len(self.train)} volumes ({len(self.slices)} slices), "
                f"{len(self.held_out)} volumes held out; writing to {self.folder.path}"
            )
        else:
            self._restore(state)
            if self.epoch >= self.epochs:
                _say(f"{self.folder.path}: this run is finished ({self.epoch} epochs); raise --epochs to train longer")
                return self._result()
            _say(f"{self.folder.path}: going on at epoch {self.epoch + 1}, step {self.step + 1}")
        with Board(self.folder.tensorboard, self.config.tensorboard, self._global_step()) as board:
            self._run_epochs(board)
        return self._result()

    def _run_epochs(self, board: Board) -> None:
        total = self.epochs * self.slices.steps
        with tqdm(total=total, initial=self._global_step(), unit="step", disable=not self.config.progress) as bar:
            while self.epoch < self.epochs:
                bar.set_description(f"epoch {self.epoch + 1}/{self.epochs}")
                self._run_steps(board, bar)
                self._finish_epoch(board)

    def _run_steps(self, board: Board, bar: Any) -> None:
        started = time.perf_counter()
        self.model.train()
        for batch in self.slices.batches(self.epoch, first=self.step):
            dice_loss, bce = self._train_on(batch.to(self.device))
            count = batch.image.shape[0]
            self.sums["dice_loss"] += dice_loss * count
            self.sums["bce"] += bce * count
            self.sums["slices"] += count
            self.step += 1
            bar.update()
            bar.set_postfix(loss=f"{dice_loss + bce:.3f}", dice=f"{1 - dice_loss:.3f}")
            board.scalars(self._global_step(), {"train/dice_loss": dice_loss, "train/bce": bce})
            if self._global_step() % self.config.save_every == 0 and self.step < self.slices.steps:
                self.sums["seconds"] += time.perf_counter() - started
                started = time.perf_counter()
                self._save()
        self.sums["seconds"] += time.perf_counter() - started

    def _train_on(self, batch: Batch) -> tuple[float, float]:
        logits = self.model(batch.image, seed=mix("fire", self.config.seed, self._global_step()))
        dice_loss, bce = dice_bce(logits, batch.target, batch.valid)
        self.optimiser.zero_grad()
        (dice_loss + bce).backward()
        norm = clip_grad_norm_(self.model.parameters(), self.config.clip or math.inf)
        losses = dice_loss.item(), bce.item()
        if not math.isfinite(sum(losses)) or not math.isfinite(norm.item()):
            self._stop(sum(losses))
        self.optimiser.step()
        return losses

    def _stop(self, loss: float) -> None:
        kept = f"; the last good weights are in {self.folder.last}" if self.folder.last.exists() else ""
        what = f"the loss became {loss}" if not math.isfinite(loss) else "the gradient became infinite or NaN"
        raise TrainingStopped(
            f"{what} in epoch {self.epoch + 1}, step {self.step + 1}{kept}. Train again with another "
            f"--out and a lower --lr (now {self.config.lr:g}) or --clip (now {self.config.clip:g})"
        )

    def _finish_epoch(self, board: Board) -> None:
        slices = self.sums["slices"]
        dice_loss, bce = self.sums["dice_loss"] / slices, self.sums["bce"] / slices
        row: dict[str, Any] = {"epoch": self.epoch + 1, "steps": self._global_step()}
        row |= {"loss": dice_loss + bce, "dice_loss": dice_loss, "bce": bce}
        row |= {"lr": self.optimiser.param_groups[0]["lr"], **self._validate(board)}
        row["seconds"] = round(self.sums["seconds"], 1)
        self.schedule.step()
        self.history.append(row)
        self.epoch, self.step = self.epoch + 1, 0
        self.sums = dict.fromkeys(self.sums, 0)
        board.scalars(self._global_step(), {f"epoch/{k}": v for k, v in row.items() if isinstance(v, float)})
        value = row["val_dice"] if row["val_dice"] is not None else -row["loss"]
        if value > self.best["value"]:
            self.best = {"epoch": self.epoch, "value": value}
            self._save_model(self.folder.best)
        pictures.write_png(self.folder.curves, pictures.curves(self.history, self.best["epoch"]))
        self.folder.write_history(self.history)
        self._save()
        held_out = "" if row["val_dice"] is None else f", held-out Dice {row['val_dice']:.4f}"
        _say(f"epoch {self.epoch}: loss {row['loss']:.4f}{held_out} ({row['seconds']:.0f} s)")

    def _validate(self, board: Board) -> dict[str, Any]:
        def show(volume: CachedVolume, picture: Array) -> None:
            pictures.write_png(self.folder.pictures / f"{volume.name}.png", picture)
            board.picture(self._global_step(), f"held out/{volume.name}", picture)

        config = self.config
        return validate(
            self.model,
            self.held_out,
            self.recipe,
            seed=config.seed,
            group=config.predict_batch,
            shown=config.pictures,
            show=show,
        )

    def _global_step(self) -> int:
        return self.epoch * self.slices.steps + self.step

    def _save(self) -> None:
        self._save_model(self.folder.last)
        self.folder.save_resume(
            {
                "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "schedule": self.schedule.state_dict(),
                "epoch": self.epoch,
                "step": self.step,
                "sums": self.sums,
                "history": self.history,
                "best": self.best,
            }
        )

    def _save_model(self, path: Path) -> None:
        facts = {"epoch": self.epoch, "step": self.step}
        save_model(path, self.model, self.recipe, self.config.predict_batch, **facts)

    def _restore(self, state: dict[str, Any]) -> None:
        try:
            check_progress(state, self.slices.steps)
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            check_optimiser(self.optimiser)
            if set(state["schedule"]) != set(self.schedule.state_dict()) or (
                state["schedule"]["last_epoch"] != state["epoch"]
            ):
                raise ValueError("the learning rate's schedule does not fit")
            self.schedule.load_state_dict(state["schedule"])
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
            best_dice=self.best["value"] if self.held_out else None,
            history=tuple(self.history),
            train=tuple(volume.name for volume in self.train),
            held_out=tuple(volume.name for volume in self.held_out),
            skipped=tuple(self.skipped),
        )


def _new_model(config: TrainConfig, recipe: Recipe) -> MedNCA:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix("init", config.seed))
        return MedNCA(
            channels=config.state_channels,
            hidden=config.hidden,
            kernel_sizes=config.kernel_sizes,
            steps=config.steps,
            scale=config.scale,
            fire_rate=config.fire_rate,
            image_channels=len(recipe.channels),
            classes=len(recipe.values),
        )


def _check(config: TrainConfig) -> None:
    counts = "epochs batch_size lr_step predict_batch save_every scale threads crop"
    for name in counts.split():
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ValueError(f"{name}={value} is not allowed; give a whole number from 1")
    for name, most in (("threads", MOST_THREADS), ("scale", MOST_SCALE)):
        if (getattr(config, name) or 0) > most:
            raise ValueError(f"{name}={getattr(config, name)} is not allowed; give a whole number from 1 to {most}")
    check_folder("--out", config.out)
    if config.cache is not None:
        check_folder("--cache", config.cache)
    if not (config.lr > 0 and math.isfinite(config.lr)):
        raise ValueError(f"lr={config.lr} is not allowed; give a number above 0, such as 0.002")
    for name in ("lr_gamma", "clip"):
        if not (getattr(config, name) >= 0 and math.isfinite(getattr(config, name))):
            raise ValueError(f"{name}={getattr(config, name)} is not allowed; give a number from 0")


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _say(text: str) -> None:
    tqdm.write(printable(text))
