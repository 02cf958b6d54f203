"""The CPU backend against the float64 oracle: every rule it takes, forward, states and every gradient, on each ISA."""

from __future__ import annotations

import pytest
import torch
from cases import CASES, make_extra, make_masks, make_params, make_state

from ncafast import backends, rollout

STEPS = 3
RUNS = {name: case for name, case in CASES.items() if backends.get("cpu").can_run(case[0], torch.zeros(1)) is None}


def run(backend, rule, x, params, masks, extra, weight, **options):
    """(x_T, states, gradients of x, the parameters and extra)."""
    leaves = [x, *(p for key, p in params.items() if "running" not in key)] + ([] if extra is None else [extra])
    leaves = [leaf.requires_grad_() for leaf in leaves]
    out, states = rollout(
        x, rule, params, STEPS, fire_mask=masks, extra=extra, states="all", backend=backend, **options
    )
    loss = (states * weight).sum() + (out * weight[0]).sum()
    return [out, states, *torch.autograd.grad(loss, leaves)]


def inputs(name, dtype):
    rule, size = CASES[name]
    return make_state(rule, size, dtype), make_params(rule, dtype), make_extra(rule, size, dtype)


@pytest.fixture(params=["avx512", "avx2", "portable"])
def isa(request, monkeypatch):
    monkeypatch.setenv("NCAFAST_CPU_ISA", request.param)
    from ncafast import native

    if native.load().instruction_set() != request.param:
        pytest.skip(f"this processor has no {request.param}")


@pytest.mark.parametrize("name", RUNS)
def test_parity_with_float64(name, isa):
    """Error at most twice that of the reference in float32, plus a little of the tensor's own scale."""
    rule, size = CASES[name]
    shape = (STEPS, 2, rule.channels, *size)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    exact = run("reference", rule, *exact_inputs(name), weight)
    plain = run("reference", rule, *single(name), weight.float())
    ours = run("cpu", rule, *single(name), weight.float())
    largest = max(c.abs().max().item() for c in exact)
    for a, b, c in zip(ours, plain, exact, strict=True):
        scale = c.abs().max().item()
        if scale < 1e-9 * largest:  # zero but for rounding: what a norm takes away again
            scale = largest
        error, theirs = (a.double() - c).abs().max().item(), (b.double() - c).abs().max().item()
        assert error <= 2 * theirs + 1e-6 * scale + 1e-7, (error, theirs, scale)


def exact_inputs(name):
    x, params, extra = inputs(name, torch.float32)
    extra = None if extra is None else extra.double()
    return x.double(), {k: p.double() for k, p in params.items()}, make_masks(*mask_args(name)), extra


def single(name):
    x, params, extra = inputs(name, torch.float32)
    return x, params, make_masks(*mask_args(name)), extra


def mask_args(name):
    rule, size = CASES[name]
    return rule, STEPS, size
