"""accelerate() on modules that return more than their state: the same things come out, and gradients of all of them."""

from __future__ import annotations

import copy

import pytest
import torch
from headed_steps import HEADED, Gained, Grown, Scores
from torch import nn

import ncafast
from ncafast.acceleration.opened import opened


def run(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """All tensors that come out, and the gradients of a sum of them: of the state and of all parameters."""
    torch.manual_seed(5)
    leaf = x.clone().requires_grad_()
    out = opened(model(leaf))[0]
    loss = sum((y * torch.linspace(0.5, 1.5, y.numel()).view(y.shape)).sum() for y in out)
    return [*(y.detach() for y in out), *torch.autograd.grad(loss, [leaf, *model.parameters()])]


@pytest.mark.parametrize("name", HEADED)
def test_all_that_comes_out_is_what_it_was(name):
    torch.manual_seed(3)
    make, channels, method = HEADED[name]
    model = make()
    before = copy.deepcopy(model)
    ncafast.accelerate(model, torch.randn(2, channels, 8, 8), masks="torch", quiet=True)
    assert method in vars(model)
    for sizes in ((9, 14), (12, 12)):
        x = torch.randn(3, channels, *sizes)
        for a, b in zip(run(model, x), run(before, x), strict=True):
            assert float((a - b).abs().max()) <= 2e-5 * max(float(b.abs().max()), 1e-3)


def test_results_keep_their_class():
    out = [ncafast.accelerate(HEADED[name][0](), quiet=True) for name in ("named tuple", "dataclass")]
    scores, grown = out[0](torch.randn(1, 9, 8, 8)), out[1](torch.randn(1, 8, 8, 8))
    assert isinstance(scores, Scores) and isinstance(grown, Grown) and grown.name == "grown"


def test_what_an_argument_lacks_or_does_is_said():
    with pytest.raises(ncafast.NotAccelerated, match="`gain`; give an example"):
        ncafast.accelerate(Gained(), quiet=True)
    with pytest.raises(ncafast.NotAccelerated, match="an argument enters where a rule takes none: `mul`"):
        ncafast.accelerate(Gained(), torch.randn(2, 8, 6, 6), torch.tensor(0.5), quiet=True)
    with pytest.raises(ncafast.NotAccelerated, match="the model fails on the example"):
        ncafast.accelerate(Gained(), torch.randn(2, 7, 6, 6), torch.tensor(0.5), quiet=True)
