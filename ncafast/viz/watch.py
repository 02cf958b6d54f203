"""The states that an automaton goes through, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

_TOGETHER = 16  # states of one rollout that are held at once


def watch(
    model: Callable[..., Any],
    x: Tensor,  # [B, C, *S], or as the model takes it
    *,
    frames: int,
    every: int = 1,
    seed: int = 0,
    first_step: int = 0,
    **options: Any,
) -> Iterator[Tensor]:
    """Run an automaton and hand over its state, in the model's own layout, after every `every` steps, `frames` times.

    The frames are those of one long rollout of `frames * every` steps with this seed, bit for bit, but only a few
    states are in memory at a time. No gradient is kept.

    Args:
        model: an `NCA`, or a published model whose forward pass takes a state and returns it, with `states=` also the
            kept ones (TextureNCA, GrowingNCA, NCA2D).
        x: the state to begin with. It is not among the frames.
        frames: how many states.
        every: steps between two of them.
        seed: of the fire masks.
        first_step: steps that have been done before.
        **options: of `ncafast.rollout`: extra, backend, ...

    Raises:
        TypeError, ValueError: frames or every below 1, no model, or what `rollout` refuses.
    """
    for name, value in (("frames", frames), ("every", every)):
        if value < 1:
            raise ValueError(f"{name}={value} is not allowed; give a whole number from 1")
    if not callable(model):
        raise TypeError(f"model must be an NCA or a model of ncafast.models, got {type(model).__name__}")
    for name in {"steps", "states"} & options.keys():
        raise TypeError(f"watch has no option {name!r}: it runs frames * every steps, and hands over their states")
    return _run(model, x, frames, every, {"seed": seed, **options}, first_step)


def _run(
    model: Callable[..., Any], x: Tensor, frames: int, every: int, options: dict[str, Any], step: int
) -> Iterator[Tensor]:
    while frames > 0:
        count = min(frames, _TOGETHER)
        with torch.no_grad():
            _, kept = model(x, steps=count * every, states=every, first_step=step, **options)
        yield from kept
        x, frames, step = kept[-1], frames - count, step + count * every
