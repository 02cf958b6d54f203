"""Sums of the perception over a part by the CPU's kernels, against PyTorch in float64."""

import pytest
import torch
from parity import make_extra, make_params, make_state

from ncafast import Rule
from ncafast.backends import cpu
from ncafast.volume import moments
from ncafast.volume.boxes import Box

RULES = {
    "batch": (Rule(channels=5, norm="batch", padding="reflect"), (30, 41)),
    "group, extra": (Rule(channels=6, norm="group", extra=2, filter_bias=True, norm_groups=4), (17, 23)),
    "instance 3-D": (Rule(channels=3, ndim=3, norm="instance", kernel_size=(3, 5, 7), num_filters=3), (9, 8, 20)),
    "batch 1-D, dense": (Rule(channels=4, ndim=1, perception="dense", dense_channels=18, norm="batch"), (500,)),
}


@pytest.mark.skipif(cpu.unavailable() is not None, reason="needs the C++ extension")
@pytest.mark.parametrize("name", RULES)
def test_native_sums_are_those_of_float64(name):
    rule, size = RULES[name]
    x, params = make_state(rule, size, torch.float32, 2, seed=1) + 5.0, make_params(rule, torch.float32, seed=2)
    extra = make_extra(rule, size, torch.float32, seed=3)
    outer = Box((0,) * rule.ndim, size)
    core = Box((2,) * rule.ndim, tuple(n - 1 for n in size))

    def sums(cast):
        own = {name: cast(p) for name, p in params.items()}
        more = None if extra is None else cast(extra)
        return moments.sums(cast(x), core.within(outer), rule, own, more, shift)

    shift = moments.start_shift(x, rule, params, extra)
    ours, exact = sums(torch.Tensor.float), sums(torch.Tensor.double)
    assert ours.first.dtype == torch.float64
    for found, want in zip(ours, exact, strict=True):
        torch.testing.assert_close(found, want, rtol=0, atol=2e-6 * exact.second.abs().max().item())
    assert torch.equal(ours.second, ours.second.transpose(1, 2))


@pytest.mark.skipif(cpu.unavailable() is not None, reason="needs the C++ extension")
@pytest.mark.parametrize("name", RULES)
def test_gradients_of_native_sums_are_those_of_float64(name):
    """Of the state, the filters and extra channels, through both sums."""
    rule, size = RULES[name]
    generator = torch.Generator().manual_seed(4)
    core = Box((1,) * rule.ndim, tuple(n - 2 for n in size)).within(Box((0,) * rule.ndim, size))
    x, params = make_state(rule, size, torch.float32, 2, seed=1), make_params(rule, torch.float32, seed=2)
    extra = make_extra(rule, size, torch.float32, seed=3)
    shift = moments.start_shift(x, rule, params, extra)
    shapes = shift.shape, (*shift.shape, shift.shape[1])
    weights = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]

    def gradients(cast):
        own = {name: cast(p).requires_grad_() for name, p in params.items()}
        state, more = cast(x).requires_grad_(), None if extra is None else cast(extra).requires_grad_()
        found = moments.sums(state, core, rule, own, more, shift)
        leaves = [state, *(p for name, p in own.items() if name.startswith("perceive"))]
        leaves += [more] if rule.extra else []
        return torch.autograd.grad(sum((w * part).sum() for w, part in zip(weights, found, strict=True)), leaves)

    for found, want in zip(gradients(torch.clone), gradients(torch.Tensor.double), strict=True):
        torch.testing.assert_close(found.double(), want, rtol=0, atol=2e-6 * want.abs().max().item())
