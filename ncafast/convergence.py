"""When a rollout has converged, and running until it has: each sample by itself, or all together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ncafast.backends.precision import precision
from ncafast.rule import Rule
from ncafast.trace import Options, trace
from ncafast.values import number, whole

CHUNK = 8  # steps between two checks


@dataclass(frozen=True, slots=True)
class Convergence:
    """When a state has converged, for `settle` and for the `predict` of a model.

    Args:
        tolerance: the mean absolute change per step is below this number, in the unit of the state.
        plateau: for so many steps in a row.
        min_steps: the state after fewer steps than these does not count.
        channels: whose change counts; None means a model's hidden channels.
    """

    tolerance: float = 0.01
    plateau: int = 5
    min_steps: int = 0
    channels: slice | None = None

    def __post_init__(self) -> None:
        number("tolerance", self.tolerance, 0.0)
        whole("plateau", self.plateau, 1)
        whole("min_steps", self.min_steps, 0)
        if not isinstance(self.channels, (slice, type(None))):
            raise TypeError(f"channels must be a slice, such as slice(1, 2), got {type(self.channels).__name__}")


class Automaton(NamedTuple):
    """What a rollout takes of a module, beside the state."""

    rule: Rule
    params: Mapping[str, Tensor]
    extra: Callable[[Tensor, int, int], Tensor | None]
    """(state, first step, number of steps) -> extra channels of these steps, or None."""
    linear: bool = False
    """Whether it stands for layers of torch.nn.Linear, see `precision`."""


class Settled(NamedTuple):
    """The state in which a rollout converged, or in which it was stopped."""

    state: Tensor  # [B, C, *S]
    steps: int
    """Steps that were taken."""
    change: float
    """Mean absolute change in the last step, of the sample that changed most, or the mean over samples."""
    converged: bool
    """Whether that is below the tolerance; False if max_steps came first."""

    def __repr__(self) -> str:
        how = "converged" if self.converged else "not converged"
        return f"Settled({how} after {self.steps} steps, change {self.change:.3g}, state {list(self.state.shape)})"

    @property
    def rests(self) -> bool:
        """The earlier name of `converged`."""
        return self.converged


class SettledSamples(NamedTuple):
    """The states in which samples converged one by one, or in which they were stopped."""

    state: Tensor  # [B, C, *S]
    steps: Tensor  # [B] int64
    """Steps that each sample took."""
    change: Tensor  # [B] float64
    """Mean absolute change in each sample's last step."""
    converged: Tensor  # [B] bool
    """Whether that is below the tolerance."""
    together: bool = False
    """Whether they are the same of all samples, which depend on each other."""


@torch.no_grad()
def converge(
    x: Tensor,  # [B, C, *S]
    automaton: Automaton,
    until: Convergence,
    max_steps: int,
    *,
    first_step: int,
    seed: int | Tensor,
    **options: Any,
) -> SettledSamples:
    """`settle` for a part of a model: each sample by itself, but all together under norm "batch".

    Args:
        x: state.
        automaton: what runs.
        until: when a sample stops; its channels are given.
        max_steps: where to stop those that do not converge.
        first_step: absolute index of the first step.
        seed: of the fire masks.
        **options: further ones of a rollout: first_sample, backend, film.
    """
    assert until.channels is not None
    rule, count = automaton.rule, len(x)
    options["extra"] = lambda first, steps: automaton.extra(x, first, steps)
    rounding = precision(x, linear=automaton.linear)
    run = Run(rule, automaton.params, first_step, seed, until.channels, options, rounding)
    if rule.norm != "batch" or not count:
        return each(x, run, until, max_steps, CHUNK)
    found = together(x, run, until, max_steps, CHUNK, False)
    change = torch.full((count,), found.change, dtype=torch.float64)
    steps, converged = torch.full((count,), found.steps), torch.tensor([found.converged] * count)
    return SettledSamples(found.state, steps, change, converged, together=True)


def _look(until: Convergence, changes: Sequence[float], done: int, count: int) -> tuple[int | None, int]:
    """The step, from 0, after which a rollout ends, or None; and how many steps in a row have been below."""
    for step, change in enumerate(changes):
        below = (change < until.tolerance or change == 0) and done + step + 1 >= until.min_steps
        count = count + 1 if below else 0
        if count >= until.plateau or math.isnan(change):
            return step, count
    return None, count


