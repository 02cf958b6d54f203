"""settle(): run an automaton until its state has converged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, overload

import torch
from torch import Tensor

from ncafast import check
from ncafast.convergence import CHUNK, Convergence, Run, Settled, SettledSamples, each, together
from ncafast.functional import OPTIONS
from ncafast.keywords import options_of, refuse_unknown
from ncafast.rule import Rule
from ncafast.values import flag, shown


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
    chunk: int = CHUNK,
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
    until = Convergence(tolerance, plateau, min_steps, channels)
    if channels is None:
        raise TypeError("channels must be a slice, such as slice(1, 2), got NoneType")
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
    run = Run(rule, params, first_step, seed, channels, options)
    sizes = max_steps, chunk
    return each(x, run, until, *sizes) if per_sample else together(x, run, until, *sizes, score == "mean")


_OPTIONS = (*options_of(settle, 3), *(name for name in OPTIONS if name not in ("first_step", "seed", "states")))
