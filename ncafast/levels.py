"""Running the levels of a model, coarse to fine; an automaton by itself is one level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ncafast.convergence import Automaton, Convergence, SettledSamples, converge
from ncafast.trace import States
from ncafast.values import shown

Advance = Callable[..., tuple[Tensor, Tensor | None]]


class Level(Protocol):
    """An automaton on states [B, C, *S]."""

    def _stepper(self) -> Advance:
        """(state, steps, options of a rollout) -> (last state, kept states); reads the layers once."""

    def _automaton(self, extra: Tensor | None) -> Automaton:
        """What `converge` runs, with extra channels of the caller's."""


class LevelOutput(NamedTuple):
    """What one level returns."""

    state: Tensor  # [B, C, *S]
    kept: Tensor | None  # [n, B, C, *S], as states= asks
    last: Tensor | None  # [last_steps, B, channels read, *S]
    settled: SettledSamples | None  # as until= asks


@dataclass
class LevelsOutput:
    """What all levels return, one after the other."""

    state: Tensor  # [B, C, *S] of the finest level
    steps: tuple[int, ...]
    """Of each level, coarse to fine; the most that were allowed, with until=."""
    kept: list[Tensor] = field(default_factory=list)  # per level [n, B, C, *S of the level]; empty without states=
    last: Tensor | None = None  # of the finest level, as in LevelOutput
    settled: list[SettledSamples] = field(default_factory=list)  # per level; empty without until=


def run_levels(
    levels: Sequence[Level],
    steps: Sequence[int],
    enter: Callable[[int, Tensor | None], Tensor],
    *,
    first_step: int,
    fire_masks: Sequence[Tensor | None] | None = None,
    last_steps: int = 0,
    **options: Any,
) -> LevelsOutput:
    """Run levels from coarse to fine; each draws its fire masks at the steps after those of the level before.

    Args:
        levels: their automata, coarse to fine.
        steps: of each level.
        enter: (number of the level, last state of the level before) -> first state [B, C, *S] of the level.
        first_step: absolute index of the coarsest level's first step.
        fire_masks: one for each level, or None for drawn ones.
        last_steps: of the finest level, as in `run_level`.
        **options: of `run_level`.
    """
    masks = [None] * len(levels) if fire_masks is None else fire_masks
    state, done = None, LevelsOutput(torch.empty(0), tuple(steps))
    for number, (level, count, mask) in enumerate(zip(levels, steps, masks, strict=True)):
        shown = last_steps if number == len(levels) - 1 else 0
        where: dict[str, Any] = {"first_step": first_step, "fire_mask": mask, "last_steps": shown}
        state, states, done.last, settled = run_level(level, enter(number, state), count, **where, **options)
        first_step += count
        done.kept += [] if states is None else [states]
        done.settled += [] if settled is None else [settled]
    assert state is not None
    done.state = state
    return done


def run_level(
    level: Level,
    state: Tensor,  # [B, C, *S]
    steps: int,
    *,
    first_step: int,
    fire_mask: Tensor | None,
    states: States = None,
    last_steps: int = 0,
    read: slice = slice(None),
    until: Convergence | None = None,
    **options: Any,
) -> LevelOutput:
    """Run one level; with last_steps, keep the channels `read` of the states after each of the last so many steps.

    These steps run one at a time, to the same bits, so that no whole states are kept for them. With `until`, `steps`
    is where to stop a sample that does not converge.
    """
    if until is not None:
        settled = converge(
            state, level._automaton(options.pop("extra", None)), until, steps, **_of(first_step, options)
        )
        return LevelOutput(settled.state, None, None, settled)
    head = steps - last_steps
    advance = level._stepper()

    def run(state: Tensor, first: int, count: int, states: States) -> tuple[Tensor, Tensor | None]:
        mask = None if fire_mask is None else fire_mask if count == steps else fire_mask[first : first + count]
        where: dict[str, Any] = {"first_step": first_step + first, "fire_mask": mask, "states": states}
        return advance(state, count, **where, **options)

    state, kept = run(state, 0, head, states)
    seen = []
    for step in range(head, steps):
        state, _ = run(state, step, 1, None)
        seen.append(state[:, read])
    return LevelOutput(state, kept, torch.stack(seen) if seen else None, None)


def _of(first_step: int, options: dict[str, Any]) -> dict[str, Any]:
    return {"first_step": first_step} | {name: value for name, value in options.items() if name != "memory"}


def with_kept(done: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor | None]:
    """What a call with or without states= returns, as a pair."""
    return done if isinstance(done, tuple) else (done, None)


def check_last(last_steps: int, steps: int, states: States) -> None:
    """Raise ValueError unless the finest level can show its last steps."""
    if not 0 <= last_steps <= steps:
        raise ValueError(f"last_steps={shown(last_steps)} is not allowed: the finest level takes {steps} steps")
    if last_steps and states is not None:
        raise ValueError("give either states= or last_steps=, not both")
