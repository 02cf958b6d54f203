"""A film of growth and healing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from ncafast.tasks.growing import pictures
from ncafast.tasks.growing.config import AnimateConfig
from ncafast.tasks.growing.healing import run_states
from ncafast.tasks.growing.model_file import TrainedModel, load_model
from ncafast.tasks.growing.states import cut_away, seed_states
from ncafast.train.machine import resolve_device
from ncafast.train.seeds import mix


def animate(config: AnimateConfig) -> Path:
    """Write the film and return its path.

    Raises:
        ValueError: options or a checkpoint that cannot be used.
    """
    for name in ("grow", "heal", "every", "zoom", "fps"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ValueError(f"{name}={value} is not allowed; give a whole number from 1")
    trained = load_model(config.model, resolve_device(config.device))
    return config.output


def film(trained: TrainedModel, config: AnimateConfig) -> list[Tensor]:
    """States [C, H, W] of all frames: the seed, growth, and after each cut the hurt state and its healing."""
    model, target = trained.model, trained.target.tensor()
    device = next(model.parameters()).device
    usual = 3 * trained.steps // 2
    state = seed_states(1, model.channel_n, *target.shape[-2:]).to(device)  # [1, C, H, W]
    shown = [state[0]]
    for number, cut in enumerate((None, *config.cuts)):
        steps = (config.grow if cut is None else config.heal) or usual
        if cut is not None:
            state = cut_away(state, cut, target)
            shown += [state[0]] * max(1, config.fps // 4)  # long enough to be seen
        kept = run_states(model, state, max(steps, config.every), mix("film", config.seed, number), config.every)
        shown += list(kept[:, 0])
        state = kept[-1]
    return [state.cpu() for state in shown]
