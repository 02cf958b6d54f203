"""The options of the depth task. The text under a field is its help text. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ncafast.tasks.cascade_options import CascadeConfig
from ncafast.tasks.options import Animation, ImageLimit, Progress, Runtime, UntilConverged


@dataclass(kw_only=True)
class _Measured:
    """What training and evaluation take, which read depth maps."""

    data: Path | None = None
    """Folder with images/ (or rgb/) and depth/ inside it, or with files named like a.jpg and a_depth.png side by side;
    or a CSV list with the columns image and depth, and perhaps split (train, val or test). Left out: --images and
    --depth say where they are."""

    images: Path | None = None
    """Folder with the images; needs --depth. Left out: they are under --data."""

    depth: Path | None = None
    """Folder with the depth maps: same file names as the images, whatever their endings. They are grey images, or .npy
    and .npz files of one array. Left out: they are under --data."""

    depth_scale: float | None = None
    """Metres for each step of depth maps: 0.001 for millimetres, 0.0002 for TUM's. Left out: 0.001, but 1 for
    floats."""

    max_depth: float | None = None
    """Pixels farther than this many metres count as unknown. Left out: none does, but 0, NaN and infinite values."""


@dataclass
class TrainConfig(CascadeConfig, _Measured):
    """Train a cascade of automata to estimate depth from a colour image.

    Runs until all epochs are done. If the run is stopped, even by a power cut, give the same command again: it goes on
    where it was and ends with the same weights.
    """

    output: Path = Path("depth-run")

    loss: Literal["l1", "mse"] = "l1"
    """How the logarithm of the depth is compared: absolute or squared difference."""

    ssim: float = 0.1
    """Weight of 1 - SSIM of the logarithms of the depth; 0 switches it off."""

    smoothness: float = 0.02
    """Weight of the depth's slope where the image has none; 0 switches it off."""


@dataclass
class RenderConfig(Progress):
    """Render rooms with balls and fog, to try depth and segmentation without data of your own.

    The folder is one for --data of both: images/, depth/ with 16-bit PNG files in millimetres, and masks/ in which
    the balls are white.
    """

    output: Path = Path("rooms")
    """Folder for images/, depth/ and masks/. Rooms that were rendered there before are replaced."""

    count: int = 160
    """Number of images, each of a room of its own."""

    size: tuple[int, int] = (48, 64)
    """Height and width of the images in pixels."""

    seed: int = 0
    """Decides how the rooms look."""

    overwrite: bool = False
    """Also replace files that ncafast did not write."""


@dataclass(kw_only=True)
class _Runs:
    runs: int = 1
    """Estimate this many times with different firing cells and average the logarithms."""


@dataclass
class PredictConfig(Runtime, ImageLimit, _Runs, UntilConverged, Progress):
    """Estimate the depth of images with a trained cascade: a 16-bit PNG in millimetres for each."""

    input: Path
    """An image, or a folder with images, also in folders inside it."""

    output: Path = Path("<model>/predictions")
    """Folder for the depth maps, a.png for a.jpg (a.jpg.png where there is an a.tif too), and for pictures/."""

    picture: bool = True
    """Also write a picture of each image beside its depth, with a colour bar."""


@dataclass
class EvaluateConfig(Runtime, ImageLimit, _Measured, Progress):
    """Score a trained cascade on images with known depth, beside a constant depth and a linear model of the colours and
    the position."""

    subset: Literal["auto", "val", "train", "test", "all"] = "auto"
    """Which images to score. auto: those held out, if the model was trained on this data; otherwise all. test: those
    that the CSV list calls so; they are never trained on."""

    runs: int | None = None
    """Estimate this many times with different firing cells and average the logarithms. Left out: once, with
    --uncertainty 10 times."""

    uncertainty: bool = False
    """Also say whether the model is unsure where it is wrong: the rank correlation of the standard deviation over
    runs and the error, over the images, and over the pixels of each. Printed, and written to uncertainty.json."""

    output: Path = Path("<model>/evaluation")
    """Folder for scores.csv and pictures of the worst, the middle and the best image."""


@dataclass
class AnimateConfig(Runtime, ImageLimit, Animation):
    """Make a film of an image's depth as it appears, on the coarsest level first."""

    input: Path
    """The image, in any format that Pillow reads."""

    output: Path = Path("<model>/animation.gif")
    """The film: a file name ending in .gif or .mp4."""

    every: int = 1
    """Steps from one frame to the next."""

    fps: float = 8.0
    """Frames per second."""
