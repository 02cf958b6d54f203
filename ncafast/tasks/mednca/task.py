"""Med-NCA and M3D-NCA on medical volumes: train on NIfTI pairs, write segmentations, score them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ncafast.models.m3dnca import MAX_LEVELS
from ncafast.tasks.base import Task, Trained
from ncafast.tasks.mednca.animation import frames
from ncafast.tasks.mednca.job import Segmentation, filled
from ncafast.tasks.mednca.layouts import open_dataset
from ncafast.tasks.mednca.model_file import KINDS, MOST_SCALE, Model, Spec, read, with_geometry
from ncafast.tasks.mednca.options import AnimateConfig, EvaluateConfig, PredictConfig, TrainConfig
from ncafast.tasks.mednca.prediction import Predictions, check_prediction, predict
from ncafast.tasks.mednca.scores import Scores, score_volumes
from ncafast.training_options import check_settings, settings_of
from ncafast.utils.devices import resolve_device
from ncafast.utils.option_checks import Range, refused
from ncafast.utils.outputs import check_folder
from ncafast.viz.captions import Frame


class MedNCATask(Task[Spec]):
    """See `ncafast train mednca --help`."""

    name, unit, models = "mednca", "volumes", KINDS
    evaluation_files = ("scores.csv", "uncertainty.json", "quality.png", "worst.png", "middle.png", "best.png")
    hold = 1.5
    # What these lead to, the volumes' contents, is compared itself.
    free = frozenset(
        {"cache", "data", "images", "labels", "train_list", "val_list", "val_fraction"}
        | {"ignore_affine", "geometry", "merge_labels", "structures", "suffix"}
    )
    limits = {
        "levels": Range(1, MAX_LEVELS),
        "scale": Range(1, MOST_SCALE),
        "state_channels": 2,
        "step_jitter": Range(0, 1, whole=False, without_high=True),
        **dict.fromkeys(("steps", "kernel_sizes", "predict_batch", "crop", "label", "every"), 1),
        **dict.fromkeys(("channels", "slice"), 0),
    }

    def check(self, options: TrainConfig) -> None:
        if options.dims == 2 and options.levels != 2:
            raise ValueError(f"levels={options.levels} is not allowed with dims=2, which has 2 levels; give --dims 3")
        if options.scale ** (options.levels - 1) > MOST_SCALE:
            raise ValueError(
                f"scale={options.scale} with levels={options.levels} is not allowed; give a scale from 1 to "
                f"{MOST_SCALE}, and fewer levels where scale^(levels - 1) is beyond that"
            )
        whole = filled(options)
        for name, values in (("steps", whole.steps), ("kernel_sizes", whole.kernel_sizes)):
            if len(values or ()) != options.levels:
                raise refused(name, values, f"give {options.levels} numbers, one per level, the coarsest first")
        if options.step_jitter and options.domain_parallel > 1:
            raise refused(
                "step_jitter", options.step_jitter, "with --domain-parallel all steps are taken; leave it at 0"
            )
        _check_patch(whole)
        check_settings(settings_of(whole))
        if options.cache is not None:
            check_folder("--cache", options.cache)

    def resolved(self, options: TrainConfig) -> TrainConfig:
        return replace(filled(options), device=str(resolve_device(options.device)))

    def samples(self, options: TrainConfig) -> tuple[Sequence[str], None]:
        return [pair.name for pair in open_dataset(options, options.structures).pairs], None

    def rank_by(self, options: TrainConfig) -> str:
        return "val_dice"

    def job(self, options: TrainConfig) -> Segmentation:
        return Segmentation(self, options)

    def read(self, model: Model, metadata: dict[str, str]) -> Spec:
        return read(model, metadata)

    def evaluate(self, trained: Trained[Spec], options: EvaluateConfig) -> Scores:
        return score_volumes(with_geometry(trained, options.geometry), options)

    def inputs(self, options: PredictConfig) -> Sequence[Path]:
        """None yet: which files belong together depends on the model."""
        check_prediction(options)
        return ()

    def predict(self, trained: Trained[Spec], files: Sequence[Path], options: PredictConfig) -> Predictions:
        return predict(with_geometry(trained, options.geometry), options)

    def frames(self, trained: Trained[Spec], options: AnimateConfig) -> Iterable[Frame]:
        return frames(with_geometry(trained, options.geometry), options)


def _check_patch(config: TrainConfig) -> None:
    """Raise ValueError for cubes too small for the perception of the levels that see them, which pads by reflection."""
    finer = (config.kernel_sizes or ())[1:]
    least = max((size // 2 + 1 for size in finer), default=1)
    if config.dims == 3 and config.crop is not None and config.crop < least:
        raise refused("crop", config.crop, f"kernels of {max(finer)} need cubes with a side from {least}")


TASK = MedNCATask()
