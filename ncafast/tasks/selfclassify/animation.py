"""A film of digits whose cells come to agree, and agree anew when the digits are exchanged."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ncafast.tasks.selfclassify import pictures
from ncafast.tasks.selfclassify.config import AnimateConfig
from ncafast.tasks.selfclassify.idx import read_digits
from ncafast.tasks.selfclassify.model_file import load_model
from ncafast.tasks.selfclassify.running import over_time
from ncafast.tasks.selfclassify.states import brightness, exchange, fresh_states
from ncafast.utils.devices import resolve_device
from ncafast.utils.option_checks import check_options
from ncafast.utils.seeds import generator, mix
from ncafast.viz.animation import check_animation, write_animation


def animate(config: AnimateConfig) -> Path:
    """Write the film and return its path.

    Raises:
        ValueError: options, files or a checkpoint that cannot be used.
    """
    check_options(config, digits=1, steps=1, exchanges=0, zoom=1)
    check_animation(config.output, overwrite=config.overwrite)
    frames = (pictures.sheet(pictures.colour(states)) for states in film(config))
    write_animation(config.output, frames, fps=config.fps, scale=config.zoom, hold=1.0)
    return config.output


def film(config: AnimateConfig) -> list[Tensor]:
    """States [N, C, H, W] of all frames."""
    trained = load_model(config.model, resolve_device(config.device))
    digits = read_digits(config.data, "t10k")
    device = next(trained.model.parameters()).device
    steps = config.steps or 3 * trained.steps
    count = config.digits * (config.exchanges + 1)
    order = torch.randint(len(digits), (count,), generator=generator("film", config.seed)).numpy()
    images = brightness(digits.images[order]).to(device)
    states = fresh_states(images[: config.digits], trained.model.channel_size)
    shown = [states]
    for number in range(config.exchanges + 1):
        if number:
            own = images[number * config.digits : (number + 1) * config.digits]
            states = exchange(states, own)
            shown.append(states)
        moments = range(1, steps + 1)
        shown += [found for _, found in over_time(trained.model, states, moments, mix("film", config.seed, number))]
        states = shown[-1]
    return shown
