"""The reference backend: one NCA step in plain PyTorch. The definition, the oracle, and the fallback for every rule.

Forward keeps states only. Backward walks the steps in reverse, computes each again from its state and lets autograd
differentiate that one step, so it needs the memory of one step, whatever the length of the rollout. Half-precision
states are widened inside a step and rounded once at its end, see `ncafast.half`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ncafast import philox
from ncafast.backends.plan import Call, Gradients, Outputs, Plan
from ncafast.half import wide, widened
from ncafast.rule import Alive, Rule, layer_name

DEVICE: str | None = None
UNVERIFIED: str | None = None
Params = dict[str, Tensor]

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_ACTIVATE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "identity": lambda z: z,
}
_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def unavailable() -> str | None:
    """Why this machine cannot run the backend; None, since it runs wherever torch does."""
    return None


def can_run(rule: Rule, x: Tensor, rounding: str | None = None) -> str | None:
    """Why this rule and state cannot run; None, since all do."""
    return None


def step(
    rule: Rule,
    x: Tensor,  # [B, C, *S]
    params: Params,
    extra: Tensor | None,  # [B or 1, E, *(S or 1)]
    fired: Tensor | None,  # [B or 1, 1, *S], None: every cell
    noise: Tensor | None,  # [B, M, *S] standard normal
    kept: list[Tensor] | None = None,  # per hidden layer [B, H, N], None: every unit
) -> tuple[Tensor, Tensor | None]:
    """One step of `rule`: the next state [B, C, *S], and the batch statistics [2, sum H] if norm is "batch".

    All but x has the dtype that is computed in, `half.wide(x.dtype)`.
    """
    wide_x = widened(x)
    d, stats = _mlp(rule, perceive(rule, wide_x, params, extra).flatten(2), params, kept)
    d = _activate(rule.update_activation, rule, d.unflatten(2, x.shape[2:]))  # [B, M, *S]
    if rule.noise == "update" and noise is not None:
        d = d + rule.noise_std * noise
    scale = rule.step_size / rule.fire_rate if rule.fire_rescale else rule.step_size
    if scale != 1.0:
        d = d * scale
    if fired is not None:
        d = d * fired.to(d.dtype)
    alive = rule.alive
    if alive is not None and alive.gates == "update":
        d = d * _living(alive, x).to(d.dtype)
    moved = wide_x[:, rule.lo : rule.hi] + d
    if rule.noise == "state" and noise is not None:
        moved = moved + rule.noise_std * noise
    new = torch.cat((wide_x[:, : rule.lo], moved, wide_x[:, rule.hi :]), 1)
    if alive is not None and alive.gates == "state":
        rounded = new.to(x.dtype)
        new = widened(rounded) * _alive(alive, x, rounded).to(new.dtype)
    if rule.clamp is not None:
        new = _clamped(rule.clamp, new, x.dtype)
    if rule.restore is not None:
        lo, hi = rule.restore
        new = torch.cat((new[:, :lo], wide_x[:, lo:hi], new[:, hi:]), 1)
    return new.to(x.dtype), stats


def _clamped(clamp: tuple[float | None, float | None], x: Tensor, dtype: torch.dtype) -> Tensor:
    """The state between limits as states of a dtype hold them: a number that was clamped before lies inside.

    Gradients pass at the limits, which versions of torch.clamp do or do not let them do.
    """
    lo, hi = (None if side is None else torch.tensor(side, dtype=dtype, device=x.device).to(x.dtype) for side in clamp)
    x = x if lo is None else torch.where(x < lo, lo, x)
    return x if hi is None else torch.where(x > hi, hi, x)


def outputs(rule: Rule, x: Tensor, plan: Plan) -> Outputs:
    """Uninitialised tensors of the shapes, dtypes and strides that `forward` returns."""
    stats = x.new_empty((plan.steps if rule.norm == "batch" else 0, 2, sum(rule.hidden)), dtype=wide(x.dtype))
    return Outputs(x.new_empty(x.shape), x.new_empty((plan.kept, *x.shape)), stats, x.new_empty(0, dtype=torch.uint8))


def forward(call: Call) -> Outputs:
    """All steps."""
    inputs, plan = _Inputs(call), call.plan
    out, history, stats, tape = outputs(call.rule, call.x, plan)
    with torch.no_grad():
        state = call.x
        for t in range(plan.steps):
            state, moments = inputs.step(t, state)
            if moments is not None:
                stats[t] = moments
            index, rest = divmod(t + 1, plan.every) if plan.every else (0, 1)
            if rest == 0 and index <= plan.kept:
                history[index - 1] = state
    return Outputs(out.copy_(state), history, stats, tape)


def backward(
    call: Call,
    history: Tensor,  # [kept, B, C, *S]
    tape: Tensor,  # nothing here: each step is computed again
    grad_out: Tensor | None,  # [B, C, *S]
    grad_history: Tensor | None,  # [kept, B, C, *S]
    needs: list[bool],  # x, extra, *params
) -> Gradients:
    """Gradients of x (always), of extra and of each parameter (None where `needs` says no)."""
    inputs, plan, extra = _Inputs(call), call.plan, call.extra
    grads = _Sums(inputs, needs)
    g = torch.zeros_like(call.x) if grad_out is None else grad_out
    for t, state in inputs.states_in_reverse(history):
        index, rest = divmod(t + 1, plan.every) if plan.every else (0, 1)
        if grad_history is not None and rest == 0 and index <= plan.kept:
            g = g + grad_history[index - 1]
        g = grads.step(t, state, g)
    grad_params = [
        None if total is None else total.to(p.dtype) for total, p in zip(grads.params, call.params, strict=True)
    ]
    grad_extra = grads.extra if grads.extra is None or extra is None else grads.extra.to(extra.dtype)
    return Gradients(g.clone() if g is grad_out else g, grad_extra, grad_params)


class _Inputs:
    """The arguments of a rollout, cut into what one step needs."""

    def __init__(self, call: Call) -> None:
        rule, x, params, extra, fire_mask, self.seed, self.plan = call
        self.rule, self.x = rule, x
        self.params = {name: widened(p) for name, p in zip(rule.param_shapes(), params, strict=True)}
        self.extra, self.fire_mask = None if extra is None else widened(extra), fire_mask
        self.extra_per_step = extra is not None and extra.dim() == x.dim() + 1

    def step(self, t: int, state: Tensor) -> tuple[Tensor, Tensor | None]:
        return step(self.rule, state, self.params, self.extra_at(t), self.fired(t), self.noise(t), self.kept(t))

    def extra_at(self, t: int) -> Tensor | None:
        return self.extra[t] if self.extra is not None and self.extra_per_step else self.extra

    def fired(self, t: int) -> Tensor | None:
        if self.fire_mask is not None:
            return self.fire_mask[t] != 0
        if self.rule.fire_rate >= 1.0:
            return None
        size = tuple(self.x.shape[2:])
        return philox.fire_mask(self.x.shape[0], size, self.rule.fire_rate, self.seed, **self.counter(t))

    def noise(self, t: int) -> Tensor | None:
        rule, x = self.rule, self.x
        if rule.noise == "none" or rule.noise_std == 0.0:
            return None
        shape = (x.shape[0], rule.hi - rule.lo, tuple(x.shape[2:]))
        return philox.normal(*shape, self.seed, dtype=wide(x.dtype), **self.counter(t))

    def kept(self, t: int) -> list[Tensor] | None:
        rule, x = self.rule, self.x
        if rule.hidden_dropout == 0.0:
            return None
        cells = math.prod(x.shape[2:])
        return philox.kept_units(x.shape[0], cells, rule.hidden, rule.hidden_dropout, self.seed, **self.counter(t))

    def counter(self, t: int) -> dict[str, Any]:
        plan = self.plan
        return {"step": plan.first_step + t, "first_sample": plan.first_sample, "device": self.x.device}

    def states_in_reverse(self, history: Tensor) -> Iterator[tuple[int, Tensor]]:
        """(t, x_t) for t = T-1 ... 0; states between the kept ones are computed again, one segment at a time."""
        every = self.plan.every or max(self.plan.steps, 1)
        for start in reversed(range(0, self.plan.steps, every)):
            states = [self.x if start == 0 else history[start // every - 1]]
            with torch.no_grad():
                for t in range(start, min(start + every, self.plan.steps) - 1):
                    states.append(self.step(t, states[-1])[0])
            while states:
                yield start + len(states) - 1, states.pop()


class _Sums:
    """Sums of the parameters' and extra's gradients over the steps, in the dtype that a step computes in."""

    def __init__(self, inputs: _Inputs, needs: list[bool]) -> None:
        self.inputs = inputs
        _, need_extra, *need_params = needs
        names = zip(inputs.params, need_params, strict=True)
        self.sums = {name: torch.zeros_like(inputs.params[name]) for name, need in names if need}
        self.extra = torch.zeros_like(inputs.extra) if need_extra and inputs.extra is not None else None

    def step(self, t: int, state: Tensor, g: Tensor) -> Tensor:
        """Add step t's share; return dL/dx_t from g = dL/dx_(t+1)."""
        inputs, sums = self.inputs, self.sums
        with _autograd_inside_operator():
            x = state.detach().requires_grad_()
            params = {name: p.detach().requires_grad_(name in sums) for name, p in inputs.params.items()}
            extra = inputs.extra_at(t)
            wanted = [x, *(params[name] for name in sums)]
            if extra is not None and self.extra is not None:
                extra = extra.detach().requires_grad_()
                wanted.append(extra)
            out, _ = step(inputs.rule, x, params, extra, inputs.fired(t), inputs.noise(t), inputs.kept(t))
            computed = list(torch.autograd.grad(out, wanted, g, allow_unused=True, materialize_grads=True))
        for total, grad in zip(sums.values(), computed[1:], strict=False):
            total += grad
        if self.extra is not None:
            target = self.extra[t] if inputs.extra_per_step else self.extra
            target += computed[-1]
        return computed[0]

    @property
    def params(self) -> list[Tensor | None]:
        return [self.sums.get(name) for name in self.inputs.params]


