"""The bound that every fused backend is held to, on the case table: shared by the tests of all of them."""

from __future__ import annotations

import torch
from cases import CASES, make_extra, make_masks, make_params, make_state

from ncafast import rollout

STEPS = 3


def run(backend, rule, x, params, masks, extra, weight, device="cpu", fixed=(), **options):
    """(x_T, states, gradients of x, the parameters but the `fixed` ones, and extra), on the CPU."""
    x, masks, extra = (None if value is None else value.to(device) for value in (x, masks, extra))
    params = {name: value.to(device) for name, value in params.items()}
    learned = [key for key in params if "running" not in key and key not in fixed]
    wanted = extra is not None and "extra" not in fixed
    leaves = [x, *(params[key] for key in learned)] + ([extra] if wanted else [])
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    x, *rest = leaves
    extra = rest.pop() if wanted else extra
    params |= dict(zip(learned, rest, strict=True))
    options = {"states": "all", "seed": 5, **options}
    out, states = rollout(x, rule, params, len(weight), fire_mask=masks, extra=extra, backend=backend, **options)
    weight = weight.to(device)
    loss = (states * weight[: len(states)]).sum() + (out * weight[0]).sum()
    return [value.cpu() for value in (out, states, *torch.autograd.grad(loss, leaves))]


def inputs(name, dtype, steps=STEPS):
    """State, parameters, fire masks and extra channels of a case: float32 numbers in that dtype."""
    rule, size = CASES[name]
    x, extra = (make(rule, size, torch.float32) for make in (make_state, make_extra))
    params = {key: p.to(dtype) for key, p in make_params(rule, torch.float32).items()}
    return x.to(dtype), params, make_masks(rule, steps, size), None if extra is None else extra.to(dtype)


def check(ours, plain, exact, small=1e-6):
    """Error at most twice that of the reference in float32, plus a little of the tensor's own scale."""
    largest = max(c.abs().max().item() for c in exact)
    for a, b, c in zip(ours, plain, exact, strict=True):
        scale = c.abs().max().item()
        if scale < 1e-9 * largest:  # zero but for rounding: what a norm takes away again
            scale = largest
        error, theirs = (a.double() - c).abs().max().item(), (b.double() - c).abs().max().item()
        assert error <= 2 * theirs + small * scale + 1e-7, (error, theirs, scale)


def check_half(backend, name, dtype, device="cpu"):
    """One step of a case with half-precision states: no more than half an ulp from the step in float64.

    Parameters are float32, and so are their gradients.
    """
    rule, size = CASES[name]
    x, params, masks, extra = inputs(name, torch.float32, 1)
    weight = torch.randn((1, 2, rule.channels, *size), generator=torch.Generator().manual_seed(3)).to(dtype)
    x = x.to(dtype)
    wide = x.double(), {key: p.double() for key, p in params.items()}, masks, None if extra is None else extra.double()
    expected = run("reference", rule, *wide, weight.double(), seed=5)
    found = run(backend, rule, x, params, masks, extra, weight, device=device, seed=5)
    largest = max(c.abs().max().item() for c in expected)
    for number, (a, c) in enumerate(zip(found, expected, strict=True)):
        half = number < 3  # x_T, states, and the gradient of x
        assert a.dtype == (dtype if half else torch.float32)
        scale = c.abs().max().item()
        bound = 3e-6 * (scale if scale > 1e-9 * largest else largest) + 1e-7  # zero but for rounding: before a norm
        assert ((a.double() - c).abs() <= bound + half * 0.5001 * torch.finfo(dtype).eps * c.abs()).all(), number


def check_case(backend, name, steps=STEPS, device="cpu", small=1e-6, **options):
    """A case of the table on a backend, with random weights on every state; options as of `run`."""
    rule, size = CASES[name]
    shape = (steps, 2, rule.channels, *size)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    exact = run("reference", rule, *inputs(name, torch.float64, steps), weight, **options)
    plain = run("reference", rule, *inputs(name, torch.float32, steps), weight.float(), **options)
    ours = run(backend, rule, *inputs(name, torch.float32, steps), weight.float(), device=device, **options)
    check(ours, plain, exact, small)
