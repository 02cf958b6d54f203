"""Cascades on colour images: what their input looks like, the channels that are read, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ncafast.free_memory import require
from ncafast.models import CascadeNCA
from ncafast.nca import NCA
from ncafast.tasks import colours, images
from ncafast.tasks.cascade_options import CascadeConfig
from ncafast.tasks.images import ImageError, Reading, on_white
from ncafast.tasks.options import ValueRange
from ncafast.tasks.planes import padded, padded_size
from ncafast.tasks.stopping import Stopping
from ncafast.uncertainty.result import Moments
from ncafast.utils.json_files import Jsonable
from ncafast.utils.seeds import mix

Array = np.ndarray[Any, Any]

# Bytes that a pixel takes at most: of each output that is enlarged and averaged, and of what is made of these. (243 MB
# were seen for 240 MB of pixels, 2026-11-29.)
_ENLARGED = 40
_BESIDE = 2**24  # whatever the size


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecipe(Jsonable):
    """The most that an image's longer side may have, and how its colours are scaled."""

    size: int | None = None
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    value_range: ValueRange = "format"

    def check(self) -> None:
        """Raise ValueError for what cannot be of images."""
        colours.check_statistics(self.mean, self.std)
        if self.size is not None and self.size < 1:
            raise ValueError(f"size={self.size} cannot be of images")

    def read_image(self, path: Path, reading: Reading) -> Array:
        """[H, W, 3] uint8, with white behind what is transparent. Raises ImageError for a file that cannot be used."""
        return np.array(on_white(images.read_image(path, reading)).convert("RGB"))

    def seen_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of an image as the model sees it."""
        longer = max(height, width)
        if self.size is None or longer <= self.size:
            return height, width
        rows, columns = (max(1, round(side * self.size / longer)) for side in (height, width))
        return rows, columns

    def shrunk(self, image: Array) -> Array:
        """An image [H, W, 3] uint8 as the model sees it."""
        rows, columns = self.seen_size(*image.shape[:2])
        if (rows, columns) == image.shape[:2]:
            return image
        small = Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR, reducing_gap=3.0)
        return np.array(small)

    def shrunk_target(self, target: Array) -> Array:
        """What goes with the pixels of an image, [H, W] of any dtype, as the model sees it: of the nearest pixel."""
        if self.seen_size(*target.shape) == target.shape:
            return target
        rows, columns = (
            ((2 * np.arange(small) + 1) * side // (2 * small))
            for small, side in zip(self.seen_size(*target.shape), target.shape, strict=True)
        )
        return target[rows][:, columns]

    def scaled(self, pixels: Array) -> Tensor:
        """[h, w, 3] uint8 -> [3, h, w] float32 with mean 0 and spread 1 over the training set."""
        return colours.scaled(torch.from_numpy(pixels), self.mean, self.std)


SHOWN = ImageRecipe(size=512)
"""Of pictures, whose panels have no more pixels."""

R = TypeVar("R", bound=ImageRecipe)


def with_statistics(recipe: R, pixels: Sequence[Array]) -> R:
    """The recipe with mean and spread of the colours of these images [h, w, 3] uint8."""
    mean, std = colours.statistics(torch.cat([torch.from_numpy(image).flatten(0, 1) for image in pixels]))
    return replace(recipe, mean=mean, std=std)


@dataclass(frozen=True, slots=True)
class Outputs:
    """A cascade, whose last channels are what it has learned of a colour image in the first three."""

    model: CascadeNCA
    recipe: ImageRecipe
    count: int
    """Of the channels that are read."""

    def check(self) -> None:
        """Raise ValueError if the cascade cannot be one of so many outputs."""
        rule = self.model.rules[0]
        if self.model.image_channels != 3 or rule.ndim != 2 or rule.channels < 3 + self.count:
            raise ValueError(f"a cascade of {rule.channels} channels is not one of {self.count} outputs")

    def of(self, state: Tensor) -> Tensor:
        """[..., C, H, W] -> [..., count, H, W]."""
        return state.narrow(-3, state.shape[-3] - self.count, self.count)

    @torch.no_grad()
    def state(self, pixels: Array, *, seed: int, run: int = 0, stopping: Stopping | None = None) -> Tensor:
        """The state [C, h, w] after all steps, of pixels [h, w, 3] uint8 and one draw of firing cells.

        Raises:
            MemoryError: the image needs more than is free.
        """
        stopping = stopping or Stopping()
        done = stopping.predict(self.model, self._input(pixels), self.model.steps, seed=mix("predict", seed, run))
        return done.state[0][:, : pixels.shape[0], : pixels.shape[1]]

    def run(self, pixels: Array, *, seed: int, run: int = 0, stopping: Stopping | None = None) -> Tensor:
        """The outputs [count, h, w] of `state`, float32 on the CPU."""
        return self.of(self.state(pixels, seed=seed, run=run, stopping=stopping)).float().cpu()

    def moments(
        self,
        pixels: Array,
        through: Callable[[Tensor], Tensor] = lambda outputs: outputs,
        *,
        seed: int,
        runs: int,
        stopping: Stopping | None = None,
    ) -> Moments:
        """Of the outputs [count, H, W] over draws of firing cells, on the CPU, at the image's own size.

        Args:
            pixels: [H, W, 3] uint8, of any size; the model sees the image as the recipe shrinks it.
            through: what is made of the outputs first.
            seed: of the draws.
            runs: number of draws.
            stopping: where they stop; None means after the model's own steps.

        Raises:
            MemoryError: the image needs more than is free.
        """
        small, moments = self.recipe.shrunk(pixels), Moments()
        if small.shape != pixels.shape:
            height, width = pixels.shape[:2]
            require(
                _ENLARGED * (1 + self.count) * height * width + _BESIDE,
                f"a result of {width} x {height} pixels",
                "scale the image down",
            )
        for run in range(runs):
            found = through(self.run(small, seed=seed, run=run, stopping=stopping))[None]
            if small.shape != pixels.shape:
                found = F.interpolate(found, size=pixels.shape[:2], mode="bilinear")
            moments.add(found)
        return moments

    @torch.no_grad()
    def steps(self, pixels: Array, *, seed: int = 0, every: int = 1) -> list[Tensor]:
        """The outputs [n, count, h, w] after every `every` steps of each level, as the first `run` has them."""
        _, levels = self.model(self._input(pixels), seed=mix("predict", seed, 0), states=every)
        return [self.of(states[:, 0]) for states in levels]

    def _input(self, pixels: Array) -> Tensor:
        """[1, 3, h', w'], padded so that every level's cells are whole, on the model's device."""
        size = [padded_size(side, self.model.scales[0]) for side in pixels.shape[:2]]
        device = next(self.model.parameters()).device
        return padded(self.recipe.scaled(pixels), size)[None].to(device)


def stages(
    model: CascadeNCA,
    levels: Sequence[Tensor],  # of each level, [n, count, h, w] after every so many steps
    every: int,
    size: tuple[int, int],
) -> Iterator[tuple[Tensor, str, float]]:
    """The outputs [count, H, W] of an animation's frames, those of coarse levels enlarged cell by cell to the image's
    size; with the step in words, and the part of all frames that is done."""
    total, done = sum(map(len, levels)), 0
    for scale, steps, states in zip(model.scales, model.steps, levels, strict=True):
        for number, state in enumerate(states, start=1):
            done += 1
            whole = state.float().cpu().repeat_interleave(scale, 1).repeat_interleave(scale, 2)
            yield whole[:, : size[0], : size[1]], f"scale {scale}, step {number * every} of {steps}", done / total


C = TypeVar("C", bound="Reader[Any]")


@dataclass(frozen=True)
class Reader(Generic[R]):
    """A cascade with how it looks at images; what its outputs stand for is up to the task."""

    model: CascadeNCA
    recipe: R

    kind: ClassVar[type[ImageRecipe]]
    """Of the recipe."""

    @classmethod
    def read(cls: type[C], model: CascadeNCA, metadata: dict[str, str]) -> C:
        """From a checkpoint. Raises ValueError, KeyError or TypeError for what does not fit."""
        found = cls(model, cls.kind.from_json(metadata["recipe"]))
        found.outputs.check()
        return found

    @property
    def outputs(self) -> Outputs:
        """The channels [count, h, w] that are read."""
        raise NotImplementedError

    def moments(self, pixels: Array, *, seed: int = 0, runs: int = 1, stopping: Stopping | None = None) -> Moments:
        """Of what the outputs [count, H, W] stand for, as `Outputs.moments`."""
        return self.outputs.moments(pixels, seed=seed, runs=runs, stopping=stopping)

    def find(self, pixels: Array, name: str, *, seed: int, runs: int, stopping: Stopping | None = None) -> Moments:
        """`moments`, but an image that the model has no memory for raises ImageError, which tells its name."""
        try:
            return self.moments(pixels, seed=seed, runs=runs, stopping=stopping)
        except MemoryError as error:
            raise ImageError(f"{name}: {error}") from None


def new_cascade(config: CascadeConfig, outputs: int) -> CascadeNCA:
    """Two filters per channel; at the edges the border is repeated, where these are fixed there are zeros."""
    padding = "replicate" if config.filters == "learned" else "zeros"
    cell: dict[str, Any] = {"filters": config.filters, "padding": padding, "immutable": 3}
    cell |= {"fire_rate": config.fire_rate, "hidden": config.hidden, "pad_noise": config.pad_noise, "outputs": outputs}
    if config.time_code != "none":
        cell |= {"time_code": config.time_code, "max_steps": sum(config.steps)}
    count = 1 if config.shared else len(config.scales)
    automata = [NCA(config.state_channels, **cell) for _ in range(count)]
    wrapped = automata[0] if config.shared else automata
    return CascadeNCA(wrapped, config.scales, config.steps, config.shared, enlarge=config.enlarge)