@contextmanager
def _autograd_inside_operator() -> Iterator[None]:
    """Record gradients although torch switches autograd off below an operator that has a derivative of its own."""
    key = torch._C.DispatchKey.AutogradFunctionality
    with torch._C._SetExcludeDispatchKeyGuard(key, False), torch.enable_grad():
        yield


def perceive(rule: Rule, x: Tensor, params: Params, extra: Tensor | None) -> Tensor:
    """What the hidden layers read, [B, P, *S]: identity, filters (filter-major) or dense outputs, extra, pooled."""
    parts = [x] if rule.identity else []
    if rule.has_filters:
        weight, bias = params["perceive.weight"], params.get("perceive.bias")
        reach = [kernel // 2 for kernel in rule.kernel_size]
        inside = reach if rule.padding == "zeros" else 0
        padded = x if rule.padding == "zeros" else F.pad(x, _pad_pairs(reach), mode=rule.padding)
        conv = _CONV[rule.ndim]
        if rule.perception == "dense":
            parts.append(_activate(rule.dense_activation, rule, conv(padded, weight, bias, padding=inside)))
        elif rule.perception == "depthwise":
            for f in range(rule.num_filters):
                offset = None if bias is None else bias[f]
                parts.append(conv(padded, weight[f][:, None], offset, padding=inside, groups=rule.channels))
        else:
            raise ValueError(f"perception={rule.perception!r} has no implementation")
    if extra is not None:
        parts.append(extra.expand(x.shape[0], -1, *x.shape[2:]))
    if rule.pooled != "none":
        parts.append(_pooled(rule, x).expand(-1, -1, *x.shape[2:]))
    return torch.cat(parts, 1)


def _pooled(rule: Rule, x: Tensor) -> Tensor:
    """[B, pooled channels, *1]. The gradient of "max" is shared by all cells that have it."""
    lo, hi = rule.pooled_range
    axes = tuple(range(2, x.dim()))
    return x[:, lo:hi].mean(axes, keepdim=True) if rule.pooled == "mean" else x[:, lo:hi].amax(axes, keepdim=True)


def _pad_pairs(reach: list[int]) -> list[int]:
    """torch.nn.functional.pad wants (before, after) from the last axis to the first."""
    return [size for size in reversed(reach) for _ in range(2)]


def _mlp(rule: Rule, y: Tensor, params: Params, kept: list[Tensor] | None) -> tuple[Tensor, Tensor | None]:
    """[B, P, N] -> [B, M, N], and batch statistics [2, sum H]."""
    stats = []
    for layer in range(len(rule.hidden)):
        name = layer_name("hidden", layer)
        z = F.conv1d(y, params[f"{name}.weight"][:, :, None], params[f"{name}.bias"])  # [B, H, N]
        z, moments = _normalise(rule, z, params, layer_name("norm", layer))
        y = _activate(rule.activation, rule, z)
        if kept is not None:
            y = y * kept[layer].to(y.dtype) / (1.0 - rule.hidden_dropout)
        if moments is not None:
            stats.append(moments)
    d = F.conv1d(y, params["update.weight"][:, :, None], params.get("update.bias"))
    return d, torch.cat(stats, 1) if stats else None


def _normalise(rule: Rule, z: Tensor, params: Params, name: str) -> tuple[Tensor, Tensor | None]:
    """The hidden layer's norm on [B, H, N], and for "batch" its mean and biased variance [2, H]."""
    weight, bias, eps = params.get(f"{name}.weight"), params.get(f"{name}.bias"), rule.norm_eps
    if rule.norm == "batch":
        out, mean, inverse = torch.native_batch_norm(z, weight, bias, None, None, True, 0.0, eps)
        return out, torch.stack((mean, inverse.pow(-2) - eps)).detach()
    if rule.norm == "running":
        # Stored statistics are constants: no gradient flows into them.
        mean, var = params[f"{name}.running_mean"].detach(), params[f"{name}.running_var"].detach()
        return F.batch_norm(z, mean, var, weight, bias, False, 0.0, eps), None
    if rule.norm == "group":
        return F.group_norm(z, rule.norm_groups, weight, bias, eps), None
    if rule.norm == "instance":
        return F.group_norm(z, z.shape[1], weight, bias, eps), None
    if rule.norm == "layer":
        cells = F.layer_norm(z.transpose(1, 2), (z.shape[1],), weight, bias, eps)
        return cells.transpose(1, 2), None
    if rule.norm == "none":
        return z, None
    raise ValueError(f"norm={rule.norm!r} has no implementation")


def _activate(name: str, rule: Rule, z: Tensor) -> Tensor:
    if name == "leaky_relu":
        return F.leaky_relu(z, rule.negative_slope)
    return _ACTIVATE[name](z)


def _alive(alive: Alive, before: Tensor, after: Tensor) -> Tensor:
    """[B, 1, *S] bool: which cells live."""
    masks = [x for x, use in ((before, alive.pre), (after, alive.post)) if use]
    living = [_living(alive, x) for x in masks]
    return living[0] if len(living) == 1 else living[0] & living[1]


def _living(alive: Alive, x: Tensor) -> Tensor:
    channel = widened(x[:, alive.channel : alive.channel + 1].detach())
    return largest_near(channel, alive.pool, alive.wrap) > alive.threshold


def largest_near(x: Tensor, size: int, wrap: bool) -> Tensor:  # [B, C, *S]
    """The largest value in a window of `size` cells per axis, which may go on at the other side of the grid."""
    pool, reach = _MAX_POOL[x.dim() - 2], size // 2
    if not wrap:
        return pool(x, size, stride=1, padding=reach)
    for axis in range(2, x.dim()):  # F.pad goes round no more than once
        places = torch.arange(-reach, x.shape[axis] + reach, device=x.device) % x.shape[axis]
        x = x.index_select(axis, places)
    return pool(x, size, stride=1)
