"""Running a model over time: the states at chosen steps, a batch of digits at a time, or as a film."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ncafast.models import SelfClassifyingNCA
from ncafast.tasks.selfclassify.idx import read_digits
from ncafast.tasks.selfclassify.options import AnimateConfig
from ncafast.tasks.selfclassify.states import brightness, exchange, fresh_states
from ncafast.utils.seeds import generator, mix


def over_time(
    model: SelfClassifyingNCA, states: Tensor, counts: Sequence[int], seed: int
) -> Iterator[tuple[int, Tensor]]:
    """(step, states [N, C, H, W]) at each of these step counts, which rise, without gradients."""
    done = 0
    for count in counts:
        with torch.no_grad():
            after = model(states.movedim(1, -1), count - done, seed=seed, first_step=done)
        states, done = after.movedim(-1, 1), count
        yield count, states


def each_batch(
    model: SelfClassifyingNCA,
    images: Tensor,  # [N, H, W]
    counts: Sequence[int],
    *,
    batch: int,
    seed: int,
) -> Iterator[tuple[int, slice, Tensor]]:
    """Run all images from fresh states: (step, indices of a batch, its states) of every batch at every count."""
    device = next(model.parameters()).device
    for start in range(0, len(images), batch):
        indices = slice(start, start + batch)
        fresh = fresh_states(images[indices].to(device), model.channel_size)
        for count, states in over_time(model, fresh, counts, mix("run", seed, start)):
            yield count, indices, states


def film(model: SelfClassifyingNCA, trained_steps: int, options: AnimateConfig) -> list[Tensor]:
    """States [N, C, H, W] of all frames: digits whose cells come to agree, and agree anew when the digits are
    exchanged.

    Args:
        model: on any device.
        trained_steps: steps of the longest training rollout.
        options: see `AnimateConfig`.
    """
    digits = read_digits(options.data, "t10k")
    steps = options.steps or 3 * trained_steps
    count = options.digits * (options.exchanges + 1)
    order = torch.randint(len(digits), (count,), generator=generator("film", options.seed)).numpy()
    first, *others = brightness(digits.images[order]).to(next(model.parameters()).device).split(options.digits)
    shown = [fresh_states(first, model.channel_size)]
    for number, images in enumerate((None, *others)):
        if images is not None:
            shown.append(exchange(shown[-1], images))
        seed = mix("film", options.seed, number)
        shown += [states for _, states in over_time(model, shown[-1], range(1, steps + 1), seed)]
    return shown
