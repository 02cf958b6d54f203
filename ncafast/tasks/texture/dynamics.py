"""The study of motion: a search over channels, hidden widths and seeds, which measures how strongly each one moves.

After Xu et al., "Emergent Dynamics in Neural Cellular Automata" (arXiv 2404.06406). Every training has a folder of its
own, which goes on exactly where it was stopped; what has been measured stands in motion.csv.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ncafast.files import write_text
from ncafast.tasks.base import load, train
from ncafast.tasks.images import Reading
from ncafast.tasks.texture import pictures
from ncafast.tasks.texture.loss import choose
from ncafast.tasks.texture.measure import MOTION, motion
from ncafast.tasks.texture.motion import FlowOf, make_flow
from ncafast.tasks.texture.options import StudyConfig, TrainConfig
from ncafast.tasks.texture.recipe import COLOURS
from ncafast.tasks.texture.sample import checksum, read_sample
from ncafast.tasks.texture.task import LEAST_GRID, TASK
from ncafast.train import TrainingStopped
from ncafast.train.search import train_grid
from ncafast.utils.devices import resolve_device, threads
from ncafast.utils.lock import locked
from ncafast.utils.option_checks import check_options, refused
from ncafast.utils.outputs import check_folder
from ncafast.utils.progress import say
from ncafast.utils.tables import columns
from ncafast.viz.figures import write_png
from ncafast.viz.pixels import Array

_GRID = {"channels": "state_channels", "hidden": "hidden", "seed": "seeds"}  # column -> option
# Options that may differ when a study is continued: a study may be made larger, and what is measured stays measured.
_FREE = {
    *("image", "value_range", "max_pixels"),  # the sample's pixels are compared themselves
    *("output", "weights", "flow_weights", "device", "threads", "progress"),
    *_GRID.values(),
}
# Options of a training that a study has too.
_SHARED = {field.name for field in dataclasses.fields(StudyConfig)}.intersection(
    field.name for field in dataclasses.fields(TrainConfig)
)


@dataclass(frozen=True, slots=True)
class Study:
    """What a study found."""

    rows: tuple[dict[str, Any], ...]
    """channels, hidden, seed, motion (pixels per frame), distance (best one in training), note; as in motion.csv.
    motion and distance are NaN for a training that broke down, and the note says how."""
    csv: Path
    heat_map: Path


def study(config: StudyConfig) -> Study:
    """Train and measure all combinations that are still missing, and draw the heat map after each.

    A training whose loss becomes NaN is noted, and the study goes on.

    Raises:
        ValueError: options or a folder that cannot be used.
    """
    _check(config)
    device = resolve_device(config.device)
    flow = make_flow(config.flow, config.flow_weights, device)
    loss, weights = choose(config.loss, config.weights)
    config = dataclasses.replace(config, loss=loss, weights=weights)
    options = {name: value for name, value in dataclasses.asdict(config).items() if name not in _FREE}
    options["sample"] = checksum(read_sample(config.image, config.size, config.crop, Reading.of(config)))
    with locked(config.output):
        _take_over(config.output)
    heat_map = config.output / "motion.png"
    rows = train_grid(
        {column: getattr(config, option) for column, option in _GRID.items()},
        lambda point, folder: _measured(config, point, folder, flow, device),
        config.output,
        lambda row: tuple(row[column] for column in _GRID),
        options=options,
        stem="motion",
        texts=("note",),
        name=lambda point: "c{channels}-d{hidden}-s{seed}".format(**point),
        after=lambda rows: write_png(heat_map, _heat_map(config, rows)),
    )
    rows.sort(key=lambda row: [getattr(config, option).index(row[column]) for column, option in _GRID.items()])
    for line in (*columns(rows), f"written: {heat_map}"):
        say(line)
    return Study(tuple(rows), config.output / "motion.csv", heat_map)


def _measured(
    config: StudyConfig, point: Mapping[str, Any], folder: Path, flow: FlowOf, device: torch.device
) -> dict[str, Any]:
    """One training, and how strongly its texture moves."""
    try:
        result = train(TASK, _training(config, folder, **point))
    except TrainingStopped as error:
        say(f"no result for this combination: {error}")
        return {"motion": math.nan, "distance": math.nan, "note": str(error)}
    model = load(TASK, result.best, device).model
    options = {"start": config.start, "frames": config.frames, "steps_per_frame": config.steps_per_frame}
    size, seed = (config.grid, config.grid), point["seed"]
    with threads(config.threads):
        strength = motion(model, size, flow, seed=seed, progress=config.progress, **options)
    say(f"motion strength {strength:.3f} pixels per frame")
    return {"motion": strength, "distance": result.measures["val_loss"], "note": ""}


def _training(config: StudyConfig, folder: Path, channels: int, hidden: int, seed: int) -> TrainConfig:
    """The options of one training: those that a study has too, and its place in the grid."""
    options = {name: getattr(config, name) for name in _SHARED}
    options |= {"output": folder, "state_channels": channels, "hidden": hidden, "seed": seed}
    return TrainConfig(**options, tensorboard=False)


def _check(config: StudyConfig) -> None:
    """Raise ValueError for options that cannot be used, before anything is trained."""
    check_options(config, state_channels=COLOURS, start=0, grid=LEAST_GRID, **MOTION)
    for name in _GRID.values():
        values = getattr(config, name)
        if not values or len(set(values)) < len(values):
            raise refused(name, values, "give one or several different whole numbers")
    check_folder("--output", config.output)


def _take_over(folder: Path) -> None:
    """Write the files of a study that an earlier release began, study.json and motion.csv, as `train_grid` has them.

    Raises:
        ValueError: motion.csv is corrupt.
    """
    begun, table = folder / "study.json", folder / "motion.csv"
    if not begun.exists() or (folder / "options.json").exists():
        return
    if table.exists():
        write_text(table.with_suffix(".json"), json.dumps(_read(table), indent=1))
    write_text(folder / "grid.json", json.dumps(sorted(_GRID)))
    write_text(folder / "options.json", begun.read_text(encoding="utf-8"))


def _read(path: Path) -> list[dict[str, Any]]:
    """The rows of a motion.csv."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        return [
            {name: int(row[name]) for name in _GRID}
            | {name: float(row[name]) for name in ("motion", "distance")}
            | {"note": str(row["note"])}
            for row in rows
        ]
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise ValueError(f"{path}: is corrupt ({error}); delete it to measure anew, trainings are kept") from error


def _heat_map(config: StudyConfig, rows: Sequence[dict[str, Any]]) -> Array:
    """The mean over the seeds that have been measured, for the pairs of this call."""
    channels, hidden = sorted(config.state_channels), sorted(config.hidden)
    values = np.full((len(channels), len(hidden)), np.nan)
    wanted = [row for row in rows if row["seed"] in config.seeds and math.isfinite(row["motion"])]
    for index in np.ndindex(values.shape):
        pair = (channels[index[0]], hidden[index[1]])
        motions = [row["motion"] for row in wanted if (row["channels"], row["hidden"]) == pair]
        if motions:
            values[index] = math.fsum(motions) / len(motions)
    return pictures.heat_map(values, channels, hidden, f"motion of {config.image.name}")
