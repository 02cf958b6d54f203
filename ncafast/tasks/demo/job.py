"""The demo from data to summary: the commands of the task, baselines, a picture, a measurement."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ncafast.bench import beside
from ncafast.losses.masks import dice
from ncafast.models import MedNCA
from ncafast.tasks.base import load
from ncafast.tasks.demo import DemoConfig, baselines, brain, pictures, summary
from ncafast.tasks.mednca import AnimateConfig, PredictConfig, Result, TrainConfig, animate, predict, train
from ncafast.tasks.mednca.task import TASK
from ncafast.utils.devices import resolve_device, threads
from ncafast.utils.option_checks import check_options
from ncafast.utils.outputs import check_folder
from ncafast.utils.progress import say
from ncafast.viz.figures import write_png

BATCH, CROP = 2, 96  # slices at once, and the side of the random squares cut from them
_RUN_FILES = (
    *("config.json", "split.json", "resume.pt", "history.csv", "history.json", "curves.png", "log.txt"),
    *("best.safetensors", "last.safetensors"),
)
FPS = 2.7  # of the animation
RUNS = 5  # a cell fires by chance: the segmentation is the mean over so many runs
SPEED, QUICK_SPEED = (2, 96, 15), (2, 48, 3)  # batch, side in cells, rounds


def run(config: DemoConfig) -> None:
    """Run the demo and leave its files in `config.output`.

    Raises:
        ValueError: an option that cannot be used, or the folder holds something else.
        OSError: the folder cannot be written.
    """
    check_options(config)
    with threads(config.threads):
        _run(config)


def _run(config: DemoConfig) -> None:
    seconds: dict[str, float] = {}
    with _timed(seconds, "prepare"):
        _claim(config.output)
        data = brain.load(config.seed, config.quick)
        _announce(config, data)
        options = _options(config, brain.write_volumes(data, config.output / "data"))
        ways = baselines.masks(data)
    with _timed(seconds, "train"):
        result = _train(options)
        shutil.copyfile(result.last, config.output / "model.safetensors")
        shutil.copyfile(options.output / "curves.png", config.output / "curves.png")
    with _timed(seconds, "predict"):
        found = _segment(config)
    with _timed(seconds, "draw"):
        truth = data.held_out.white
        quality = {"dice": dice(found, truth), "baselines": {way: dice(mask, truth) for way, mask in ways.items()}}
        typical, worst = _typical_and_worst(found, truth)
        shown = data.held_out, ways[baselines.THRESHOLD], found, (("typical slice", typical), ("worst slice", worst))
        write_png(config.output / "comparison.png", pictures.comparison(*shown))
        shared = _shared(config) | {"output": config.output / "automaton.gif", "fps": FPS, "style": "dark"}
        animate(AnimateConfig(input=_held_out(config), slice=typical, **shared))
    trained = load(TASK, config.output / "model.safetensors", resolve_device("cpu"))
    assert isinstance(trained.model, MedNCA)
    say("measuring the speed beside plain PyTorch")
    with _timed(seconds, "measure"):
        speeds = beside.compare(trained.model.model2, trained.model.steps[1], *(QUICK_SPEED if config.quick else SPEED))
    seconds["total"] = sum(seconds.values())
    facts = quality | speeds | summary.surroundings(config, trained.model, data)
    facts["epochs"] = len(result.history)
    facts["seconds"] = {name: round(value, 1) for name, value in seconds.items()}
    summary.write(config.output, facts)
    print(summary.table(facts, config.output), flush=True)


def _claim(out: Path) -> None:
    """Take the folder, and clear away an earlier demo's data and training: this one starts from the beginning.

    The marker file tells them from a user's own folders, which are never touched.
    """
    check_folder("--output", out)
    marker = out / ".ncafast-demo"
    if not marker.exists() and out.exists() and any(out.iterdir()):
        raise ValueError(f"{out}: holds files that are not from this demo; give another folder with --output")
    out.mkdir(parents=True, exist_ok=True)
    marker.touch()
    if (out / "data").exists():
        shutil.rmtree(out / "data")
    for name in _RUN_FILES:  # not the whole folder, which may also hold evaluations of the model
        (out / "training" / name).unlink(missing_ok=True)


def _announce(config: DemoConfig, data: brain.Brain) -> None:
    count = sum(scan.image.shape[1] for scan in data.training.values())
    first, last = data.blocks[brain.HELD_OUT]
    say(f"Learning to find white matter in {count} slices of a brain template, each turned, shaded and noisy.")
    say(f"Held out: {last - first} others ({first} to {last - 1}), {brain.GAP} mm or more from any that training sees.")
    say(f"Everything goes to {config.output}/; training writes its lines to {config.output}/training/log.txt")


def _options(config: DemoConfig, held_out: Path) -> TrainConfig:
    options = TrainConfig(
        data=held_out.parent,
        output=config.output / "training",
        val_list=held_out,
        axis="coronal",
        crop=CROP,
        flip=True,
        steps=(8, 8),
        scale=4,
        epochs=config.epochs,
        batch_size=BATCH,
        lr=4e-3,
        lr_step=1,
        lr_gamma=0.03 ** (1 / config.epochs),
        seed=config.seed,
        device="cpu",
        pictures=0,
        tensorboard=False,
        progress=config.progress,
    )
    if config.quick:
        return dataclasses.replace(options, steps=(4, 3), epochs=2)
    return options


def _train(options: TrainConfig) -> Result:
    """`ncafast train mednca` with its lines, one per epoch, in a file; progress bar and errors show as ever."""
    options.output.mkdir(parents=True, exist_ok=True)
    with (options.output / "log.txt").open("w", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        return train(options)


def _held_out(config: DemoConfig) -> Path:
    return config.output / "data" / "imagesTs" / f"{brain.HELD_OUT}.nii.gz"


def _shared(config: DemoConfig) -> dict[str, Any]:
    """The options of all commands that run the trained model."""
    shared = {"model": config.output / "model.safetensors", "seed": config.seed, "device": "cpu"}
    return shared | {"progress": config.progress, "overwrite": True}


def _segment(config: DemoConfig) -> brain.Array:
    """Segment the held-out slices as `ncafast predict mednca` does: white matter [X, S, Z] bool."""
    path, runs = config.output / "white-matter.nii.gz", 1 if config.quick else RUNS
    predict(PredictConfig(input=_held_out(config), output=path, overlay=False, runs=runs, **_shared(config)))
    return np.asarray(nib.Nifti1Image.from_filename(path).dataobj) > 0


def _typical_and_worst(found: brain.Array, truth: brain.Array) -> tuple[int, int]:
    """The slices with the median and with the lowest Dice."""
    scores = [dice(found[:, index], truth[:, index]) for index in range(found.shape[1])]
    order = np.argsort(scores)
    return int(order[len(order) // 2]), int(order[0])


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note how long a part of the demo takes."""
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started