class Course(Protocol):
    """What is run until it has converged."""

    def steps(self, state: Tensor, done: int, count: int, start: int, batch: int) -> tuple[Tensor, Tensor]:
        """The next states [T, n, C, *S] of n samples, the first being number `start` of `batch`; changes [T, n]."""


class Run(NamedTuple):
    """A rollout that is to converge, a few steps at a time."""

    rule: Rule
    params: Mapping[str, Tensor]
    first_step: int
    seed: int | Tensor
    channels: slice
    options: dict[str, Any]
    precision: str | None = None

    def steps(self, state: Tensor, done: int, count: int, start: int, batch: int) -> tuple[Tensor, Tensor]:
        """The next states [T, n, C, *S] of n samples, the first being number `start` of `batch`; changes [T, n]."""
        options, first = dict(self.options), self.first_step + done
        options["first_sample"] = options.get("first_sample", 0) + start
        samples = slice(start, start + len(state)), batch
        if callable(extra := options.pop("extra", None)):
            extra = extra(first, count)
        if extra is not None:
            options["extra"] = _own(extra, extra.dim() - state.dim(), *samples)
        if film := options.get("film"):
            options["film"] = tuple(_own(each, 0, *samples) for each in film)
        params = self.params if len(state) == batch else self._params_of(*samples)
        where: dict[str, Any] = {"first_step": first, "seed": self.seed, "states": "all"}
        states = trace(state, self.rule, params, count, Options(precision=self.precision, **where, **options)).states
        assert states is not None
        watched = torch.cat((state[None], states))[:, :, self.channels]
        return states, watched.diff(dim=0).abs().flatten(2).double().mean(2)

    def _params_of(self, samples: slice, batch: int) -> dict[str, Tensor]:
        """The parameters of these samples, where each has its own."""
        ranks = {name: len(shape) for name, shape in self.rule.param_shapes().items()}
        return {
            name: _own(tensor, 0, samples, batch) if tensor.dim() > ranks.get(name, 99) else tensor
            for name, tensor in self.params.items()
        }


def _own(tensor: Tensor, axis: int, samples: slice, batch: int) -> Tensor:
    """What belongs to these samples of a batch, of a tensor with an axis of samples or of length 1."""
    if tensor.shape[axis] != batch:
        return tensor
    return tensor.narrow(axis, samples.start, samples.stop - samples.start)


def together(x: Tensor, run: Course, until: Convergence, max_steps: int, chunk: int, mean: bool) -> Settled:
    """All samples stop at the same step."""
    done, count, change = 0, 0, float("inf")
    state = x.clone()
    while done < max_steps:
        steps = min(chunk, max_steps - done)
        states, changes = run.steps(state, done, steps, 0, len(x))
        scores = (changes.mean(1) if mean else changes.amax(1)).tolist()  # one number per step
        end, count = _look(until, scores, done, count)
        change = scores[-1 if end is None else end]
        if end is not None:
            return Settled(states[end].clone(), done + end + 1, change, count >= until.plateau)
        state, done = states[-1].clone(), done + steps
    return Settled(state, done, change, False)


def each(x: Tensor, run: Course, until: Convergence, max_steps: int, chunk: int) -> SettledSamples:
    """Each sample stops at its own step; neighbours that still run are one rollout."""
    state, counts, active = x.clone(), [0] * len(x), list(range(len(x)))
    taken = torch.zeros(len(x), dtype=torch.int64)
    change = torch.full((len(x),), math.inf, dtype=torch.float64)
    converged = torch.zeros(len(x), dtype=torch.bool)
    done = 0
    while done < max_steps and active:
        steps, left = min(chunk, max_steps - done), []
        for start, end in _neighbours(active):
            states, changes = run.steps(state[start:end], done, steps, start, len(x))
            for place, scores in enumerate(changes.T.tolist()):
                sample = start + place
                last, counts[sample] = _look(until, scores, done, counts[sample])
                left += [sample] if last is None else []
                last = steps - 1 if last is None else last
                state[sample], change[sample], taken[sample] = states[last, place], scores[last], done + last + 1
                converged[sample] = counts[sample] >= until.plateau
        active, done = left, done + steps
    return SettledSamples(state, taken, change, converged)


def _neighbours(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Rising numbers as ranges [start, end) without gaps."""
    start = 0
    for place in range(1, len(numbers) + 1):
        if place == len(numbers) or numbers[place] != numbers[place - 1] + 1:
            yield numbers[start], numbers[place - 1] + 1
            start = place
