"""accelerate() on random modules: none may run to other results, and hardly any may be refused."""

from __future__ import annotations

import copy
import os
import random

import torch
from random_steps import Spelled, random_given, random_module, random_state, steps_of

import ncafast
from ncafast.acceleration import NotAcceleratedWarning

# Set, this many modules are drawn anew on each run; unset, always the same ones (1 has a dense 5^3 filter, which takes
# half a minute in float64).
COUNT = os.environ.get("NCAFAST_RANDOM_MODULES")
SEEDS = range(2, 10) if COUNT is None else random.sample(range(10**6), int(COUNT))
REFUSED = 0.05  # of modules that are drawn anew
STEPS = 3
SMALL = 1e-3  # of a tensor's largest value: norms amplify rounding (to 1.4e-4 in 300 modules), a wrong rule gave 0.2


def results(model: Spelled, x: torch.Tensor, given: tuple) -> list[torch.Tensor]:
    """What comes out after some steps, and the gradients of a sum of it: of what goes in and of all parameters."""
    torch.manual_seed(9)
    leaf = x.clone().requires_grad_()
    given = tuple(t.clone().requires_grad_(t.is_floating_point()) for t in given)
    out = steps_of(model, leaf, STEPS, given)
    loss = sum((y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum() for y in out)
    wanted = [leaf, *model.parameters(), *(t for t in given if t.requires_grad)]
    grads = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [
        *(y.detach() for y in out),
        *(torch.zeros_like(t) if g is None else g for t, g in zip(wanted, grads, strict=True)),
    ]


def error(got: list[torch.Tensor], want: list[torch.Tensor]) -> float:
    """The largest relative error; gradients that are nothing but rounding count by the largest one's size."""
    top = max(float(value.abs().max()) for value in want[2:])
    pairs = zip(got, want, strict=True)
    return max(float((a - b).abs().max()) / max(float(b.abs().max()), 1e-2 * top, 1e-6) for a, b in pairs)


def test_random_modules_do_what_they_did():
    refused, wrong = [], []
    for seed in SEEDS:
        model = random_module(seed)
        plain, x, given = copy.deepcopy(model), random_state(model.pick), random_given(model.pick)
        try:
            ncafast.accelerate(model, *((x, *given) if given else ()), masks="torch", quiet=True)
            got = results(model, x, given)
        except (ncafast.NotAccelerated, NotAcceleratedWarning) as reason:  # warnings are errors here
            refused.append(f"{seed}: {reason} {vars(model.pick)}")
            continue
        far = error(got, results(plain, x, given))
        if not far <= SMALL:
            wrong.append(f"{seed}: {far:.1e} {vars(model.pick)}")
    assert not wrong, "\n".join(wrong)
    assert len(refused) <= REFUSED * len(SEEDS), "\n".join(refused)
