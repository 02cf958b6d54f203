"""Training a growing automaton: the task's part of the loop in `ncafast.train`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ncafast.models import GrowingNCA
from ncafast.tasks.growing import pictures
from ncafast.tasks.growing.config import TrainConfig
from ncafast.tasks.growing.emoji import draw_emoji
from ncafast.tasks.growing.healing import grow, heal
from ncafast.tasks.growing.model_file import save_model
from ncafast.tasks.growing.states import pixel_loss, seed_states
from ncafast.tasks.growing.target import MOST_SIZE, Target, make_target, read_target
from ncafast.tasks.images import Reading
from ncafast.train import Job, Moment, Report, run
from ncafast.train.pool import Pool, PoolJob
from ncafast.train.run_folder import FREE
from ncafast.train.settings import check_settings
from ncafast.utils.option_checks import Range, refused
from ncafast.utils.seeds import mix
from ncafast.viz.figures import write_png

_EPOCH = 100  # training steps
_RUNS = 4  # that an epoch's measures are means of
_FREE = FREE | {"image", "font", "value_range", "max_pixels"}  # what they lead to, the target, is compared itself


@dataclass(frozen=True, slots=True)
class Result:
    """What a run has come to."""

    folder: Path
    best: Path
    """The checkpoint of the epoch that did best what the regime asks for."""
    last: Path
    best_epoch: int
    measures: dict[str, float]
    """Of the best epoch: val_grown, val_later and val_healed, losses of states."""
    history: tuple[dict[str, Any], ...]
    """One row per epoch, as in history.csv."""


def train(config: TrainConfig) -> Result:
    """Train as configured, or go on with the run that was begun in ``config.out``.

    Raises:
        ValueError: options, an image or a run folder that cannot be used.
        TrainingStopped: the loss became infinite or NaN.
    """
    check(config)
    target = _target(config)
    job = _FromSeed(config, target) if config.regime == "growing" else _FromPool(config, target)
    _, height, width = job.target.shape
    opening = f"growing {target.pixels.shape[1]} x {target.pixels.shape[0]} cells on a grid of {width} x {height}"
    data = {"train": {"target": _checksum(target)}}
    done = run(job, config, data=data, free=_FREE, things="images", opening=opening)
    best = done.history[done.best_epoch - 1]
    return Result(
        folder=done.folder,
        best=done.best,
        last=done.last,
        best_epoch=done.best_epoch,
        measures={name: best[name] for name in best if name.startswith("val_")},
        history=done.history,
    )


class _Growing(Job):
    """What all regimes share: the model, the loss, and how an epoch is judged."""

    model: GrowingNCA

    def __init__(self, config: TrainConfig, target: Target) -> None:
        self.config, self.image = config, target
        self.target = target.tensor()  # [4, H, W]
        self.model = _new_model(config)

    def seeds(self, count: int) -> Tensor:
        """[count, C, H, W]."""
        return seed_states(count, self.config.state_channels, *self.target.shape[-2:])

    def losses(self, batch: Tensor, at: Moment) -> Tensor:
        after = self.model(batch.movedim(1, -1), at.steps, **at.options).movedim(-1, 1)
        at.keep(after)
        return self.judge(after).mean()

    def judge(self, states: Tensor) -> Tensor:
        return pixel_loss(states, self.target.to(states.device))

    def validate(self, report: Report) -> dict[str, Any]:
        """Losses after growth, after three times as long, and after healing for twice as long; the last two where the
        regime trains for them."""
        self.model.eval()
        longest, seed = max(1, self.config.steps[1]), self.config.seed
        grown, losses = grow(self.model, self.target, steps=3 * longest, runs=_RUNS, seed=seed)
        row = {"val_grown": losses[longest], "val_later": losses[-1]}
        (course,) = heal(self.model, grown, self.target, cuts=("right",), steps=2 * longest, seed=seed)
        row["val_healed"] = course.losses[-1]
        shown = pictures.row([self.target, *course.states])
        write_png(report.folder.pictures / f"epoch-{report.epoch:04d}.png", shown)
        report.board.picture(report.step, "target, grown, cut, healed", shown)
        return row

    def score(self, row: dict[str, Any]) -> float:
        wanted = {"growing": ("val_grown",), "persistent": ("val_grown", "val_later")}
        names = wanted.get(self.config.regime, ("val_grown", "val_later", "val_healed"))
        return -sum(row[name] for name in names)

    def draw(self, history: Sequence[dict[str, Any]], best_epoch: int, report: Report) -> None:
        write_png(report.folder.curves, pictures.curves(history, best_epoch))

    def headline(self, row: dict[str, Any]) -> str:
        return f", grown {row['val_grown']:.4f}, later {row['val_later']:.4f}, healed {row['val_healed']:.4f}"

    def save_model(self, path: Path, facts: dict[str, int]) -> None:
        save_model(path, self.model, self.image, max(1, self.config.steps[1]), self.config.regime, **facts)


class _FromSeed(_Growing):
    """Every sample starts from the seed."""

    def steps_per_epoch(self, batch: int) -> int:
        return _EPOCH

    def plan(self, epoch: int, batch: int, seed: int) -> Sequence[Sequence[int]]:
        return [range(batch)] * _EPOCH

    def load(self, at: Moment) -> Tensor:
        return self.seeds(len(at.own))


class _FromPool(_Growing, PoolJob):
    """Samples go on from a pool; the worst of each batch starts anew, and some of the others may be damaged."""

    epoch_length = _EPOCH

    def __init__(self, config: TrainConfig, target: Target) -> None:
        super().__init__(config, target)
        self.pool = Pool.create(config.pool_size, lambda numbers: self.seeds(len(numbers)))
        self.damaged = config.damage if config.regime == "regenerating" else 0
        self.damage_kind, self.damage_size = config.damage_kind, config.damage_size
        self.damage_after = config.damage_after

    def fresh(self, numbers: Sequence[int], at: Moment) -> Tensor:
        return self.seeds(len(numbers))


def _target(config: TrainConfig) -> Target:
    size, padding, background = config.size, config.padding, config.background
    if config.image is not None:
        return read_target(config.image, size=size, padding=padding, background=background, reading=Reading.of(config))
    image = draw_emoji(config.emoji or "", config.font)
    return make_target(image, f"emoji {config.emoji}", size=size, padding=padding, background=background)


def _checksum(target: Target) -> int:
    facts = f"{target.pixels.shape} {target.padding} ".encode() + target.pixels.tobytes()
    return int.from_bytes(hashlib.sha256(facts).digest()[:6], "big")


def _new_model(config: TrainConfig) -> GrowingNCA:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix("init", config.seed))
        # The model's own rate is that of the cells which do not update.
        return GrowingNCA(config.state_channels, 1.0 - config.fire_rate, hidden_size=config.hidden)


def check(config: TrainConfig) -> None:
    """Raise ValueError for options that cannot be used, before any file is read."""
    if (config.image is None) == (config.emoji is None):
        raise ValueError("give either an image file with --image or an emoji with --emoji")
    if config.font is not None and config.emoji is None:
        raise ValueError("--font is for --emoji, which is not given")
    check_settings(
        config,
        steps=1,
        size=Range(1, MOST_SIZE),
        padding=Range(0, MOST_SIZE),
        pool_size=1,
        damage=0,
        damage_after=0,
        damage_size=Range(0, 1, whole=False),
        state_channels=4,
    )
    if config.damage_size[0] > config.damage_size[1]:
        raise refused("damage_size", config.damage_size, "give the smaller number first")
