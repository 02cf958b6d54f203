"""The study of motion: one training per number of channels, hidden width and seed, resumable, with a heat map.

After Xu et al., "Emergent Dynamics in Neural Cellular Automata" (arXiv 2404.06406). Every training has a folder of its
own, which goes on exactly where it was stopped; what has been measured stands in motion.csv.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product
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
from ncafast.utils.devices import resolve_device, threads
from ncafast.utils.lock import locked
from ncafast.utils.option_checks import check_options, refused
from ncafast.utils.outputs import check_folder
from ncafast.utils.progress import say
from ncafast.utils.tables import csv_text
from ncafast.viz.figures import write_png
from ncafast.viz.pixels import Array

_COLUMNS = ("channels", "hidden", "seed", "motion", "distance", "note")
# Options that may differ when a study is continued: a study may be made larger, and what is measured stays measured.
_FREE = {
    "image",
    "value_range",
    "max_pixels",
    "output",
    "state_channels",
    "hidden",
    "seeds",
    "weights",
    "flow_weights",
    "device",
    "threads",
    "progress",
}


@dataclass(frozen=True, slots=True)
class Study:
    """What a study found."""

    rows: tuple[dict[str, Any], ...]
    """channels, hidden, seed, motion (pixels per frame), distance (best one in training), note; as in motion.csv.
    motion and distance are NaN for a training that broke down, and the note says how."""
    csv: Path
    heat_map: Path


def study(config: StudyConfig) -> Study:
    """Train and measure all pairs that are still missing, and draw the heat map after each.

    Raises ValueError for options or a folder that cannot be used. A training whose loss becomes NaN is noted, and the
    study goes on.
    """
    _check(config)
    device = resolve_device(config.device)
    flow = make_flow(config.flow, config.flow_weights, device)
    loss, weights = choose(config.loss, config.weights)
    config = dataclasses.replace(config, loss=loss, weights=weights)
    with locked(config.output):
        return _study(config, flow, device)


def _study(config: StudyConfig, flow: FlowOf, device: torch.device) -> Study:
    """The study, in a folder that nobody else works in."""
    _claim(config)
    table, picture = config.output / "motion.csv", config.output / "motion.png"
    known = {(row["channels"], row["hidden"], row["seed"]): row for row in _read(table)}
    jobs = list(product(config.state_channels, config.hidden, config.seeds))
    for number, key in enumerate(jobs, start=1):
        if key in known:
            continue
        channels, hidden, seed = key
        say(f"study {number} of {len(jobs)}: {channels} channels, hidden width {hidden}, seed {seed}")
        row = dict(zip(_COLUMNS, (*key, math.nan, math.nan, ""), strict=True))
        try:
            result = train(TASK, _training(config, *key))
            model = load(TASK, result.best, device).model
            options = {"settle": config.settle, "frames": config.frames, "steps_per_frame": config.steps_per_frame}
            size = (config.grid, config.grid)
            with threads(config.threads) if config.threads else nullcontext():
                row["motion"] = motion(model, size, flow, seed=seed, progress=config.progress, **options)
            row["distance"] = result.measures["val_loss"]
            say(f"motion strength {row['motion']:.3f} pixels per frame")
        except TrainingStopped as error:
            row["note"] = str(error)
            say(f"no result for this pair: {error}")
        known[key] = row
        write_text(table, csv_text([known[key] for key in sorted(known)]))
        write_png(picture, _heat_map(config, known))
    rows = [known[key] for key in jobs]
    write_png(picture, _heat_map(config, known))
    for line in _table(rows):
        say(line)
    return Study(tuple(rows), table, picture)


def _training(config: StudyConfig, channels: int, hidden: int, seed: int) -> TrainConfig:
    """The options of one pair's training."""
    return TrainConfig(
        image=config.image,
        output=config.output / f"c{channels}-d{hidden}-s{seed}",
        size=config.size,
        crop=config.crop,
        value_range=config.value_range,
        max_pixels=config.max_pixels,
        loss=config.loss,
        weights=config.weights,
        state_channels=channels,
        hidden=hidden,
        grid=config.grid,
        epochs=config.epochs,
        seed=seed,
        device=config.device,
        threads=config.threads,
        tensorboard=False,
        progress=config.progress,
    )


def _check(config: StudyConfig) -> None:
    """Raise ValueError for options that cannot be used, before anything is trained."""
    check_options(config, state_channels=COLOURS, settle=0, grid=LEAST_GRID, **MOTION)
    for name in ("state_channels", "hidden", "seeds"):
        values = getattr(config, name)
        if not values or len(set(values)) < len(values):
            raise refused(name, values, "give one or several different whole numbers")
    check_folder("--output", config.output)


def _claim(config: StudyConfig) -> None:
    """Begin a study in its folder, or make sure that the one begun there had the same options and sample."""
    path = config.output / "study.json"
    plain = {name: value for name, value in dataclasses.asdict(config).items() if name not in _FREE}
    plain["sample"] = checksum(read_sample(config.image, config.size, config.crop, Reading.of(config)))
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            different = [f"{key} (here {found.get(key)!r}, asked {value!r})" for key, value in plain.items()
                         if found.get(key) != value]  # fmt: skip
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path}: is damaged ({error}); give another folder with --output") from error
        if different:
            raise ValueError(
                f"{config.output}: holds a study with other options: {', '.join(different)}; "
                "give the same options to continue it, or another folder with --output"
            )
        return
    theirs = next((own for own in (config.output / "motion.csv", config.output / "motion.png") if own.exists()), None)
    if theirs is not None:
        raise ValueError(f"{theirs}: is there already, but no study.json; give another folder with --output")
    write_text(path, json.dumps(plain, indent=1))


def _read(path: Path) -> list[dict[str, Any]]:
    """The rows that have been measured. Raises ValueError if the file is damaged."""
    if not path.exists():
        return []
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        return [
            {name: int(row[name]) for name in ("channels", "hidden", "seed")}
            | {name: float(row[name]) for name in ("motion", "distance")}
            | {"note": str(row["note"])}
            for row in rows
        ]
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise ValueError(f"{path}: is damaged ({error}); delete it to measure anew, trainings are kept") from error


def _heat_map(config: StudyConfig, known: dict[tuple[int, int, int], dict[str, Any]]) -> Array:
    """The mean over the seeds that have been measured, for the pairs of this call."""
    channels, hidden = sorted(config.state_channels), sorted(config.hidden)
    values = np.full((len(channels), len(hidden)), np.nan)
    for (row, first), (column, second) in product(enumerate(channels), enumerate(hidden)):
        own = [known[key]["motion"] for seed in config.seeds if (key := (first, second, seed)) in known]
        own = [value for value in own if math.isfinite(value)]
        if own:
            values[row, column] = math.fsum(own) / len(own)
    return pictures.heat_map(values, channels, hidden, f"motion of {config.image.name}")


def _table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [f"{'channels':>8}  {'hidden':>6}  {'seed':>4}  {'motion':>8}  {'distance':>9}"]
    for row in rows:
        numbers = f"{row['motion']:>8.3f}  {row['distance']:>9.4g}"
        lines.append(f"{row['channels']:>8}  {row['hidden']:>6}  {row['seed']:>4}  {numbers}")
    return lines
