"""The options of the segmentation task. The text under a field is its help text. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ncafast.tasks.cascade_options import CascadeConfig
from ncafast.tasks.options import Animation, ImageLimit, Progress, Runtime, UntilConverged

Loss = Literal["dice-bce", "dice", "bce", "focal", "dice-focal"]


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
class TrainConfig(CascadeConfig, _Labelled):
    """Train a cascade of automata to segment colour images, from images and masks of the same size.

    Runs until all epochs are done. If the run is stopped, even by a power cut, give the same command again: it goes on
    where it was and ends with the same weights.
    """

    output: Path = Path("segmentation-run")

    classes: tuple[str, ...] = ()
    """What to tell apart in the masks, each as a number or a colour with a name or without: nucleus=255 or
    cell=#ff0000. Left out: all that is not black is one class."""

    loss: Loss = "dice-bce"
    """Dice loss, binary cross-entropy, focal loss (which looks most at pixels that are still wrong), or a sum."""


@dataclass(kw_only=True)
class _Runs:
    runs: int = 1
    """Segment this many times with different firing cells and average the probabilities."""


@dataclass
class PredictConfig(Runtime, ImageLimit, _Runs, UntilConverged, Progress):
    """Segment images with a trained cascade: a mask for each, in the form of the masks of training."""

    input: Path
    """An image, or a folder with images, also in folders inside it."""

    output: Path = Path("<model>/predictions")
    """Folder for the masks, a.png for a.jpg (a.jpg.png where there is an a.tif too), and for overlays/."""

    overlay: bool = True
    """Also write a picture of each image with the outlines of what was found."""


@dataclass
class EvaluateConfig(Runtime, ImageLimit, _Labelled, Progress):
    """Score a trained cascade on images with known masks: Dice and IoU per image, at the images' own size."""

    subset: Literal["auto", "val", "train", "test", "all"] = "auto"
    """Which images to score. auto: those held out, if the model was trained on this data; otherwise all. test: those
    that the CSV list calls so; they are never trained on."""

    runs: int | None = None
    """Segment this many times with different firing cells and average the probabilities. From 2 on, scores.csv also has
    the quality score NQM (high means doubtful). Left out: once, with --uncertainty 10 times."""

    uncertainty: bool = False
    """Also say whether the model is unsure where it is wrong: the rank correlation of NQM and 1 - Dice over the images,
    that of the standard deviation over runs and the error over the pixels of each, and how well it finds wrong pixels
    (AUROC). They are printed, and written to uncertainty.json."""

    output: Path = Path("<model>/evaluation")
    """Folder for scores.csv and the overlays of the worst, the middle and the best image."""


@dataclass
class AnimateConfig(Runtime, ImageLimit, Animation):
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
