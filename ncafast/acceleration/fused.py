"""The user's method as a rollout: a state goes in, all that the method returns comes out."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ncafast.acceleration.assemble import Match
from ncafast.acceleration.entry import Rest
from ncafast.acceleration.graph import named_tensors
from ncafast.functional import rollout


def fused(
    module: nn.Module,
    match: Match,
    x: Tensor,  # in the user's layout
    steps: int,
    rest: Rest,
    mask: Tensor | None,  # [T, B, 1, *S]
    backend: str | None = None,
) -> Any:
    """What the method returns for a state, a number of steps and its other arguments."""
    state = match.grid.inward(x)
    params = match.parameters(list(named_tensors(module).values()))
    extra = None if match.extra is None else match.extra.values(module, state, steps, rest)
    out = rollout(state, match.rule, params, steps, fire_mask=mask, extra=extra, backend=backend)
    assert isinstance(out, Tensor)
    new = match.grid.outward(out)
    if match.results is None:
        return new
    return match.results.of(module, match.sample.on(len(x), tuple(state.shape[2:]), 1, rest), x, new)
