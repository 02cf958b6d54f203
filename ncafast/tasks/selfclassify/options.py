"""The options of the self-classifying task, as typed dataclasses. The text under a field is its help text."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ncafast.tasks.options import Animation, ImageOptions, Progress, Runtime, UntilConverged
from ncafast.training_options import Schedule, Settings


@dataclass(kw_only=True)
class TrainConfig(Settings):
    """Train cells to agree on the digit that they are part of.

    If the run is stopped, even by a power cut, give the same command again: it goes on where it was and ends with the
    same weights.
    """

    data: Path
    """Folder with the MNIST files train-images-idx3-ubyte and train-labels-idx1-ubyte, plain or with .gz, or a folder
    above it. Other sets in this format with at most ten classes do too."""

    output: Path = Path("selfclassify-run")

    loss: Literal["cross-entropy", "l2"] = "cross-entropy"
    """cross-entropy: over the digit's cells. l2: the logits shall be 1 for the digit and 0 otherwise, which keeps
    them small over very long runs, and begins to learn later."""

    epochs: int = 40
    """An epoch is 200 training steps; after each one, digits that are held out are classified."""

    batch_size: int = 16
    """Digits that one process trains on at a time."""

    steps: tuple[int, int] = (20, 20)

    lr: float = 2e-3

    schedule: Schedule = "cosine"

    warmup: int = 100

    pool_size: int = 256
    """States in the pool that batches are taken from and put back to."""

    fresh: float = 0.44
    """Part of each batch that starts anew with another digit."""

    pool_after: int = 3000
    """Training steps in which all of every batch starts anew, before samples go on from the pool."""

    mutate: float = 0.06
    """Part of each batch whose digit is exchanged for another while its cells keep their state, so that they learn to
    change their mind."""

    state_channels: int = 20
    """Numbers each cell keeps: ten logits, hidden ones, and the image."""

    perception: int = 80
    """Outputs of the convolution that each cell sees its neighbours with."""

    hidden: tuple[int, ...] = (80,)
    """Widths of the hidden layers of the update rule."""

    dropout: float = 0.1
    """Probability that a cell does not update in a step of training. In evaluation all cells do. The article and the
    CAX example take 0.5, and train far longer."""

    val_count: int = 5000
    """Digits at the end of the training files that are not trained on."""

    measured: int = 200
    """Digits of the held-out ones that are classified after every epoch."""


@dataclass
class EvaluateConfig(Runtime, Progress):
    """Score a trained model over time: how many cells are right, and how many votes of a digit's cells."""

    data: Path
    """Folder with the MNIST test files t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, plain or with .gz, or a
    folder above it."""

    output: Path = Path("<model>/evaluation")
    """Folder for scores.json, scores.csv, accuracy.png, confusion.png and digits.png."""

    digits: int | None = 2000
    """Digits to classify, from the start of the file. Give None for all 10000, which take five times as long."""

    steps: int | None = None
    """Steps to run. Left out: ten times as many as in training, to see whether the answers last."""

    batch_size: int = 50
    """Digits that are classified at a time."""


@dataclass
class PredictConfig(Runtime, ImageOptions, UntilConverged):
    """Classify images of handwritten digits, and colour their cells by what they say."""

    input: Path
    """An image, or a folder of images: one digit each."""

    output: Path = Path("<model>/predictions")
    """Folder for digits.csv and one picture per image."""

    ink: Literal["auto", "light", "dark"] = "auto"
    """Whether the digit is lighter or darker than its background. auto: whatever the image's edge is not."""

    size: int = 28
    """Cells along the longer side; larger images are scaled down to it, as training digits have strokes of 2 to 4
    cells. 0 takes images as they are."""

    steps: int | None = None
    """Steps to run. Left out: twice as many as in training."""


@dataclass
class AnimateConfig(Runtime, Animation):
    """Make a film of digits whose cells come to agree; then the digits are exchanged, and they agree anew."""

    data: Path
    """Folder with the MNIST test files, plain or with .gz, or a folder above it."""

    output: Path = Path("<model>/animation.gif")
    """The film: a file name ending in .gif or .mp4."""

    digits: int = 20
    """Digits to show, ten in a row."""

    steps: int | None = None
    """Steps for each set of digits. Left out: three times as many as in training."""

    exchanges: int = 1
    """How often the digits are exchanged for others while the cells keep their state."""

    zoom: int = 3
    """Pixels along each side of a cell."""

    fps: float = 10.0
    """Frames per second; each frame is one step."""

    seed: int = field(default=0, kw_only=True)
    """Random seed of the fire masks, and of the choice of digits."""
