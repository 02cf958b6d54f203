"""Running a model over time: the states at chosen steps, a batch of digits at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ncafast.models import SelfClassifyingNCA
from ncafast.tasks.selfclassify.states import fresh_states
from ncafast.utils.seeds import mix


def advance(model: SelfClassifyingNCA, states: Tensor, steps: int, seed: int, first_step: int = 0) -> Tensor:
    """The states [N, C, H, W] after `steps` more steps, without gradients."""
    if steps == 0:
        return states
    with torch.no_grad():
        after = model(states.movedim(1, -1), steps, seed=seed, first_step=first_step)
    return after.movedim(-1, 1)


def over_time(
    model: SelfClassifyingNCA, states: Tensor, counts: Sequence[int], seed: int
) -> Iterator[tuple[int, Tensor]]:
    """(step, states [N, C, H, W]) at each of these step counts, which rise."""
    done = 0
    for count in counts:
        states = advance(model, states, count - done, seed, done)
        done = count
        yield count, states


def each_batch(
    model: SelfClassifyingNCA,
    images: Tensor,  # [N, H, W]
    counts: Sequence[int],
    *,
    batch: int,
    seed: int,
    see: Callable[[int, slice, Tensor], None],
) -> None:
    """Run all images from fresh states, and show `see(step, indices, states)` every batch at every count."""
    device = next(model.parameters()).device
    for start in range(0, len(images), batch):
        indices = slice(start, start + batch)
        states = fresh_states(images[indices].to(device), model.channel_size)
        for count, found in over_time(model, states, counts, mix("run", seed, start)):
            see(count, indices, found)
