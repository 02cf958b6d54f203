"""settle(): run an automaton until its state has converged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor

from ncafast import check
from ncafast.functional import OPTIONS, rollout
from ncafast.keywords import options_of, refuse_unknown
from ncafast.rule import Rule
from ncafast.values import flag, number, shown, whole


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


@overload
def settle(
    x: Tensor, rule: Rule, params: Mapping[str, Tensor], *, per_sample: Literal[True], **options: Any
) -> SettledSamples: ...


@overload
def settle(
    x: Tensor, rule: Rule, params: Mapping[str, Tensor], *, per_sample: Literal[False] = False, **options: Any
) -> Settled: ...


@torch.no_grad()
def settle(
    x: Tensor,  # [B, C, *S]
    rule: Rule,
    params: Mapping[str, Tensor],
    *,
    tolerance: float = 1e-3,
    plateau: int = 1,
    min_steps: int = 0,
    max_steps: int = 1000,
    score: Literal["largest", "mean"] = "largest",
    per_sample: bool = False,
    chunk: int = 8,
    channels: slice = slice(None),
    first_step: int = 0,
    seed: int | Tensor | None = None,
    **options: Any,
) -> Settled | SettledSamples:
    """Run `rule` from state `x` until it does not change by `tolerance` or more in a step.

    The change of a sample in a step is the mean over its cells and channels of |x_(t+1) - x_t|. The rollout ends after
    the first step with which the score has been below the tolerance, or 0, for `plateau` steps in a row; or is NaN,
    which is not converged. Steps run in chunks, so up to chunk - 1 of them are computed and dropped at the end; state
    and number of steps do not depend on chunk. For a model: `settle(x, model.rule, model.params())`.

    NCALab's `AutoStepper` is `score="mean", tolerance=0.01, plateau=5, min_steps=10, max_steps=100`, with `channels`
    those between image and output.

    Args:
        x: state [B, C, *S], as for `ncafast.rollout`.
        rule: what one step does.
        params: tensors by name, as for `rollout`.
        tolerance: largest change of a state that has converged, in the unit of the state.
        plateau: steps in a row with a score below the tolerance.
        min_steps: the state after fewer steps than these does not count.
        max_steps: where to stop a state that does not converge.
        score: "largest", the change of the sample that changes most; or "mean" over samples.
        per_sample: stop each sample where it has converged itself; the others go on without it, with the masks that
            they have in the batch. `score` means nothing then.
        chunk: steps between two checks; as many states are held in memory.
        channels: the channels whose change counts, such as slice(1, 2) for the logits of a Med-NCA.
        first_step: absolute index of the first step.
        seed: as for `rollout`; None draws one from torch's generator, for the whole run.
        **options: further ones of `rollout`: first_sample, backend, and extra channels that are equal in all steps, or
            a function (first step, number of steps) -> extra channels per step.

    Returns:
        `Settled`: the state, the steps taken, the last step's score, and whether it has converged. With `per_sample`
        `SettledSamples`, which has these of each sample.

    Raises:
        TypeError, ValueError: a wrong argument, here or for `rollout`; `per_sample` with norm "batch", with which
            samples depend on each other.
    """
    refuse_unknown("settle", options, _OPTIONS)
    check.check_floating("x", x)
    max_steps, chunk = check.check_count("max_steps", max_steps), check.check_count("chunk", chunk, 1)
    stop = _Stop(number("tolerance", tolerance, 0.0), whole("plateau", plateau, 1), whole("min_steps", min_steps, 0))
    if not isinstance(channels, slice):
        raise TypeError(f"channels must be a slice, such as slice(1, 2), got {type(channels).__name__}")
    if score not in ("largest", "mean"):
        raise ValueError(f"score={shown(score)} is not allowed: choose one of largest, mean")
    if x.dim() > 1 and 0 in (len(x), len(range(x.shape[1])[channels])):
        none = "sample" if not len(x) else f"channel at channels={channels}"
        raise ValueError(f"x of shape {list(x.shape)} has no {none} whose change could be measured; give at least one")
    if flag("per_sample", per_sample) and getattr(rule, "norm", None) == "batch":
        raise ValueError("per_sample=True does not go with norm='batch', with which samples depend on each other")
    if isinstance(extra := options.get("extra"), Tensor) and extra.dim() > x.dim():
        raise ValueError(
            "extra= changes per step here; give a function (first step, number of steps) -> extra channels"
        )
    if seed is None:
        seed = torch.randint(-(2**63), 2**63 - 1, (1,), dtype=torch.int64)
    run = _Run(rule, params, first_step, seed, channels, options)
    sizes = max_steps, chunk
    return _each(x, run, stop, *sizes) if per_sample else _together(x, run, stop, *sizes, score == "mean")


class _Stop(NamedTuple):
    tolerance: float
    plateau: int
    min_steps: int

    def look(self, changes: Sequence[float], done: int, count: int) -> tuple[int | None, int]:
        """The step, from 0, after which a rollout ends, or None; and how many steps in a row have been below."""
        for step, change in enumerate(changes):
            below = (change < self.tolerance or change == 0) and done + step + 1 >= self.min_steps
            count = count + 1 if below else 0
            if count >= self.plateau or math.isnan(change):
                return step, count
        return None, count


class _Run(NamedTuple):
    rule: Rule
    params: Mapping[str, Tensor]
    first_step: int
    seed: int | Tensor
    channels: slice
    options: dict[str, Any]

    def steps(self, state: Tensor, done: int, count: int, start: int, batch: int) -> tuple[Tensor, Tensor]:
        """The next states [T, n, C, *S] of n samples, the first being number `start` of `batch`; changes [T, n]."""
        options, first = dict(self.options), self.first_step + done
        options["first_sample"] = options.get("first_sample", 0) + start
        samples = slice(start, start + len(state)), batch
        if callable(extra := options.get("extra")):
            extra = extra(first, count)
        if extra is not None:
            options["extra"] = _own(extra, extra.dim() - state.dim(), *samples)
        if film := options.get("film"):
            options["film"] = tuple(_own(each, 0, *samples) for each in film)
        params = self.params if len(state) == batch else self._params_of(*samples)
        where: dict[str, Any] = {"first_step": first, "seed": self.seed, "states": "all"}
        _, states = rollout(state, self.rule, params, count, **where, **options)
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


def _together(x: Tensor, run: _Run, stop: _Stop, max_steps: int, chunk: int, mean: bool) -> Settled:
    """All samples stop at the same step."""
    done, count, change = 0, 0, float("inf")
    state = x.clone()
    while done < max_steps:
        steps = min(chunk, max_steps - done)
        states, changes = run.steps(state, done, steps, 0, len(x))
        scores = (changes.mean(1) if mean else changes.amax(1)).tolist()  # one number per step
        end, count = stop.look(scores, done, count)
        change = scores[-1 if end is None else end]
        if end is not None:
            return Settled(states[end].clone(), done + end + 1, change, count >= stop.plateau)
        state, done = states[-1].clone(), done + steps
    return Settled(state, done, change, False)


def _each(x: Tensor, run: _Run, stop: _Stop, max_steps: int, chunk: int) -> SettledSamples:
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
                last, counts[sample] = stop.look(scores, done, counts[sample])
                left += [sample] if last is None else []
                last = steps - 1 if last is None else last
                state[sample], change[sample], taken[sample] = states[last, place], scores[last], done + last + 1
                converged[sample] = counts[sample] >= stop.plateau
        active, done = left, done + steps
    return SettledSamples(state, taken, change, converged)


def _neighbours(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Rising numbers as ranges [start, end) without gaps."""
    start = 0
    for place in range(1, len(numbers) + 1):
        if place == len(numbers) or numbers[place] != numbers[place - 1] + 1:
            yield numbers[start], numbers[place - 1] + 1
            start = place


_OPTIONS = (*options_of(settle, 3), *(name for name in OPTIONS if name not in ("first_step", "seed", "states")))
