"""What a trained texture does, as a GIF, an MP4 or one picture, on a torus of any size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from ncafast.tasks.texture.config import AnimateConfig
from ncafast.tasks.texture.model_file import OFFSET, fresh, load_texture
from ncafast.utils.devices import resolve_device
from ncafast.utils.option_checks import check_options
from ncafast.utils.outputs import check_folder, check_free
from ncafast.viz import mosaic, rgb, watch, write_animation
from ncafast.viz.animation import check_animation
from ncafast.viz.figures import write_png
from ncafast.viz.pixels import Array, enlarged

MOST_CELLS = 2**28  # of a picture: a state is `channels` times 4 bytes each


def animate(config: AnimateConfig) -> Path:
    """Write the animation, or the last frame alone where the output's name ends in .png.

    Returns the file. Raises ValueError for a checkpoint or options that cannot be used, and ModuleNotFoundError if the
    package that writes the format is missing.
    """
    check_options(config, frames=1, every=1, start=0, scale=1, repeat=1)
    still = config.output.suffix.lower() == ".png"
    if still:
        check_folder("--output", config.output.parent)
        check_free("--output", [config.output], config.overwrite)
    else:
        check_animation(config.output, overwrite=config.overwrite)
    check_size(config.size)
    states = _states(config)
    if still:
        for state in states:
            last = state
        write_png(config.output, enlarged(_drawn(last, config), config.scale))
    else:
        pictures = (_drawn(state, config) for state in states)
        write_animation(
            config.output,
            pictures,
            fps=config.fps,
            scale=config.scale,
            total=config.frames,
            progress=config.progress,
        )
    return config.output


def check_size(size: tuple[int, int]) -> None:
    """Raise ValueError for a height and width that no torus has, or that no memory holds."""
    if min(size) < 3 or size[0] * size[1] > MOST_CELLS:
        raise ValueError(f"size={size} is not allowed; give a height and a width from 3, at most {MOST_CELLS} cells")


def _states(config: AnimateConfig) -> Iterator[Tensor]:
    """The states to show, the first one after `start` steps."""
    device = resolve_device(config.device)
    model = load_texture(config.model, device).model
    state = fresh(1, model.num_channels, config.size, device)
    if config.start:
        (state,) = watch(model, state, frames=1, every=config.start, seed=config.seed)
    return watch(model, state, frames=config.frames, every=config.every, seed=config.seed, first_step=config.start)


def _drawn(state: Tensor, config: AnimateConfig) -> Array:
    """One frame [H, W, 3] uint8."""
    picture = mosaic(state) if config.show == "channels" else rgb(state, offset=OFFSET)
    return np.tile(picture, (*config.repeat, 1))
