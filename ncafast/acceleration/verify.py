"""The proof: the user's own method and the rule from the same states, with the user's draws, forward and backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ncafast.acceleration.adapted import Drawn
from ncafast.acceleration.assemble import Match
from ncafast.acceleration.behind import reaching
from ncafast.acceleration.double import Double, double_copy
from ncafast.acceleration.draws import Draws, drawn_masks, with_all_units
from ncafast.acceleration.entry import Rest
from ncafast.acceleration.errors import NotAccelerated, at_exception, counted
from ncafast.acceleration.factors import changing_factor
from ncafast.acceleration.firing import Firing
from ncafast.acceleration.fused import fused
from ncafast.acceleration.given import tensors_in, with_tensors
from ncafast.acceleration.match import add_noise
from ncafast.acceleration.opened import opened
from ncafast.acceleration.sample import Sample

_AGREES = 1e-7  # of float64 values over a few steps, relative to the largest
_STEPS = (1, 2, 5)
_SIZES = ((8, 10, 7), (9, 7, 8), (12, 8, 7))  # of grids, one for each number of steps


def verify(module: nn.Module, match: Match) -> None:
    """Compare states, their gradients and those of every parameter in float64, on another grid and batch.

    Args:
        module: the user's, which is left as it is.
        match: what was found.

    Raises:
        NotAccelerated: they differ; the message says where.
    """
    twin = double_copy(module)
    add_noise(twin)
    device = next(iter(twin.parameters())).device
    for number, steps in enumerate(_STEPS):
        sizes = _SIZES[number][: match.rule.ndim]
        x = torch.randn(number + 2, match.rule.channels, *sizes, dtype=torch.float64)
        if match.rule.alive is not None and number:
            x = x * (torch.rand(len(x), 1, *sizes) > 0.7)
        x = match.grid.outward(reaching(match.rule, x) if number == 1 else x).to(device)
        call = match.sample.on(len(x), sizes, steps, match.sample.rest)
        given = [t.detach().requires_grad_(t.is_floating_point()) for t in tensors_in(call.rest)]
        rest = with_tensors(call.rest, given)
        leaf = x.clone().requires_grad_()
        torch.manual_seed(number)
        try:
            with Draws(match.units) as draws, Double():
                out = opened(_steps(twin, call, rest, leaf, steps))
            if not any(tensor.requires_grad for tensor in out[0]):
                raise NotAccelerated("its result has no gradient: it runs under no_grad, or detaches")
            want = _gradients(out[0], leaf, twin, given)
        except NotAccelerated:
            raise
        except Exception as error:  # of the user's code
            raise NotAccelerated(f"{counted(steps)} on a grid of {list(sizes)} fail: {at_exception(error)}") from error
        if isinstance(match.firing, Drawn):
            torch.manual_seed(number)
            masks = torch.stack([match.firing.draw(match.grid.inward(x)) for _ in range(steps)])
        else:
            masks = drawn_masks(match, draws.seen, steps)
        if isinstance(match.firing, Firing):
            match.firing.learn(draws.seen[0])
            torch.manual_seed(number)
            again = torch.stack([match.firing.draw(match.grid.inward(x)) for _ in range(steps)])
            match.firing.replays = torch.equal(again, masks.to(again.device)) if masks is not None else False

        leaf = x.clone().requires_grad_()
        got = opened(_fused(twin, with_all_units(match), rest, leaf, steps, masks))
        if (str(out[2]), len(out[0])) != (str(got[2]), len(got[0])):
            raise NotAccelerated(f"{call.entry.method} returns other things after {steps} steps than after one")
        wrong = _first_error(_gradients(got[0], leaf, twin, given), want)
        if wrong is not None:
            raise NotAccelerated(
                changing_factor(twin, match.sample) or f"a rule was found, but after {counted(steps)} {wrong}"
            )


def _fused(module: nn.Module, match: Match, rest: Rest, x: Tensor, steps: int, masks: Tensor | None) -> Any:
    if match.sample.entry.steps is not None:
        return fused(module, match, x, steps, rest, masks, "reference")
    for step in range(steps):
        out = fused(module, match, x, 1, rest, None if masks is None else masks[step : step + 1], "reference")
        x = opened(out)[0][match.sample.pick]
    return out


def _steps(module: nn.Module, sample: Sample, rest: Rest, x: Tensor, steps: int) -> Any:
    if sample.entry.steps is not None:
        return sample.entry.call(module, x, steps, rest)
    for _ in range(steps):
        out = sample.entry.call(module, x, 1, rest)
        x = opened(out)[0][sample.pick]
    return out


def _gradients(outs: list[Tensor], leaf: Tensor, module: nn.Module, given: list[Tensor]) -> dict[str, Tensor]:
    """The result, and the gradients of a weighted sum of it."""
    total = leaf.new_zeros(())
    for out in outs:
        weights = torch.linspace(-1, 1, out.numel(), dtype=leaf.dtype, device=out.device).view(out.shape)
        total = total + (out * weights).sum()
    learned = {f"parameter {name!r}": p for name, p in module.named_parameters() if p.requires_grad}
    others = {f"argument tensor {k + 1}": t for k, t in enumerate(given) if t.requires_grad}
    wanted = {"the state": leaf, **learned, **others}
    grads = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
    pairs = zip(wanted.items(), grads, strict=True)
    found = {f"the gradient of {name}": torch.zeros_like(t) if g is None else g for (name, t), g in pairs}
    return {**{f"result {k + 1}" if k else "the state": out.detach().double() for k, out in enumerate(outs)}, **found}


def _first_error(got: dict[str, Tensor], want: dict[str, Tensor]) -> str | None:
    """What is not the module's, or None."""
    top = max([float(value.abs().max()) for name, value in want.items() if "parameter" in name], default=0.0)
    for name, value in want.items():
        scale = max(float(value.abs().max()), 1e-6 * top if "parameter" in name or "argument" in name else 0.0, 1e-30)
        error = float((got[name] - value).abs().max()) / scale
        if not error <= _AGREES:
            why = "; is something detached?" if "gradient" in name else ""
            return f"{name} is not the module's (relative error {error:.1e}{why})"
    return None
