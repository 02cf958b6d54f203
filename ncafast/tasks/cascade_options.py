"""The options of a training of a cascade on colour images and targets of the same size. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ncafast.tasks.options import ImageOptions
from ncafast.training_options import BaseSettings, Schedule
from ncafast.utils.option_checks import Range, refused

_MOST_SCALE = 1024  # images are padded to a multiple of it, which needs the memory of its square


@dataclass
class CascadeConfig(ImageOptions, BaseSettings):
    """What every training of a cascade takes."""

    size: int | None = 256
    """Images with a longer side than this many pixels are shrunk to it, and the result is enlarged again. Give None to
    keep them as they are."""

    crop: int | None = 128
    """Train on random squares with sides of this many pixels. Give None to train on whole images."""

    flip: bool = True
    """Mirror training images at random along each side; for depth, from left to right only."""

    jitter: float = 0.05
    """Vary brightness and contrast of every colour of training images by this share of its spread."""

    val_fraction: float = 0.2
    """Part of the images held out to measure progress, where nothing else says what to hold out."""

    train_list: Path | None = None
    """Text file with the names of the training images, one per line. Left out: those that are not held out."""

    val_list: Path | None = None
    """Text file with the names of the held-out images, one per line, as split.json has them. Left out: those that the
    CSV list calls val; those not in --train-list; without that, --val-fraction of all."""

    scales: tuple[int, ...] = (4, 2, 1)
    """How many times smaller the image is on each level of the cascade, falling to 1."""

    steps: tuple[int, ...] = (16, 8, 8)
    """Steps of the automaton on each level, the coarsest first: a number for each of --scales."""

    step_jitter: float = 0.2
    """Vary the steps of each level in training by up to this share."""

    time_code: Literal["none", "linear", "sincos"] = "none"
    """Let cells see how far the steps of all levels have come: none; linear, from 0 to 1; sincos, two numbers."""

    pad_noise: bool = False
    """Start the channels beside the image as noise and not as 0."""

    shared: bool = True
    """Use the same automaton on all levels; otherwise each learns its own."""

    enlarge: Literal["nearest", "linear"] = "nearest"
    """How a level takes over the channels of the one before: cell by cell, or interpolated linearly."""

    state_channels: int = 24
    """Numbers each cell keeps, the three colours and what is learned included."""

    hidden: int = 96
    """Width of the hidden layer of the update rule."""

    filters: Literal["learned", "sobel"] = "learned"
    """What a cell sees of its neighbours: learned, two filters per channel, with the border repeated; sobel, the slopes
    along both axes, with zeros beyond the border."""

    fire_rate: float = 0.8
    """Probability that a cell updates in a step."""

    epochs: int = 60
    """Passes over the training images."""

    batch_size: int = 8
    """Images that one process trains on at a time."""

    lr: float = 2e-3

    schedule: Schedule = "cosine"

    warmup: int = 50

    lr_step: int = 10
    """Epochs between two falls of the step schedule."""

    ema: float = 0.98
    """Measure and save weights averaged over the last training steps: 0.98 averages about 50, 0 switches this off."""

    pictures: int = 4
    """Held-out images of which a picture is drawn after every epoch, or less often where pictures would take more than
    a tenth of the time."""


LIMITS: dict[str, int | Range] = {
    **dict.fromkeys(("steps", "size", "crop", "every"), 1),
    "scales": Range(1, _MOST_SCALE),
    "state_channels": 5,
    "step_jitter": Range(0, 1, whole=False, without_high=True),
}


def check_cascade(options: Any, outputs: int, what: str) -> None:
    """Raise ValueError for options of a cascade that contradict each other.

    Args:
        options: a CascadeConfig.
        outputs: channels that are learned.
        what: what these are, for messages.
    """
    if list(options.scales) != sorted(options.scales, reverse=True) or options.scales[-1:] != (1,):
        raise refused("scales", options.scales, "give numbers that fall to 1, such as 4 2 1")
    if len(options.steps) != len(options.scales):
        raise refused("steps", options.steps, f"give {len(options.scales)} numbers, one for each of --scales")
    least = 4 + outputs
    if options.state_channels < least:
        raise refused("state_channels", options.state_channels, f"3 colours and {what} need {least} or more")
