"""settle(): run an automaton until its state has converged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ncafast import check
from ncafast.functional import OPTIONS, rollout
from ncafast.keywords import options_of, refuse_unknown
from ncafast.rule import Rule
from ncafast.values import number


class Settled(NamedTuple):
    """The state in which a rollout converged, or in which it was stopped."""

    state: Tensor  # [B, C, *S]
    steps: int
    """Steps that were taken."""
    change: float
    """Mean absolute change in the last step, of the sample that changed most."""
    converged: bool
    """Whether that is below the tolerance; False if max_steps came first."""

    def __repr__(self) -> str:
        how = "converged" if self.converged else "not converged"
        return f"Settled({how} after {self.steps} steps, change {self.change:.3g}, state {list(self.state.shape)})"

    @property
    def rests(self) -> bool:
        """The earlier name of `converged`."""
        return self.converged


@torch.no_grad()
def settle(
    x: Tensor,  # [B, C, *S]
    rule: Rule,
    params: Mapping[str, Tensor],
    *,
    tolerance: float = 1e-3,
    max_steps: int = 1000,
    chunk: int = 8,
    channels: slice = slice(None),
    first_step: int = 0,
    seed: int | Tensor | None = None,
    **options: Any,
) -> Settled:
    """Run `rule` from state `x` until no sample changes by `tolerance` or more in a step.

    The change of a sample in a step is the mean over its cells and channels of |x_(t+1) - x_t|. The rollout ends after
    the first step in which the largest of the samples' changes is below the tolerance or 0; or NaN, which is not
    converged. Steps run in chunks, so up to chunk - 1 of them are computed and dropped at the end; state and number of
    steps do not depend on chunk. For a model: `settle(x, model.rule, model.params())`.

    Args:
        x: state [B, C, *S], as for `ncafast.rollout`.
        rule: what one step does.
        params: tensors by name, as for `rollout`.
        tolerance: largest change of a state that has converged, in the unit of the state.
        max_steps: where to stop a state that does not converge.
        chunk: steps between two checks; as many states are held in memory.
        channels: the channels whose change counts, such as slice(1, 2) for the logits of a Med-NCA.
        first_step: absolute index of the first step.
        seed: as for `rollout`; None draws one from torch's generator, for the whole run.
        **options: further ones of `rollout`: first_sample, extra that does not change per step, backend.

    Returns:
        The state, the steps taken, the last step's change, and whether it has converged.

    Raises:
        TypeError, ValueError: a wrong argument, here or for `rollout`.
    """
    refuse_unknown("settle", options, _OPTIONS)
    check.check_floating("x", x)
    tolerance = number("tolerance", tolerance, 0.0)
    max_steps, chunk = check.check_count("max_steps", max_steps), check.check_count("chunk", chunk, 1)
    if not isinstance(channels, slice):
        raise TypeError(f"channels must be a slice, such as slice(1, 2), got {type(channels).__name__}")
    if x.dim() > 1 and 0 in (len(x), len(range(x.shape[1])[channels])):
        none = "sample" if not len(x) else f"channel at channels={channels}"
        raise ValueError(f"x of shape {list(x.shape)} has no {none} whose change could be measured; give at least one")
    if seed is None:
        seed = torch.randint(-(2**63), 2**63 - 1, (1,), dtype=torch.int64)
    done, change = 0, float("inf")
    state = x.clone()
    while done < max_steps:
        steps = min(chunk, max_steps - done)
        where: dict[str, Any] = {"first_step": first_step + done, "seed": seed, "states": "all"}
        _, states = rollout(state, rule, params, steps, **where, **options)
        watched = torch.cat((state[None], states))[:, :, channels]
        changes = watched.diff(dim=0).abs().flatten(2).double().mean(2).amax(1).tolist()  # one number per step
        for step, change in enumerate(changes):
            converged = change < tolerance or change == 0
            if converged or math.isnan(change):
                return Settled(states[step].clone(), done + step + 1, change, converged)
        state, done = states[-1].clone(), done + steps
    return Settled(state, done, change, False)


_OPTIONS = (*options_of(settle, 3), *(name for name in OPTIONS if name not in ("first_step", "seed", "states")))
