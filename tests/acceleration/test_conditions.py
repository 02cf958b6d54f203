"""accelerate() on steps that see more than their state: the same results, and gradients of what they see."""

from __future__ import annotations

import copy

import pytest
import torch
from conditioned_steps import CONDITIONED
from torch import nn
from torch.utils import _pytree as pytree

import ncafast


def state(name: str, batch: int, *sizes: int) -> torch.Tensor:
    _, channels, last = CONDITIONED[name]
    x = torch.randn(batch, channels, *sizes)
    return x.movedim(1, -1).contiguous() if last else x


def run(model: nn.Module, inputs: tuple, steps: int) -> list[torch.Tensor]:
    """The state after some steps, and the gradients of a sum of it: of all tensors that go in, and all parameters."""
    torch.manual_seed(5)
    leaves, spec = pytree.tree_flatten(inputs)
    leaves = [t.clone().requires_grad_() if torch.is_floating_point(t) else t for t in leaves]
    x, *others = pytree.tree_unflatten(leaves, spec)
    if hasattr(model, "grow"):
        for _ in range(steps):
            x = model(x, *others)
    else:
        x = model(x, *others, steps)
    wanted = [*(t for t in leaves if t.requires_grad), *(p for p in model.parameters() if p.requires_grad)]
    loss = (x * torch.linspace(0.5, 1.5, x.numel()).view(x.shape)).sum()
    grads = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [x.detach(), *(torch.zeros_like(t) if g is None else g for t, g in zip(wanted, grads, strict=True))]


def inputs_of(model: nn.Module, x: torch.Tensor) -> tuple:
    return getattr(model, "inputs", lambda x: (x,))(x)


@pytest.mark.parametrize("name", CONDITIONED)
def test_a_module_does_what_it_did(name):
    torch.manual_seed(3)
    model = CONDITIONED[name][0]()
    before = copy.deepcopy(model)
    ncafast.accelerate(model, *inputs_of(model, state(name, 2, 8, 8)), masks="torch", quiet=True)
    for batch, sizes, steps in ((3, (9, 14), 2), (1, (12, 12), 5)):
        inputs = inputs_of(model, state(name, batch, *sizes))
        for a, b in zip(run(model, inputs, steps), run(before, inputs, steps), strict=True):
            assert float((a - b).abs().max()) <= 2e-5 * max(float(b.abs().max()), 1e-3)


@pytest.mark.parametrize("name", ["time code", "positions"])
def test_a_call_in_inference_mode_leaves_nothing_behind_that_training_cannot_use(name):
    torch.manual_seed(3)
    model = ncafast.accelerate(CONDITIONED[name][0](), masks="torch", quiet=True)
    before, x = ncafast.restore(copy.deepcopy(model)), state(name, 2, 9, 11)
    with torch.inference_mode():
        model(x, 3)
    for a, b in zip(run(model, (x,), 3), run(before, (x,), 3), strict=True):
        assert float((a - b).abs().max()) <= 2e-5 * max(float(b.abs().max()), 1e-3)
