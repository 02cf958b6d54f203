"""Training Med-NCA and M3D-NCA: the task's part of the loop in `ncafast.train`, which can be stopped at any moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ncafast.models import M3DNCA, MedNCA
from ncafast.models.m3dnca import MAX_LEVELS
from ncafast.tasks.mednca import pictures
from ncafast.tasks.mednca.cache import CachedVolume
from ncafast.tasks.mednca.config import TrainConfig
from ncafast.tasks.mednca.data import Batch, TrainingSlices, load_sides
from ncafast.tasks.mednca.inference import Model
from ncafast.tasks.mednca.loss import dice_bce
from ncafast.tasks.mednca.model_file import MOST_SCALE, least_sides, save_model
from ncafast.tasks.mednca.notes import say_contradictions
from ncafast.tasks.mednca.pairs import Skipped
from ncafast.tasks.mednca.patches import PatchBatch, TrainingVolumes
from ncafast.tasks.mednca.plan import open_training, recipe_for
from ncafast.tasks.mednca.slices import Array, Recipe
from ncafast.tasks.mednca.validation import validate
from ncafast.train import Job, Moment, Report, Settings, run
from ncafast.train.run_folder import FREE, RunFolder
from ncafast.train.settings import BaseSettings, check_settings
from ncafast.utils.devices import resolve_device
from ncafast.utils.option_checks import Range, check_options, refused
from ncafast.utils.outputs import check_folder
from ncafast.utils.progress import say
from ncafast.utils.seeds import mix

_STEPS = 1500  # of the default length: 1803 steps on 96 hippocampi reach a held-out Dice of 0.857
# 3-D, 96 hippocampi of some 37 x 50 x 35 voxels, held-out Dice, 2026-11-24. Cubes of 24, single weights: between 0.80
# and 0.852 from epoch to epoch after 192 to 312 steps. Averaged weights rise steadily, but stop at 0.846 after 430
# steps and find 25 % too many voxels: cubes from a volume's middle have other batch statistics than all of it. 53 more
# steps on cubes of 32 raise that to 0.871, and 504 of those from the start to 0.880.
_STEPS_3D = 500
_PATCH = 32
_EMA = 0.98

# What these lead to, the volumes' contents, is compared itself.
_FREE = FREE | {"cache", "data", "images", "labels", "train_list", "val_list", "val_fraction"}
_FREE |= {"ignore_affine", "geometry", "merge_labels", "structures", "suffix"}


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
    check(config)
    config = _filled(config)
    settled = RunFolder(config.out).settled()
    config = replace(config, device=str(resolve_device(config.device)))
    earlier = bool(settled) and "merge_labels" not in settled  # a run that a version without dataset.json began
    if earlier:
        say(f"note: an earlier version began {config.out}, so dataset.json and further modalities are left aside")
    job = _Segmentation(config, earlier)
    length = _STEPS if config.dims == 2 else _STEPS_3D
    per_epoch = job.steps_per_epoch(_batch(config) * config.accumulate)
    epochs = config.epochs or settled.get("epochs") or max(3, -(-length // per_epoch))
    lr_step = config.lr_step or settled.get("lr_step") or -(-epochs // 3)
    config = replace(config, epochs=epochs, lr_step=lr_step, channels=job.recipe.channels)
    opening = f"{len(job.train)} volumes to train on ({job.samples} {job.kind}), {len(job.held_out)} volumes held out"
    if job.recipe.several:
        names = job.recipe.channel_names or ("",) * len(job.recipe.channels)
        used = ", ".join(f"{k} {name}".strip() for k, name in zip(job.recipe.channels, names, strict=True))
        opening += f"; of the images' channels these are used: {used} (--channels)"
    done = run(
        job,
        _settings(config),
        config=config,
        data=job.checksums(),
        free=_FREE,
        things=_things(config, settled),
        opening=opening,
    )
    return Result(
        folder=done.folder,
        best=done.best,
        last=done.last,
        best_epoch=done.best_epoch,
        best_dice=done.best_score if job.held_out else None,
        history=done.history,
        train=tuple(volume.name for volume in job.train),
        held_out=tuple(volume.name for volume in job.held_out),
        skipped=tuple(job.skipped),
    )


class _Segmentation(Job):
    """Slices of volumes, judged by the Dice of held-out volumes."""

    model: Model
    finds = True  # whether the last validation found anything

    def __init__(self, config: TrainConfig, earlier: bool = False) -> None:
        self.config = config
        data = open_training(config, plain=earlier)
        say_contradictions([path for pair in data.pairs for path in pair.sources], config.geometry)
        self.recipe, notes = recipe_for(config, data)
        for note in notes:
            say(f"note: {note}")
        self.model = _new_model(config, self.recipe)
        least = least_sides(self.model)
        self.train, self.held_out, self.skipped = load_sides(config, self.recipe, data.pairs, data.skipped, least)
        self.data = _training_data(config, self.recipe, self.train)
        self.samples = len(self.data)
        self.kind = "slices" if config.dims == 2 else "volumes"

    def checksums(self) -> dict[str, dict[str, int]]:
        """Of every volume by name, for the two sides of the split."""
        return {
            "train": {volume.name: volume.checksum for volume in self.train},
            "held_out": {volume.name: volume.checksum for volume in self.held_out},
        }

    def load(self, at: Moment) -> Batch | PatchBatch:
        return self.data.batch(at.epoch, at.position + at.places.start, at.own)

    def losses(self, batch: Any, at: Moment) -> dict[str, Tensor]:
        logits = batch.logits(self.model, **at.options)
        dice_loss, bce = dice_bce(logits, batch.target, batch.valid)
        return {"dice_loss": dice_loss, "bce": bce}

    def validate(self, report: Report) -> dict[str, Any]:
        def show(volume: CachedVolume, picture: Array) -> None:
            pictures.write_png(report.folder.pictures / f"{volume.name}.png", picture)
            report.board.picture(report.step, f"held out/{volume.name}", picture)

        row, self.finds = validate(
            self.model,
            self.held_out,
            self.recipe,
            seed=self.config.seed,
            group=self.config.predict_batch,
            shown=self.config.pictures,
            show=show,
        )
        return row

    def score(self, row: dict[str, Any]) -> float:
        return -row["loss"] if row["val_dice"] is None else row["val_dice"]

    def draw(self, history: Sequence[dict[str, Any]], best_epoch: int, report: Report) -> None:
        pictures.write_png(report.folder.curves, pictures.curves(history, best_epoch))

    def headline(self, row: dict[str, Any]) -> str:
        nothing = "" if self.finds else ", no voxel of them is labelled yet"
        return "" if row["val_dice"] is None else f", held-out Dice {row['val_dice']:.4f}{nothing}"

    def save_model(self, path: Path, facts: dict[str, int]) -> None:
        save_model(path, self.model, self.recipe, self.config.predict_batch, **facts)


def _settings(config: TrainConfig) -> Settings:
    """The loop's options among the task's, with what these leave open settled."""
    shared = {field.name: getattr(config, field.name) for field in fields(BaseSettings)}
    return Settings(
        epochs=config.epochs or 1,
        batch_size=_batch(config),
        lr_step=config.lr_step or 1,
        ema=config.ema or 0.0,
        **shared,
    )


def _new_model(config: TrainConfig, recipe: Recipe) -> Model:
    assert config.kernel_sizes is not None and config.steps is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix("init", config.seed))
        if config.dims == 3:
            return M3DNCA(
                channel_n=config.state_channels,
                fire_rate=1 - config.fire_rate,  # in its sense a cell updates with probability 1 - fire_rate
                steps=config.steps,
                hidden_size=config.hidden,
                input_channels=len(recipe.channels),
                output_channels=len(recipe.values),
                scale_factor=config.scale,
                levels=config.levels,
                kernel_size=config.kernel_sizes,
            )
        return MedNCA(
            channels=config.state_channels,
            hidden=config.hidden,
            kernel_sizes=config.kernel_sizes,  # type: ignore[arg-type] # two, as it checks itself
            steps=config.steps,  # type: ignore[arg-type]
            scale=config.scale,
            fire_rate=config.fire_rate,
            image_channels=len(recipe.channels),
            classes=len(recipe.values),
        )


def _training_data(
    config: TrainConfig, recipe: Recipe, volumes: Sequence[CachedVolume]
) -> TrainingSlices | TrainingVolumes:
    options: dict[str, Any] = {"classes": len(recipe.values), "seed": config.seed, "flip": config.flip}
    options["skip_empty"] = config.skip_empty
    if config.dims == 2:
        return TrainingSlices(volumes, multiple=config.scale, crop=config.crop, **options)
    assert config.crop is not None  # `_filled`
    return TrainingVolumes(volumes, scale=config.scale, levels=config.levels, patch=config.crop, **options)


def _filled(config: TrainConfig) -> TrainConfig:
    """The configuration with what depends on --dims and --levels settled, but for the number of epochs."""
    return replace(
        config,
        kernel_sizes=config.kernel_sizes or (7, *[3] * (config.levels - 1)),
        steps=config.steps or (20 if config.dims == 2 else 10,) * config.levels,
        batch_size=(8 if config.dims == 2 else 4) if config.batch_size is None else config.batch_size,
        ema=(0.0 if config.dims == 2 else _EMA) if config.ema is None else config.ema,
        crop=_PATCH if config.crop is None and config.dims == 3 else config.crop,
    )


def _things(config: TrainConfig, settled: dict[str, Any]) -> str:
    """What the samples are called where a run turns out to be on others; ``settled`` are the run's options."""
    if config.ignore_affine and settled and "geometry" not in settled:  # of a version that mirrored such labels
        return "volumes (with --ignore-affine labels now take their image's affine)"
    return "volumes"


