"""The options of the texture task, as typed dataclasses. The text under a field is its help text."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ncafast.tasks.options import Animation, ImageLimit, ImageOptions, Progress, Runtime, ValueRange
from ncafast.threads_option import Threads
from ncafast.training_options import Schedule, Settings
from ncafast.utils.renamed import Renamed

Loss = Literal["auto", "patches", "sliced", "gram"]
Flow = Literal["lucas-kanade", "raft", "spynet"]


@dataclass(kw_only=True)
class _Sample(ImageOptions):
    size: int = 128
    """The sample is scaled so that its square crop has this side, in pixels."""

    crop: int | None = None
    """Side of the square that is cut from the middle of the sample, in the image's own pixels. Left out: the largest
    that fits. A smaller one shows the texture's elements larger."""

    loss: Loss = "auto"
    """patches: multi-scale patches, sliced Wasserstein, needs no weights. sliced: optimal transport on VGG16 features;
    gram: their Gram matrices. auto: sliced where VGG16 weights are given or in torch's cache, else patches."""

    weights: Path | None = None
    """File of VGG16 weights with torchvision's names; the first layers suffice. Left out: torchvision's own file in
    torch's cache, if it is there. Nothing is downloaded."""


@dataclass(kw_only=True)
class _Motion(Renamed):
    steps_per_frame: int = 32
    """Steps of the automaton from one frame to the next, as in the paper on emergent dynamics."""

    flow: Flow = "lucas-kanade"
    """Optical flow by: lucas-kanade (no weights), raft (torchvision's raft_small), spynet (as in that paper)."""

    flow_weights: Path | None = None
    """File of weights for raft or spynet. Left out: raft's own in torch's cache. Nothing is downloaded."""


@dataclass(kw_only=True)
class TrainConfig(_Sample, Settings):
    """Train a texture automaton on one image.

    Runs until all epochs are done. If the run is stopped, even by a power cut, give the same
    command again: it goes on where it was and ends with the same weights.
    """

    image: Path
    """The sample: an image in any format that Pillow reads."""

    output: Path = Path("texture-run")

    state_channels: int = 12
    """Numbers each cell keeps; the first three are red, green and blue."""

    hidden: int = 96
    """Width of the hidden layer of the update rule."""

    fire_rate: float = 0.5
    """Probability that a cell updates in a step."""

    grid: int = 64
    """Side of the square torus that is trained on, in cells. A trained automaton runs on any size."""

    steps: tuple[int, int] = (24, 48)

    pool_size: int = 64
    """States that training goes on from, so that the texture lasts."""

    reseed_every: int = 8
    """Training steps between two in which one state of the batch begins anew. States that have burst always do."""

    overflow: float = 100.0
    """Weight of the loss that keeps the state between -1 and 1."""

    epochs: int = 10
    """Epochs of --epoch-length training steps."""

    epoch_length: int = 100
    """Training steps of an epoch."""

    batch_size: int = 4
    """States per training step."""

    lr: float = 2e-3

    schedule: Schedule = "cosine"

    normalise_gradient: bool = True

    clip: float = 0.0


@dataclass
class AnimateConfig(Runtime, Animation):
    """Run a trained texture automaton and write what it does as a GIF or MP4, on a torus of any size."""

    output: Path = Path("<model>/animation.gif")
    """The file to write: .gif, .mp4 (needs imageio-ffmpeg), or .png for the last frame alone."""

    size: tuple[int, int] = (128, 128)
    """Height and width in cells. Opposite edges meet, so the picture can be tiled without a seam."""

    frames: int = 100
    """Frames to write."""

    every: int = 4
    """Steps of the automaton from one frame to the next."""

    start: int = 0
    """Steps before the first frame; 0 shows how the texture forms."""

    fps: float = 20.0
    """Frames per second."""

    zoom: int = 2
    """Every cell becomes a square of so many pixels."""

    repeat: tuple[int, int] = (1, 1)
    """Copies of the picture below and beside each other, to see that there is no seam."""

    show: Literal["colour", "channels"] = "colour"
    """colour: the picture; channels: every channel as a tile, blue below 0, red above."""


@dataclass
class EvaluateConfig(Runtime, ImageLimit, _Motion, Progress):
    """Measure a trained texture automaton: distance from its sample over time, and the strength of its motion."""

    image: Path | None = None
    """The sample. Left out: the one it was trained on, if that file is still there."""

    output: Path = Path("<model>/evaluation")
    """Folder for scores.csv, scores.json and the pictures."""

    value_range: ValueRange | None = field(default=None, kw_only=True)
    """How the sample's values of more than 8 bits become brightness: format, image or percentile, as for training. Left
    out: as in the model's training."""

    size: tuple[int, int] = (128, 128)
    """Height and width in cells."""

    at: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    """After how many steps the distance is measured."""

    weights: Path | None = None
    """File of VGG16 weights, as for training. Left out: torchvision's own file in torch's cache; where that is missing
    too, only the distance of patches is measured."""

    frames: int = 20
    """Frames that motion is measured over, after the last of --at."""

    seed: int = field(default=0, kw_only=True)
    """Random seed of the fire masks, and of the projections of the distance."""


@dataclass
class StudyConfig(_Sample, _Motion, Progress, Threads):
    """Train textures over channels and hidden widths, and measure how strongly each one moves.

    The study of "Emergent Dynamics in Neural Cellular Automata" (Xu et al. 2024). A study that was stopped goes on with
    the same command, in the middle of a training too.
    """

    image: Path
    """The sample: an image in any format that Pillow reads."""

    output: Path = Path("texture-study")
    """Folder for the trainings, motion.csv and the heat map motion.png."""

    state_channels: tuple[int, ...] = (8, 12, 16)
    """Numbers of channels to try; the paper's are 8 to 128."""

    hidden: tuple[int, ...] = (16, 48, 96)
    """Hidden widths to try; the paper's are 16 to 128."""

    seeds: tuple[int, ...] = (0,)
    """Trainings per pair, each with its own seed; the heat map shows their mean."""

    epochs: int = 10
    """Epochs of 100 training steps, for every training."""

    grid: int = 64
    """Side of the torus that is trained on and measured, in cells."""

    frames: int = 100
    """Frames that motion is measured over; 100 in the paper."""

    start: int = 512
    """Steps before the first frame, so that the forming of the texture is not counted as motion."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:1. auto takes a GPU if there is one."""
