"""What evaluation and the study measure of a texture automaton."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ncafast.models import TextureNCA
from ncafast.tasks.texture.motion import FlowOf, motion_strength
from ncafast.tasks.texture.recipe import fresh, picture_of
from ncafast.utils.progress import Bar
from ncafast.utils.seeds import generator
from ncafast.viz import watch

MOTION = {"frames": 2, "steps_per_frame": 1}  # the least of each that give any


def states_at(
    model: TextureNCA, size: tuple[int, int], steps: Sequence[int], seed: int, count: int = 1
) -> Iterator[Tensor]:
    """The states [count, C, H, W] of one rollout from nothing after each of these numbers of steps, which rise."""
    state, done = fresh(count, model.num_channels, size, next(model.parameters()).device), 0
    for number in steps:
        if number > done:
            (state,) = watch(model, state, frames=1, every=number - done, seed=seed, first_step=done)
        done = number
        yield state


def distance(loss: nn.Module, state: Tensor, seed: int) -> float:
    """How far a state's picture is from the sample, always along the same random directions."""
    with torch.no_grad():
        return float(loss(picture_of(state), generator("measure", seed)).mean())


def motion(
    model: TextureNCA,
    size: tuple[int, int],
    flow: FlowOf,
    *,
    start: int,
    frames: int,
    steps_per_frame: int,
    seed: int,
    progress: bool = False,
) -> float:
    """Motion strength in pixels per frame; see `ncafast.tasks.texture.motion`.

    Args:
        model: on the device where to compute.
        size: height and width in cells.
        flow: measures the flow.
        start: steps from nothing to the first frame.
        frames: how many frames, at least 2.
        steps_per_frame: steps between two of them.
        seed: of the fire masks.
        progress: show a bar.
    """
    (state,) = states_at(model, size, (start,), seed)

    def pictures(bar: Bar) -> Iterator[Tensor]:
        yield picture_of(state)
        options = {"every": steps_per_frame, "seed": seed, "first_step": start}
        for later in watch(model, state, frames=frames - 1, **options):
            yield picture_of(later)
            bar.advance({})

    with Bar(frames - 1, progress, "motion") as bar:
        return motion_strength(pictures(bar), flow)
