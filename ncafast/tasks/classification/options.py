"""The options of the classification task. The text under a field is its help text. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ncafast.tasks.options import Animation, ImageLimit, ImageOptions, Progress, Runtime, UntilConverged
from ncafast.training_options import Schedule, Settings

Naming = Literal["folders", "matek19"]
Augment = Literal["auto", "rotate", "quarter", "none"]


@dataclass
class TrainConfig(ImageOptions, Settings):
    """Train a MaxNCA to tell classes of images apart.

    Runs until all epochs are done. If the run is stopped, even by a power cut, give the same command again: it goes on
    where it was and ends with the same weights.
    """

    data: Path | None = None
    """The images: a folder with one folder per class, or with folders train, val and test that hold these; a CSV list
    with the columns file and label; or an .npz file with train_images and train_labels, as MedMNIST's are.
    (required)"""

    val_data: Path | None = None
    """Held-out images, in any of these forms. Left out: those that the data call so (a folder val, val_images of an
    .npz file, split val of a .csv list), or --val-fraction."""

    naming: Naming = "folders"
    """Where the class of an image in a folder stands: folders, the name of the folder it lies in; matek19, the code in
    its file name (BAS, EBO, EOS ...), as in the Matek-19 data set."""

    val_fraction: float = 0.2
    """Part of each class held out to measure progress, where nothing else says what to hold out."""

    train_list: Path | None = None
    """Text file with the names of the training images, one per line. Left out: those that are not held out."""

    val_list: Path | None = None
    """Text file with the names of the held-out images, one per line: their paths inside --data, as split.json has
    them. Left out: those not in --train-list; without that, --val-fraction of all."""

    output: Path = Path("classification-run")

    size: int = 32
    """Images are shrunk or enlarged to squares of this many pixels."""

    balanced: bool = True
    """Draw every class equally often, whatever its number of images."""

    loss: Literal["cross-entropy", "bce", "focal"] = "cross-entropy"
    """cross-entropy; bce, binary cross-entropy of each class as in the notebook; focal, which looks most at images that
    are still wrong."""

    augment: Augment = "auto"
    """How training images are varied: rotate, by any angle and mirrored, with torchvision; quarter, by quarter turns
    and mirrored; none. auto: rotate if torchvision can be imported, else quarter."""

    jitter: float = 0.05
    """Vary brightness and contrast of every colour by this share of its spread."""

    state_channels: int = 24
    """Numbers each cell keeps, the three colours included."""

    hidden: int = 64
    """Width of the hidden layer of the update rule."""

    fire_rate: float = 0.5
    """Probability that a cell updates in a step."""

    steps: tuple[int, int] = (12, 12)
    """Steps of the automaton, the fewest and the most: each batch draws a number from the first to the second, both
    included; images are classified after the second. One number stands for both."""

    epochs: int = 30
    """Passes over the training images."""

    batch_size: int = 16
    """Images that one process trains on at a time."""

    optimiser: Literal["adam", "adamw", "sgd"] = "adamw"

    lr: float = 4e-3

    weight_decay: float = 1e-4

    schedule: Schedule = "cosine"

    warmup: int = 50

    ema: float = 0.99

    pictures: int = 4
    """Held-out images whose channels over time are drawn at the end."""


@dataclass(kw_only=True)
class _Views:
    views: int = 8
    """Classify so many of the 8 turned and mirrored views of each image and average."""


@dataclass
class PredictConfig(Runtime, ImageLimit, _Views, UntilConverged, Progress):
    """Classify images with a trained MaxNCA.

    Writes predictions.csv and, for each image, a picture of its channels over time.
    """

    input: Path
    """An image, or a folder with images, also in folders inside it."""

    output: Path = Path("<model>/predictions")
    """Folder for the results."""

    pictures: int = 16
    """Images whose channels over time are drawn; the others are only classified."""


@dataclass
class EvaluateConfig(Runtime, ImageLimit, _Views, Progress):
    """Score a trained MaxNCA on images with known classes: accuracy, F1, and a picture of the confusion matrix."""

    data: Path
    """The images, in any form that training takes."""

    naming: Naming = "folders"
    """Where the class of an image in a folder stands, as for training."""

    subset: Literal["auto", "val", "train", "test", "all"] = "auto"
    """Which images to score. auto: those held out, if the model was trained on this data; otherwise all. test: those
    that the data call so (a folder test, test_images of an .npz file, split test of a .csv list); they count among all
    too, never among those held out."""

    output: Path = Path("<model>/evaluation")
    """Folder for scores.csv, predictions.csv and confusion.png."""

    uncertainty: bool = False
    """Also say whether the model is unsure where it is wrong: classify 10 times with different firing cells, and
    compare the standard deviation of the probabilities with the error by ranks. Printed, and written to
    uncertainty.json."""


@dataclass
class AnimateConfig(Runtime, ImageLimit, Animation):
    """Make a film of what a trained MaxNCA makes of an image: channels over time, and the classes' probabilities."""

    input: Path
    """The image, in any format that Pillow reads."""

    output: Path = Path("<model>/animation.gif")
    """The film: a file name ending in .gif or .mp4."""

    fps: float = 3.0
    """Frames per second; each frame is one step."""
