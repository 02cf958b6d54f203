"""Rollouts in passes and tiles, with states kept elsewhere, against a rollout of the whole grid."""

import pytest
import torch
from parity import make_extra, make_params, make_state
from test_part import RULES

from ncafast import rollout
from ncafast.volume.reach import needs_whole_grid
from ncafast.volume.spilled import rollout_spilled

STEPS = 4


def run(function, rule, size, dtype, **options):
    """(x_T, gradients of x, the parameters and extra)."""
    x = make_state(rule, size, dtype, 2, seed=1).requires_grad_()
    params = {name: p.requires_grad_("running" not in name) for name, p in make_params(rule, dtype, seed=2).items()}
    extra = make_extra(rule, size, dtype, seed=3)
    leaves = [x, *(p for p in params.values() if p.requires_grad)]
    if extra is not None:
        leaves.append(extra.requires_grad_())
    out = function(x, rule, params, STEPS, seed=-7 % 2**64, first_step=5, first_sample=3, extra=extra, **options)
    weight = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).to(dtype)
    return [out, *torch.autograd.grad((out * weight).sum(), leaves)]


def check(found, want, bound=1e-10):
    for a, b in zip(found, want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=bound * max(1.0, b.abs().max().item()))


@pytest.mark.parametrize("name", RULES)
def test_tiles_and_their_gradients_equal_the_whole_rollout(name, tmp_path):
    rule, size = RULES[name]
    want = run(rollout, rule, size, torch.float64, backend="reference")
    tile = tuple(-(-n // pieces) for n, pieces in zip(size, (2, 3, 2), strict=False))
    for spill, tile, per_pass in (None, tile, 1), (tmp_path, tile, 3), ("host", None, 3):
        per_pass = 1 if tile and needs_whole_grid(rule) else per_pass
        found = run(rollout_spilled, rule, size, torch.float64, spill=spill, tile=tile, steps_per_pass=per_pass)
        check(found, want)
        assert not list(tmp_path.iterdir())