def _batch(config: TrainConfig) -> int:
    assert config.batch_size is not None  # `_filled`
    return config.batch_size


def check(config: TrainConfig) -> None:
    """Raise ValueError for options that cannot be used, before any file is read."""
    check_options(
        config,
        levels=Range(1, MAX_LEVELS),
        state_channels=2,
        steps=1,
        kernel_sizes=1,
        predict_batch=1,
        scale=Range(1, MOST_SCALE),
        crop=1,
        channels=0,
    )
    if config.dims == 2 and config.levels != 2:
        raise ValueError(f"levels={config.levels} is not allowed with dims=2, which has 2 levels; give --dims 3")
    if config.scale ** (config.levels - 1) > MOST_SCALE:
        raise ValueError(
            f"scale={config.scale} with levels={config.levels} is not allowed; give a scale from 1 to {MOST_SCALE}, "
            f"and fewer levels where scale^(levels - 1) is beyond that"
        )
    filled = _filled(config)
    for name, values in (("steps", filled.steps), ("kernel_sizes", filled.kernel_sizes)):
        if len(values or ()) != config.levels:
            raise refused(name, values, f"give {config.levels} numbers, one per level, the coarsest first")
    _check_patch(filled)
    check_settings(_settings(filled))
    if config.cache is not None:
        check_folder("--cache", config.cache)


def _check_patch(config: TrainConfig) -> None:
    """Raise ValueError for cubes too small for the perception of the levels that see them, which pads by reflection."""
    assert config.crop is not None or config.dims == 2  # `_filled`
    finer = (config.kernel_sizes or ())[1:]
    least = max((size // 2 + 1 for size in finer), default=1)
    if config.dims == 3 and config.crop is not None and config.crop < least:
        raise refused("crop", config.crop, f"kernels of {max(finer)} need cubes with a side from {least}")
