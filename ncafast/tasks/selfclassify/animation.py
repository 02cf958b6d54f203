"""Digits whose cells come to agree, and agree anew when the digits are exchanged."""

from __future__ import annotations

import torch
from torch import Tensor

from ncafast.models import SelfClassifyingNCA
from ncafast.tasks.selfclassify.idx import read_digits
from ncafast.tasks.selfclassify.options import AnimateConfig
from ncafast.tasks.selfclassify.running import over_time
from ncafast.tasks.selfclassify.states import brightness, exchange, fresh_states
from ncafast.utils.seeds import generator, mix


def film(model: SelfClassifyingNCA, trained_steps: int, options: AnimateConfig) -> list[Tensor]:
    """States [N, C, H, W] of all frames.

    Args:
        model: on any device.
        trained_steps: steps of the longest training rollout.
        options: see `AnimateConfig`.
    """
    digits = read_digits(options.data, "t10k")
    device = next(model.parameters()).device
    steps = options.steps or 3 * trained_steps
    count = options.digits * (options.exchanges + 1)
    order = torch.randint(len(digits), (count,), generator=generator("film", options.seed)).numpy()
    images = brightness(digits.images[order]).to(device)
    states = fresh_states(images[: options.digits], model.channel_size)
    shown = [states]
    for number in range(options.exchanges + 1):
        if number:
            states = exchange(states, images[number * options.digits : (number + 1) * options.digits])
            shown.append(states)
        seed = mix("film", options.seed, number)
        shown += [found for _, found in over_time(model, states, range(1, steps + 1), seed)]
        states = shown[-1]
    return shown
