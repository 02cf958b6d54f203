"""The regeneration test: grow, cut a part away, and follow the loss while the automaton is left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ncafast.models import GrowingNCA
from ncafast.tasks.growing.states import Cut, cut_away, pixel_loss, seed_states
from ncafast.utils.seeds import mix

Advance = Callable[[int], None]  # is told of so many steps more


def _silent(count: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Course:
    """What one cut came to. Losses are means over the runs."""

    cut: Cut
    losses: tuple[float, ...]
    """Right after the cut, and after every further step."""
    states: Tensor
    """Of the first run: before the cut, right after it, and at the end, [3, C, H, W]."""


def run_states(
    model: GrowingNCA,
    states: Tensor,  # [B, C, H, W]
    steps: int,
    seed: int,
    every: int = 1,
) -> Tensor:  # [steps // every, B, C, H, W]
    """Every k-th state of a run, without gradients."""
    with torch.no_grad():
        _, kept = model(states.movedim(1, -1), steps, seed=seed, states=every)
    return kept.movedim(-1, 2)


def grow(
    model: GrowingNCA, target: Tensor, *, steps: int, runs: int, seed: int, advance: Advance = _silent
) -> tuple[Tensor, list[float]]:
    """Grow from the seed.

    Args:
        model: on any device.
        target: [4, H, W].
        steps: of the automaton, at least 1.
        runs: how many to grow.
        seed: of the firing cells.
        advance: for a progress bar.

    Returns:
        The states [runs, C, H, W], and the mean loss of the seed and after every step.
    """
    device = next(model.parameters()).device
    target = target.to(device)
    states = seed_states(runs, model.channel_n, *target.shape[-2:]).to(device)
    losses = [float(pixel_loss(states, target).mean())]
    return _follow(model, states, target, steps, mix("grow", seed), losses, advance)


def heal(
    model: GrowingNCA,
    grown: Tensor,
    target: Tensor,
    *,
    cuts: Sequence[Cut],
    steps: int,
    seed: int,
    advance: Advance = _silent,
) -> list[Course]:
    """Cut grown states [runs, C, H, W] in each of several ways, and let each go on for `steps` steps."""
    target = target.to(grown.device)
    courses = []
    for cut in cuts:
        hurt = cut_away(grown, cut, target)
        losses = [float(pixel_loss(hurt, target).mean())]
        healed, losses = _follow(model, hurt, target, steps, mix("heal", cut, seed), losses, advance)
        courses.append(Course(cut, tuple(losses), torch.stack((grown[0], hurt[0], healed[0])).cpu()))
    return courses


def _follow(
    model: GrowingNCA, states: Tensor, target: Tensor, steps: int, seed: int, losses: list[float], advance: Advance
) -> tuple[Tensor, list[float]]:
    """The states after `steps` steps; the loss after every one is added to `losses`."""
    done, part = 0, 64  # states kept at a time, so that long runs need no more memory than short ones
    while done < steps:
        kept = run_states(model, states, min(part, steps - done), mix(seed, done))
        losses += pixel_loss(kept, target).mean(-1).tolist()
        states, done = kept[-1], done + len(kept)
        advance(len(kept))
    return states, losses
