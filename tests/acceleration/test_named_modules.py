"""accelerate() takes modules of public systems as they are, with the interfaces that their users call."""

from __future__ import annotations

import copy

import pytest
import torch
from named_modules import NAMED
from torch import nn

import ncafast

GRIDS = {2: (11, 14), 3: (7, 9, 8)}


def values(name: str, model: nn.Module, x: torch.Tensor, steps: int) -> list[torch.Tensor]:
    """State, other results, and the gradients of a weighted sum of all floating ones."""
    torch.manual_seed(5)
    leaf = x.clone().requires_grad_()
    results = [part for part in NAMED[name].run(model, leaf, steps) if part.is_floating_point()]
    loss = sum((part * torch.linspace(0.5, 1.5, part.numel()).view(part.shape)).sum() for part in results)
    learned = list(model.parameters())
    grads = torch.autograd.grad(loss, [leaf, *learned], allow_unused=True)
    filled = [torch.zeros_like(p) if g is None else g for p, g in zip([leaf, *learned], grads, strict=True)]
    return [*(part.detach() for part in results), *filled]


@pytest.mark.parametrize("name", NAMED)
def test_a_named_module_does_what_it_did_and_is_restored_to_the_bit(name):
    torch.manual_seed(3)
    case = NAMED[name]
    model = case.build()
    before, keys = copy.deepcopy(model), list(model.state_dict())
    ncafast.accelerate(model, masks="torch", quiet=True)
    assert list(model.state_dict()) == keys
    x = case.state(model, 2, GRIDS[len(case.grid)])
    for steps in (1, 3):
        got, want = values(name, model, x, steps), values(name, before, x, steps)
        top = max(float(value.abs().max()) for value in want)
        for a, b in zip(got, want, strict=True):
            scale = float(b.abs().max())
            scale = top if scale < 1e-5 * top else scale  # a bias below batch statistics has rounding for a gradient
            assert float((a - b).abs().max()) <= 1e-5 * scale
    ncafast.restore(model)
    for a, b in zip(values(name, model, x, 2), values(name, before, x, 2), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(model.state_dict().values(), before.state_dict().values(), strict=True):
        assert torch.equal(a, b)
