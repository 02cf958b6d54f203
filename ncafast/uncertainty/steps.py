"""The last steps of one run: where the state still moves, where decisions change, and since when they have not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ncafast.evaluating import evaluating
from ncafast.uncertainty.calls import check_options, takes
from ncafast.uncertainty.result import Moments, Read, Reduce, Uncertainty, spread
from ncafast.values import whole


@torch.no_grad()
def last_steps(
    model: Callable[..., Any],
    x: Tensor,  # [B, ...]
    n: int = 10,
    *,
    read: Read | None = None,
    reduce: Reduce = "mean",
    **options: Any,
) -> Uncertainty:
    """The standard deviation over the last steps of one run: where the automaton has not come to rest.

    Args:
        model: a module that takes `states="all"` and returns the states [T, B, ...] last, for several
            levels in a list, of which the finest counts; or one that takes `last_steps=` and returns what it reads of
            them (`MedNCA`, `M3DNCA`). It is in evaluation mode meanwhile.
        x: its input.
        n: steps at the end, at least 2.
        read: makes of states, or of what the model reads of them, what is compared, such as
            `lambda state: state[:, 3:4].sigmoid()`; None takes them as they are.
        reduce: as for `nqm`.
        **options: of the model's call.

    Returns:
        Map and mean over the steps, [B, ...]; score [B].

    Raises:
        TypeError: a model that takes neither, or not one of the options.
        ValueError: a model with fewer steps, or outputs that "nqm" cannot be taken of.
    """
    moments = Moments()
    found = _course(model, x, whole("n", n, 2), read, options)
    moments.add(found)
    return spread(moments, reduce, torch.promote_types(torch.float32, found.dtype))


@torch.no_grad()
def flicker(
    model: Callable[..., Any],
    x: Tensor,  # [B, ...]
    n: int = 10,
    *,
    decide: Read | None = None,
    **options: Any,
) -> Uncertainty:
    """The share of the last steps in which a cell's decision changes.

    Args:
        model: as for `last_steps`.
        x: its input.
        n: steps at the end that are compared each with the one before, so n - 1 changes at most; at least 2.
        decide: makes decisions [B, *S] of states, or of what the model reads of them, in the model's own layout. None
            takes the largest channel, or of a single one whether it is above 0, as for logits.
        **options: of the model's call.

    Returns:
        Map [B, *S] from 0 to 1, score [B] as its mean, and the last decisions.

    Raises:
        ValueError: a model with fewer steps.
    """
    decisions = _course(model, x, whole("n", n, 2), decide or _decide(model), options)
    changes = (decisions[1:] != decisions[:-1]).float().mean(0)
    return Uncertainty(changes, changes.flatten(1).mean(1), decisions[-1])


@torch.no_grad()
def stop_time(
    model: Callable[..., Any],
    x: Tensor,  # [B, ...]
    n: int | None = None,
    *,
    decide: Read | None = None,
    **options: Any,
) -> Uncertainty:
    """The step, of the last n, with which each cell's decision changed for the last time; 0 where it did not.

    Args:
        model: as for `last_steps`.
        x: its input.
        n: steps at the end, at least 2; None means all that the model shows. The first of them is step 1, whose
            decision is compared with nothing.
        decide: as for `flicker`.
        **options: of the model's call.

    Returns:
        Map [B, *S] in steps, score [B] as its mean, and the last decisions.

    Raises:
        ValueError: a model with fewer steps.
    """
    decisions = _course(model, x, None if n is None else whole("n", n, 2), decide or _decide(model), options)
    changed = decisions[1:] != decisions[:-1]
    numbers = torch.arange(2, len(decisions) + 1, device=changed.device).view(-1, *[1] * (changed.dim() - 1))
    last = (changed * numbers).amax(0).float() if len(changed) else torch.zeros_like(decisions[-1], dtype=torch.float32)
    return Uncertainty(last, last.flatten(1).mean(1), decisions[-1])


def decisions_of(logits: Tensor) -> Tensor:
    """Logits [B, K, *S] -> the largest of several channels, or whether a single one is above 0, [B, *S]."""
    return logits.argmax(1) if logits.shape[1] > 1 else logits[:, 0] > 0


def _decide(model: Callable[..., Any]) -> Read:
    """`decisions_of` in the layout of the model's states."""
    if getattr(model, "channels_last", False):
        return lambda logits: decisions_of(logits.movedim(-1, 1))
    return decisions_of


def _course(model: Callable[..., Any], x: Tensor, n: int | None, read: Read | None, options: dict[str, Any]) -> Tensor:
    """What is read of the last n steps, [n, B, ...]; of all of them if n is None."""
    with evaluating(model):
        if takes(model, "last_steps"):
            check_options(model, options)
            count = model.steps[-1] if n is None else n  # type: ignore[attr-defined]
            states = model(x, last_steps=count, **options)[-1]
        else:
            check_options(model, ("states", *options))
            states = _states(model(x, states="all", **options))
    if n is not None and len(states) < n:
        raise ValueError(f"n={n} is not allowed: the model takes {len(states)} steps")
    states = states if n is None else states[-n:]
    return states if read is None else read(states.flatten(0, 1)).unflatten(0, states.shape[:2])


def _states(output: Any) -> Tensor:
    states = output[-1] if isinstance(output, tuple) else None
    states = states[-1] if isinstance(states, list) else states  # of a cascade those of the finest level
    if not isinstance(states, Tensor):
        raise TypeError(
            "the module does not return (..., states) when it is called with states='all'; "
            "give a function that does, or that takes last_steps="
        )
    return states
