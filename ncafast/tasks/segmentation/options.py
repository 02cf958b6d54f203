"""The options of the segmentation task. The text under a field is its help text. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ncafast.tasks.options import ImageLimit, ImageOptions, Progress, Runtime
from ncafast.train.settings import BaseSettings, Schedule

Loss = Literal["dice-bce", "dice", "bce", "focal", "dice-focal"]
Enlarge = Literal["nearest", "linear"]


@dataclass(kw_only=True)
class _Labelled:
    """What training and evaluation take, which read masks."""

    data: Path | None = None
    """Folder with images/ and masks/ inside it, or with files named like a.jpg and a_mask.png side by side; or a CSV
    list with the columns image and mask, and perhaps split (train, val or test). Left out: --images and --masks say
    where they are."""

    images: Path | None = None
    """Folder with the images; needs --masks. Left out: they are under --data."""

    masks: Path | None = None
    """Folder with the masks: same file names as the images, whatever their endings. Left out: they are under --data."""


@dataclass
class TrainConfig(ImageOptions, BaseSettings, _Labelled):
    """Train a cascade of automata to segment colour images, from images and masks of the same size.

    Runs until all epochs are done. If the run is stopped, even by a power cut, give the same command again: it goes on
    where it was and ends with the same weights.
    """

    output: Path = Path("segmentation-run")

    classes: tuple[str, ...] = ()
    """What to tell apart in the masks, each as a number or a colour with a name or without: nucleus=255 or
    cell=#ff0000. Left out: all that is not black is one class."""

    size: int | None = 256
    """Images with a longer side than this many pixels are shrunk to it, and the result is enlarged again. Give None to
    keep them as they are."""

    crop: int | None = 128
    """Train on random squares with sides of this many pixels. Give None to train on whole images."""

    flip: bool = True
    """Mirror training images at random along each side."""

    jitter: float = 0.05
    """Vary brightness and contrast of every colour of training images by this share of its spread."""

    val_fraction: float = 0.2
    """Part of the images held out to measure progress, where nothing else says what to hold out."""

    train_list: Path | None = None
    """Text file with the names of the training images, one per line. Left out: those that are not held out."""

    val_list: Path | None = None
    """Text file with the names of the held-out images, one per line, as split.json has them. Left out: those that the
    CSV list calls val; those not in --train-list; without that, --val-fraction of all."""

    loss: Loss = "dice-bce"
    """Dice loss, binary cross-entropy, focal loss (which looks most at pixels that are still wrong), or a sum."""

    scales: tuple[int, ...] = (4, 2, 1)
    """How many times smaller the image is on each level of the cascade, falling to 1."""

    steps: tuple[int, ...] = (16, 8, 8)
    """Steps of the automaton on each level."""

    step_jitter: float = 0.2
    """Vary the steps of each level in training by up to this share."""

    shared: bool = True
    """Use the same automaton on all levels; otherwise each learns its own."""

    enlarge: Enlarge = "nearest"
    """How a level takes over the channels of the one before: cell by cell, or interpolated linearly."""

    state_channels: int = 24
    """Numbers each cell keeps, the three colours and the classes included."""

    hidden: int = 96
    """Width of the hidden layer of the update rule."""

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
    """Held-out images of which a picture is drawn after every epoch."""


@dataclass(kw_only=True)
class _Runs:
    runs: int = 1
    """Segment this many times with different firing cells and average the probabilities."""


@dataclass
class PredictConfig(Runtime, ImageLimit, _Runs, Progress):
    """Segment images with a trained cascade: a mask for each, in the form of the masks of training."""

    input: Path
    """An image, or a folder with images, also in folders inside it."""

    output: Path = Path("<model>/predictions")
    """Folder for the masks, which are named like the images with .png added, and for overlays/."""

    overlay: bool = True
    """Also write a picture of each image with the outlines of what was found."""


@dataclass
class EvaluateConfig(Runtime, ImageLimit, _Labelled, _Runs, Progress):
    """Score a trained cascade on images with known masks: Dice and IoU per image, at the images' own size."""

    subset: Literal["auto", "val", "train", "test", "all"] = "auto"
    """Which images to score. auto: those held out, if the model was trained on this data; otherwise all. test: those
    that the CSV list calls so; they are never trained on."""

    output: Path = Path("<model>/evaluation")
    """Folder for scores.csv and the overlays of the worst, the middle and the best image."""


@dataclass
class AnimateConfig(Runtime, ImageLimit, Progress):
    """Make a film of an image: the segmentation as it appears, on the coarsest level first."""

    input: Path
    """The image, in any format that Pillow reads."""

    output: Path = Path("<model>/animation.gif")
    """The film: a file name ending in .gif or .mp4."""

    label: str | None = None
    """Name of the class whose probability is shown. Left out: the first one that the model knows."""

    every: int = 1
    """Steps from one frame to the next."""

    fps: float = 8.0
    """Frames per second."""
