"""The proof on the user's own grid: sizes that were read from numbers are those of that grid alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ncafast.acceleration.aside import aside
from ncafast.acceleration.assemble import Match
from ncafast.acceleration.double import Double, double_copy
from ncafast.acceleration.draws import Draws, drawn_masks, with_all_units
from ncafast.acceleration.errors import at_exception
from ncafast.acceleration.graph import named_tensors
from ncafast.acceleration.match import add_noise
from ncafast.acceleration.steps import Steps
from ncafast.functional import rollout

_AGREES = 1e-9  # of float64 values after one step, relative to the largest
_SMALL = (8, 9, 7)


def check_here(steps: Steps, match: Match, shape: Sequence[int]) -> str | None:
    """Why the rule is not what the steps do in states of the user's shape, or None.

    One step in float64, of one sample on the user's grid, and of the user's batch on a small one.
    """
    with aside(steps), torch.no_grad():
        twin = double_copy(steps)
        add_noise(twin)
        batch, _, *sizes = match.grid.inward(torch.empty(shape, device="meta")).shape
        small = _SMALL[: len(sizes)]
        return _differs(twin, match, 1, sizes) or _differs(twin, match, batch, small)


def _differs(twin: nn.Module, match: Match, batch: int, sizes: Sequence[int]) -> str | None:
    x = torch.randn(batch, match.rule.channels, *sizes, dtype=torch.float64, device=next(twin.parameters()).device)
    try:
        with Draws(match.units) as draws, Double():
            want = match.grid.inward(twin(match.grid.outward(x)))
    except Exception as error:  # of the user's code
        return f"on {batch} grids of {list(sizes)} it fails: {at_exception(error)}"
    match = with_all_units(match)
    params = match.parameters(list(named_tensors(twin).values()))
    masks = drawn_masks(match, draws.seen, 1)
    got = rollout(x, match.rule, params, 1, fire_mask=masks, backend="reference")
    assert isinstance(got, Tensor)
    if not float((got - want).abs().max()) <= _AGREES * max(1.0, float(want.abs().max())):
        return f"a rule was found, but on {batch} grids of {list(sizes)} it is not what the module computes"
    return None
