"""Options that mean the same in every task. The text under a field is its help text. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ncafast.memory_option import MemoryLimit
from ncafast.threads_option import Threads
from ncafast.utils.outputs import beside
from ncafast.utils.renamed import Renamed

ValueRange = Literal["format", "image", "percentile"]
MAX_PIXELS = 89_478_485  # Pillow's own limit: 256 MiB of RGB


@dataclass(kw_only=True)
class Progress:
    """What every command takes that has a bar to show."""

    progress: bool = True
    """Show progress bars."""


@dataclass(kw_only=True)
class Animation(Progress):
    """What every command takes that makes an animation."""

    style: Literal["light", "dark"] = "light"
    """Colours of the page around the pictures."""

    step_label: bool = True
    """Write below each picture which step it is."""

    step_bar: bool = True
    """Draw a progress bar below each picture: how much of the animation is over."""


@dataclass
class Runtime(Renamed, MemoryLimit, Threads):
    """Which trained model is run, and how.

    Derived classes have a field `output`. If it begins with `<model>/`, the results lie beside the model, and a number
    is added where that is taken; the help says so.
    """

    model: Path
    """Checkpoint (.safetensors), or the folder of a training run (its best checkpoint is taken), or example: the small
    model of this task that comes with ncafast."""

    seed: int = field(default=0, kw_only=True, metadata={"group": "model"})
    """Random seed of the fire masks."""

    device: str = field(default="auto", kw_only=True)
    """auto, cpu, cuda or cuda:1. auto takes a GPU if there is one."""

    overwrite: bool = field(default=False, kw_only=True)
    """Also replace files that ncafast did not write."""

    def __post_init__(self) -> None:
        self.output = beside(self.output, self.model)  # type: ignore[attr-defined,has-type]


@dataclass(kw_only=True)
class ImageLimit(Renamed):
    """What every command that reads images takes."""

    max_pixels: int = MAX_PIXELS
    """Images with more pixels (width times height) are refused, or left out of a data set. Reading one takes about 4 to
    20 bytes of memory per pixel."""


@dataclass(kw_only=True)
class ImageOptions(ImageLimit):
    """What commands take that choose how values are read, and do not follow a model's training in it."""

    value_range: ValueRange = "format"
    """How values of more than 8 bits become brightness: format, black and white are the ends of the file format's
    range (16 bits: 0 to 65535; floats: 0 to 1); image, each image's lowest and highest value; percentile, each image's
    1st and 99th percentile. Images of 8 bits are never scaled."""


@dataclass(kw_only=True)
class UntilConverged:
    """What predictions take that may stop before or after the steps that a model was trained with."""

    until_converged: bool = False
    """Stop each image, on each level of the model, where the hidden channels of its cells change no more. The steps
    that were taken are printed, and written to steps.csv."""

    tolerance: float = 0.01
    """With --until-converged: the mean change per step that counts as none."""

    plateau: int = 5
    """With --until-converged: so many steps in a row without a change."""

    min_steps: int = 0
    """With --until-converged: steps that are taken in any case."""

    max_steps: int | None = None
    """With --until-converged: where to stop on each level in any case. Left out: after the steps that are taken without
    it, so that runs only become shorter."""
