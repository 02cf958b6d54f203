"""The options of the growing task, as typed dataclasses. The text under a field is its help text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ncafast.tasks.options import Animation, ImageOptions, Progress, Runtime
from ncafast.training_options import Schedule, Settings

Regime = Literal["growing", "persistent", "regenerating"]


@dataclass
class TrainConfig(ImageOptions, Settings):
    """Train an automaton that grows an image from one cell.

    The image may be any PNG with transparency: an emoji, a logo, a drawing. If the run is stopped, even by a power cut,
    give the same command again: it goes on where it was and ends with the same weights.
    """

    output: Path = Path("growing-run")

    image: Path | None = None
    """The image to grow. Its transparent parts stay empty. Left out: --emoji says what grows."""

    emoji: str | None = None
    """An emoji to grow in place of --image, drawn with a font of this machine. Left out: --image is grown."""

    font: Path | None = None
    """Font file that --emoji is drawn with. Left out: the colour emoji font of this machine, if one is found."""

    background: str = "alpha"
    """What is empty around the image: alpha (what the file says is transparent), none (nothing, the whole rectangle is
    grown), or a colour such as white or #00ff00."""

    size: int = 40
    """Cells along the longer side of the image, after empty margins are cut off."""

    padding: int = 12
    """Empty cells around the image."""

    regime: Regime = "regenerating"
    """growing: every sample starts from the seed, and the grown image may dissolve later. persistent: samples go on
    from a pool, so that the image stays. regenerating: some of the pool are damaged too, so that it heals."""

    epochs: int = 15
    """An epoch is 100 training steps; after each one growth and healing are measured and drawn."""

    steps: tuple[int, int] = (64, 96)

    lr: float = 2e-3

    schedule: Schedule = "cosine"

    normalise_gradient: bool = True

    clip: float = 0.0

    pool_size: int = 256
    """States in the pool."""

    damage: int = 3
    """Samples of each batch that lose a part, the best ones of the batch; for the regime regenerating."""

    damage_kind: Literal["circles", "rectangles"] = "circles"
    """Shape of the lost part."""

    damage_size: tuple[float, float] = (0.1, 0.6)
    """Smallest and largest radius of a circle, or half a rectangle's sides, as parts of half the grid."""

    damage_after: int = 100
    """Training steps before the first damage."""

    state_channels: int = 16
    """Numbers each cell keeps: red, green, blue, alpha and hidden ones."""

    hidden: int = 128
    """Width of the hidden layer of the update rule."""

    fire_rate: float = 0.5
    """Probability that a cell updates in a step."""


@dataclass
class EvaluateConfig(Runtime, Progress):
    """Test whether a trained automaton grows, stays and heals: it is grown, cut in several ways and left alone."""

    output: Path = Path("<model>/evaluation")
    """Folder for healing.json, healing.png and steps.csv."""

    runs: int = 8
    """Times that everything is done, with different firing cells; the numbers are means over them."""

    grow: int | None = None
    """Steps from the seed to the cut. Left out: three times the longest that training took at once."""

    heal: int | None = None
    """Steps after the cut. Left out: twice the longest that training took at once."""


@dataclass
class AnimateConfig(Runtime, Animation):
    """Make a film of the image as it grows, loses a half, and heals."""

    output: Path = Path("<model>/animation.gif")
    """The film: a file name ending in .gif or .mp4."""

    cuts: tuple[Literal["left", "right", "top", "bottom", "centre"], ...] = ("right",)
    """What is cut away, one after the other. Give --cuts none of these to let it grow alone."""

    grow: int | None = None
    """Steps before the first cut. Left out: 1.5 times the longest that training took at once."""

    heal: int | None = None
    """Steps after each cut. Left out: 1.5 times the longest that training took at once."""

    every: int = 2
    """Steps from one frame to the next."""

    zoom: int = 4
    """Pixels along each side of a cell."""

    fps: float = 20.0
    """Frames per second."""

    hidden: bool = False
    """Also show the hidden channels, beside the image."""
