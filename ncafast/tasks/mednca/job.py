"""Training Med-NCA and M3D-NCA: the task's part of the loop in `ncafast.train`, which can be stopped at any moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from ncafast.losses import DiceBCELoss
from ncafast.losses.masks import dice
from ncafast.models import M3DNCA, MedNCA
from ncafast.step_range import jitter
from ncafast.tasks.base import Task, TaskJob, initialised
from ncafast.tasks.mask_scores import mean
from ncafast.tasks.mednca import pictures
from ncafast.tasks.mednca.animation import visual
from ncafast.tasks.mednca.batches import Batch, TrainingData
from ncafast.tasks.mednca.data import load_sides, recipe_for
from ncafast.tasks.mednca.fitting import check_memory
from ncafast.tasks.mednca.geometry import say_contradictions
from ncafast.tasks.mednca.inference import segment_slices
from ncafast.tasks.mednca.layouts import open_dataset
from ncafast.tasks.mednca.model_file import Model, Spec, least_sides, metadata_of
from ncafast.tasks.mednca.options import TrainConfig
from ncafast.tasks.mednca.slices import Recipe
from ncafast.train import Report, Settings, StepContext
from ncafast.train.run_folder import RunFolder
from ncafast.training_options import settings_of
from ncafast.utils.progress import note
from ncafast.utils.seeds import mix
from ncafast.viz.visual import Visual

_STEPS = 1500  # of the default length: 1803 steps on 96 hippocampi reach a held-out Dice of 0.857
# 3-D, 96 hippocampi of some 37 x 50 x 35 voxels, held-out Dice, 2026-11-24. Cubes of 24, single weights: between 0.80
# and 0.852 from epoch to epoch after 192 to 312 steps. Averaged weights rise steadily, but stop at 0.846 after 430
# steps and find 25 % too many voxels: cubes from a volume's middle have other batch statistics than all of it. 53 more
# steps on cubes of 32 raise that to 0.871, and 504 of those from the start to 0.880.
_STEPS_3D = 500
_PATCH = 32
_EMA = 0.98
_LOSS = DiceBCELoss()


class Segmentation(TaskJob):
    """Slices of volumes, judged by the Dice of held-out volumes."""

    model: Model
    panels = pictures.PANELS
    finds = True  # whether the last validation found anything

    def __init__(self, task: Task[Any], config: TrainConfig) -> None:
        self.task, self.config, self.begun = task, config, RunFolder(config.output).options()
        earlier = bool(self.begun) and "merge_labels" not in self.begun  # by a version without dataset.json
        if earlier:
            note(f"an earlier version began {config.output}, so dataset.json and further modalities are left aside")
        data = open_dataset(config, config.structures, plain=earlier)
        say_contradictions([path for pair in data.pairs for path in pair.sources], config.geometry)
        self.recipe = recipe_for(config, data)
        self.spec = Spec(self.recipe, config.predict_batch)
        self.model = initialised(lambda: _new_model(config, self.recipe), config.seed)
        least = least_sides(self.model)
        self.train, self.held_out, self.skipped = load_sides(config, self.recipe, data, least)
        if config.device == "cpu":  # on a GPU the rollouts look themselves
            check_memory(self.model, config, self.train, self.held_out)
        self.data = TrainingData(self.train, config, len(self.recipe.values))
        self.samples = len(self.data)
        self.kind = "slices" if config.dims == 2 else "volumes"

    def checksums(self) -> dict[str, dict[str, int]]:
        """Of every volume by name, for the two sides of the split."""
        return {
            "train": {volume.name: volume.checksum for volume in self.train},
            "held_out": {volume.name: volume.checksum for volume in self.held_out},
        }

    def load(self, at: StepContext) -> Batch:
        return self.data.batch(at.epoch, at.position + at.indices.start, at.micro_batch)

    def losses(self, batch: Batch, at: StepContext) -> dict[str, Tensor]:
        varied = {}
        if self.config.step_jitter:
            varied = {"steps": jitter(self.model.steps, self.config.step_jitter, at.generator("steps"))}
        logits = batch.logits(self.model, **at.options, **varied)
        dice_loss, bce = _LOSS.terms(logits, batch.target, batch.valid)
        return {"dice_loss": dice_loss, "bce": bce}

    def validate(self, report: Report) -> dict[str, Any]:
        """Mean Dice over the held-out volumes, and of each class where there are several; None where nothing is held
        out."""
        columns = self._columns()
        if not self.held_out:
            return dict.fromkeys(("val_dice", *columns))
        self.model.eval()
        table, self.finds, labelled = [], False, False
        for number, volume in enumerate(self.held_out):
            images, truth = (tensor.numpy() for tensor in volume.read(slice(None)))
            segmentation = segment_slices(self.model, self.spec, images, volume.spacing, seed=self.config.seed)
            self.finds, labelled = self.finds or bool(segmentation.labels.any()), labelled or bool(truth.any())
            table.append([dice(segmentation.labels == k, truth == k) for k in range(1, len(self.recipe.values) + 1)])
            if number < self.config.pictures:
                title = f"{volume.name}, Dice of the volume {mean(table[-1]):.3f}"
                draw = partial(pictures.draw, segmentation, title, truth)
                self.picture(report, report.folder.pictures / f"{volume.name}.png", draw)
        self.finds = self.finds or not labelled
        per_class = [mean(column) for column in zip(*table, strict=True)]
        return {"val_dice": mean(per_class), **dict(zip(columns, per_class, strict=False))}

    def visuals(self) -> Iterable[Visual]:
        """The slice of each volume with most labels, as an animation has it."""
        side, names = "held out" if self.held_out else "training", [self.recipe.name_of(v) for v in self.recipe.values]
        seed = mix("predict", self.config.seed, 0, 0)  # as of the volume's first slices in `validate`
        for volume in (self.held_out or self.train)[: self.config.pictures]:
            images, truth = volume.read(slice(None))
            index = pictures.fullest(pictures.areas(truth.numpy()))
            yield visual(self.model, images, truth, index, f"{side}/{volume.name}", names, volume.spacing, seed)

    def _columns(self) -> list[str]:
        """Names of the classes' columns, by the labels' names or values; none for one class."""
        recipe, several = self.recipe, len(self.recipe.values) > 1
        return [f"val_dice_{recipe.name_of(v) if recipe.label_names else v}" for v in recipe.values if several]

    def score(self, row: dict[str, Any]) -> float:
        return -row["loss"] if row["val_dice"] is None else row["val_dice"]

    def headline(self, row: dict[str, Any]) -> str:
        nothing = "" if self.finds else ", no voxel of them is labelled yet"
        return "" if row["val_dice"] is None else f", held-out Dice {row['val_dice']:.4f}{nothing}"

    @property
    def metadata(self) -> dict[str, str]:
        return metadata_of(self.recipe, self.spec.group)

    @property
    def unit(self) -> str:
        """Also where a run turns out to be on other volumes."""
        if self.config.ignore_affine and self.begun and "geometry" not in self.begun:  # such labels were mirrored
            return "volumes (with --ignore-affine labels now take their image's affine)"
        return self.task.unit

    def opening(self) -> str:
        sizes = f"{len(self.train)} volumes to train on ({self.samples} {self.kind})"
        line = f"{sizes}, {len(self.held_out)} volumes held out"
        if self.recipe.several:
            names = self.recipe.channel_names or ("",) * len(self.recipe.channels)
            used = ", ".join(f"{k} {name}".strip() for k, name in zip(self.recipe.channels, names, strict=True))
            line += f"; of the images' channels these are used: {used} (--channels)"
        return line

    def settings(self, options: TrainConfig) -> tuple[Settings, TrainConfig]:
        """With the number of epochs, which follows from the number of samples."""
        length = _STEPS if options.dims == 2 else _STEPS_3D
        per_epoch = self.steps_per_epoch(settings_of(options).batch_size * options.accumulate)
        epochs = options.epochs or self.begun.get("epochs") or max(3, -(-length // per_epoch))
        lr_step = options.lr_step or self.begun.get("lr_step") or -(-epochs // 3)
        kept = replace(options, epochs=epochs, lr_step=lr_step, channels=self.recipe.channels)
        return settings_of(kept), kept


def _new_model(config: TrainConfig, recipe: Recipe) -> Model:
    assert config.kernel_sizes is not None and config.steps is not None
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


def filled(config: TrainConfig) -> TrainConfig:
    """The configuration with what depends on --dims and --levels decided, but for the number of epochs."""
    return replace(
        config,
        kernel_sizes=config.kernel_sizes or (7, *[3] * (config.levels - 1)),
        steps=config.steps or (20 if config.dims == 2 else 10,) * config.levels,
        batch_size=(8 if config.dims == 2 else 4) if config.batch_size is None else config.batch_size,
        ema=(0.0 if config.dims == 2 else _EMA) if config.ema is None else config.ema,
        crop=_PATCH if config.crop is None and config.dims == 3 else config.crop,
    )
