"""Textures: an automaton that grows a texture like a sample image, on a torus of any size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from torch import Tensor

from ncafast.models import TextureNCA
from ncafast.tasks.base import Task, Trained
from ncafast.tasks.texture.job import Texture
from ncafast.tasks.texture.loss import choose
from ncafast.tasks.texture.measure import MOTION, states_at
from ncafast.tasks.texture.options import AnimateConfig, EvaluateConfig, TrainConfig
from ncafast.tasks.texture.recipe import COLOURS, OFFSET, Recipe
from ncafast.tasks.texture.scores import score
from ncafast.utils.devices import resolve_device
from ncafast.utils.option_checks import check_options, refused
from ncafast.viz import mosaic, rgb, watch
from ncafast.viz.captions import Frame
from ncafast.viz.pixels import Array, enlarged
from ncafast.viz.styles import style_of

MOST_CELLS = 2**28  # of a picture: a state is `channels` times 4 bytes each
LEAST_GRID = 16  # below, nothing is left for the deepest layer of VGG16


class TextureTask(Task[Recipe]):
    """See `ncafast train texture --help`."""

    name, unit, models = "texture", "samples", (TextureNCA,)
    evaluation_files = ("scores.csv", "scores.json", "texture.png", "distance.png")
    hold, stills = 0.0, True
    free = frozenset({"image", "weights", "value_range", "max_pixels"})  # the sample's pixels are compared themselves
    limits = {
        **dict.fromkeys(
            ("steps", "pool_size", "reseed_every", "frames", "steps_per_frame", "every", "zoom", "repeat"), 1
        ),
        **dict.fromkeys(("start", "at"), 0),
        "state_channels": COLOURS,
        "grid": LEAST_GRID,
    }
    evaluate = staticmethod(score)

    def check(self, options: TrainConfig) -> None:
        if options.batch_size > options.pool_size:
            raise ValueError(
                f"batch_size={options.batch_size} does not fit pool_size={options.pool_size}; give a larger pool"
            )

    def check_use(self, options: AnimateConfig | EvaluateConfig) -> None:
        if min(options.size) < 3 or options.size[0] * options.size[1] > MOST_CELLS:
            raise refused("size", options.size, f"give a height and a width from 3, at most {MOST_CELLS} cells")
        if isinstance(options, EvaluateConfig):
            check_options(options, **MOTION)
            if not options.at:
                raise refused("at", options.at, "give whole numbers from 0")

    def resolved(self, options: TrainConfig) -> TrainConfig:
        loss, weights = choose(options.loss, options.weights)
        return replace(options, device=str(resolve_device(options.device)), loss=loss, weights=weights)

    def rank_by(self, options: TrainConfig) -> str:
        return "val_loss"

    def job(self, options: TrainConfig) -> Texture:
        return Texture(self, options)

    def read(self, model: TextureNCA, metadata: dict[str, str]) -> Recipe:
        if model.num_channels < COLOURS:
            raise ValueError(f"num_channels={model.num_channels} are too few for colours")
        return Recipe.from_json(metadata["recipe"])

    def frames(self, trained: Trained[Recipe], options: AnimateConfig) -> Iterator[Frame]:
        (state,) = states_at(trained.model, options.size, (options.start,), options.seed)
        how = {"frames": options.frames, "every": options.every, "seed": options.seed, "first_step": options.start}
        last = options.start + options.frames * options.every
        return (
            Frame(enlarged(_drawn(later, options), options.zoom), f"step {step} of {last}", number / options.frames)
            for number, later in enumerate(watch(trained.model, state, **how), start=1)
            if (step := options.start + number * options.every)
        )


def _drawn(state: Tensor, options: AnimateConfig) -> Array:
    """One frame [H, W, 3] uint8."""
    dark = style_of(options.style).is_dark
    picture = mosaic(state, dark=dark) if options.show == "channels" else rgb(state, offset=OFFSET)
    return np.tile(picture, (*options.repeat, 1))


TASK = TextureTask()
