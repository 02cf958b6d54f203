"""A film of growth and healing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from ncafast.tasks.growing.config import AnimateConfig
from ncafast.tasks.growing.healing import run_states
from ncafast.tasks.growing.model_file import TrainedModel, load_model
from ncafast.tasks.growing.pictures import Array, over_white
from ncafast.tasks.growing.states import cut_away, seed_states
from ncafast.utils.devices import resolve_device
from ncafast.utils.option_checks import check_options
from ncafast.utils.seeds import mix
from ncafast.viz.animation import check_animation, write_animation
from ncafast.viz.pixels import enlarged, mosaic


def animate(config: AnimateConfig) -> Path:
    """Write the film and return its path.

    Raises:
        ValueError: options or a checkpoint that cannot be used.
    """
    check_options(config, grow=1, heal=1, every=1, zoom=1)
    check_animation(config.output, overwrite=config.overwrite)
    trained = load_model(config.model, resolve_device(config.device))
    states = film(trained, config)
    frames = [
        beside_channels(state, config.zoom) if config.hidden else over_white(state, config.zoom) for state in states
    ]
    write_animation(config.output, frames, fps=config.fps, hold=1.0)
    return config.output


def film(trained: TrainedModel, config: AnimateConfig) -> list[Tensor]:
    """States [C, H, W] of all frames: the seed, growth, and after each cut the hurt state and its healing."""
    model, target = trained.model, trained.target.tensor()
    device = next(model.parameters()).device
    usual = 3 * trained.steps // 2
    pause = max(1, config.fps // 3)  # frames that what is new stays on
    state = seed_states(1, model.channel_n, *target.shape[-2:]).to(device)  # [1, C, H, W]
    shown = [state[0]] * pause
    for number, cut in enumerate((None, *config.cuts)):
        steps = (config.grow if cut is None else config.heal) or usual
        if cut is not None:
            state = cut_away(state, cut, target)
            shown += [state[0]] * pause
        kept = run_states(model, state, max(steps, config.every), mix("film", config.seed, number), config.every)
        shown += list(kept[:, 0])
        state = kept[-1]
    return [state.cpu() for state in shown]


def beside_channels(state: Tensor, zoom: int) -> Array:
    """A state [C, H, W] on white, and beside it all channels as tiles, as one picture of about twice the width."""
    columns = int(np.ceil(np.sqrt(len(state))))
    tiles = mosaic(state, columns=columns, limit=1.0)
    image = over_white(state, columns)
    whole = np.full((max(tiles.shape[0], image.shape[0]), image.shape[1], 3), 255, np.uint8)
    whole[: image.shape[0]] = image
    tall = np.full((whole.shape[0], tiles.shape[1], 3), 255, np.uint8)
    tall[: tiles.shape[0]] = tiles
    return enlarged(np.concatenate((whole, tall), 1), max(1, zoom // columns))
