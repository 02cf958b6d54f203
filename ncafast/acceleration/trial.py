"""The proof on the user's own grid: sizes that were read from numbers are those of that grid alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ncafast.acceleration.assemble import Match
from ncafast.acceleration.double import Double, double_copy
from ncafast.acceleration.errors import at_exception
from ncafast.acceleration.graph import named_tensors
from ncafast.acceleration.match import add_noise
from ncafast.acceleration.patch import aside
from ncafast.acceleration.steps import Steps
from ncafast.acceleration.verify import _Draws, _masks
from ncafast.functional import rollout

_AGREES = 1e-9  # of float64 values after one step, relative to the largest


def check_here(steps: Steps, match: Match, shape: Sequence[int]) -> str | None:
    """Why the rule is not what the steps do in a state of this shape, or None. One step of one sample, in float64."""
    with aside(steps), torch.no_grad():
        twin = double_copy(steps)
        add_noise(twin)
        x = torch.randn(1, *shape[1:], dtype=torch.float64, device=next(twin.parameters()).device)
        try:
            with _Draws() as draws, Double():
                want = twin(x)
        except Exception as error:  # of the user's code
            return f"on a grid of {list(shape)} it fails: {at_exception(error)}"
        params = match.parameters(list(named_tensors(twin).values()))
        masks = _masks(match, draws.seen, 1)
        got = rollout(match.grid.inward(x), match.rule, params, 1, fire_mask=masks, backend="reference")
        assert isinstance(got, Tensor)
        off = (match.grid.outward(got) - want).abs().max()
        if not float(off) <= _AGREES * max(1.0, float(want.abs().max())):
            return f"a rule was found, but on a grid of {list(shape)} it is not what the module computes"
    return None
