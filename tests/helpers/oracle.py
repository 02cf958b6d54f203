"""A second, naive statement of the step, with explicit neighbours, for tests. Shares no code with the package."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from ncafast import Rule


def neighbour(i: int, n: int, padding: str) -> int | None:
    """Index of cell i of a line of n cells, which may lie past its ends; None for a zero."""
    if 0 <= i < n:
        return i
    if padding == "zeros":
        return None
    if padding == "replicate":
        return min(max(i, 0), n - 1)
    if padding == "circular":
        return i % n
    return -i if i < 0 else 2 * (n - 1) - i


def shifted(x: Tensor, offset: tuple[int, ...], padding: str) -> Tensor:
    """The state [B, C, *S] as seen from `offset` cells away."""
    for axis, by in enumerate(offset):
        n = x.shape[2 + axis]
        places = [neighbour(i + by, n, padding) for i in range(n)]
        lines = [x.select(2 + axis, 0) * 0 if p is None else x.select(2 + axis, p) for p in places]
        x = torch.stack(lines, 2 + axis)
    return x


def perceive(rule: Rule, x: Tensor, p: dict[str, Tensor], extra: Tensor | None) -> Tensor:
    """[B, P, *S]."""
    parts = [x] if rule.identity else []
    if rule.has_filters:
        w = p["perceive.weight"]
        sums: list[Tensor] = [0.0] * w.shape[0]
        for place in itertools.product(*(range(k) for k in rule.kernel_size)):
            seen = shifted(x, tuple(i - k // 2 for i, k in zip(place, rule.kernel_size, strict=True)), rule.padding)
            for f in range(w.shape[0]):
                tap = w[(f, slice(None), *place)]
                if rule.perception == "dense":
                    sums[f] = sums[f] + torch.einsum("c,bc...->b...", tap, seen)[:, None]
                else:
                    sums[f] = sums[f] + torch.einsum("c,bc...->bc...", tap, seen)
        if rule.filter_bias:
            b = p["perceive.bias"]
            sums = [s + b[f].reshape(1, -1, *[1] * rule.ndim) for f, s in enumerate(sums)]
        if rule.perception == "dense":
            sums = [activate(rule, s, rule.dense_activation) for s in sums]
        parts += sums
    if extra is not None:
        parts.append(extra + torch.zeros(x.shape[0], 1, *x.shape[2:], dtype=x.dtype))
    for c in range(*rule.pooled_range):
        cells = x[:, c].flatten(1)
        best = cells.sum(1) / cells.shape[1] if rule.pooled == "mean" else cells.sort(1).values[:, -1]
        parts.append(best.view(-1, *[1] * (rule.ndim + 1)) * torch.ones_like(x[:, :1]))
    return torch.cat(parts, 1)


def activate(rule: Rule, z: Tensor, name: str) -> Tensor:
    """The formulas, written out."""
    if name == "relu":
        return z * (z > 0)
    if name == "leaky_relu":
        return torch.where(z > 0, z, rule.negative_slope * z)
    if name == "elu":
        return torch.where(z > 0, z, torch.exp(torch.clamp(z, max=0)) - 1)
    if name == "gelu":
        return z * 0.5 * (1 + torch.erf(z / math.sqrt(2)))
    if name == "silu":
        return z / (1 + torch.exp(-z))
    if name == "tanh":
        return 1 - 2 / (torch.exp(2 * z) + 1)
    return z


def normalise(rule: Rule, z: Tensor, p: dict[str, Tensor], name: str) -> Tensor:
    """z [B, H, *S]: (z - mean) / sqrt(var + eps), over the axes that the norm's name means."""
    if rule.norm == "none":
        return z
    space = list(range(2, z.dim()))
    column = (1, -1, *[1] * len(space))
    if rule.norm == "running":
        mean, var = (
            p[f"{name}.running_mean"].reshape(column),
            p[f"{name}.running_var"].reshape(column),
        )
    elif rule.norm == "group":
        groups = z.unflatten(1, (rule.norm_groups, -1))
        axes = list(range(2, groups.dim()))
        mean = groups.mean(axes, keepdim=True).expand_as(groups).reshape(z.shape)
        var = groups.var(axes, unbiased=False, keepdim=True).expand_as(groups).reshape(z.shape)
    else:
        axes = {"batch": [0, *space], "instance": space, "layer": [1]}[rule.norm]
        mean, var = z.mean(axes, keepdim=True), z.var(axes, unbiased=False, keepdim=True)
    z = (z - mean) / torch.sqrt(var + rule.norm_eps)
    if rule.norm_affine:
        z = z * p[f"{name}.weight"].reshape(column) + p[f"{name}.bias"].reshape(column)
    return z


def living(rule: Rule, x: Tensor) -> Tensor:
    """[B, 1, *S] bool."""
    a = rule.alive
    channel = x[:, a.channel : a.channel + 1]
    reach = range(-(a.pool // 2), a.pool // 2 + 1)
    best, edge = torch.full_like(channel, -math.inf), "circular" if a.wrap else "zeros"
    for offset in itertools.product(reach, repeat=rule.ndim):
        inside = shifted(torch.ones_like(channel), offset, edge) > 0
        best = torch.where(inside, torch.maximum(best, shifted(channel, offset, edge)), best)
    return best > a.threshold


def one_step(
    rule: Rule,
    x: Tensor,
    p: dict[str, Tensor],
    fired: Tensor | None = None,
    extra: Tensor | None = None,
    noise: Tensor | None = None,
    kept: list[Tensor] | None = None,
) -> Tensor:
    """x_(t+1) from x_t, straight from the definition."""
    y = perceive(rule, x, p, extra)
    for layer in range(len(rule.hidden)):
        suffix = "" if layer == 0 else str(layer + 1)
        bias = p[f"hidden{suffix}.bias"].reshape(1, -1, *[1] * rule.ndim)
        z = torch.einsum("hp,bp...->bh...", p[f"hidden{suffix}.weight"], y) + bias
        y = activate(rule, normalise(rule, z, p, f"norm{suffix}"), rule.activation)
        if rule.hidden_dropout:
            y = torch.where(kept[layer].view(y.shape), y / (1 - rule.hidden_dropout), 0.0)
    d = torch.einsum("mh,bh...->bm...", p["update.weight"], y)
    if rule.update_bias:
        d = d + p["update.bias"].reshape(1, -1, *[1] * rule.ndim)
    d = activate(rule, d, rule.update_activation)
    if rule.noise == "update":
        d = d + rule.noise_std * noise
    m = 1 if fired is None else fired.to(x.dtype)
    if rule.fire_rescale:
        m = m / rule.fire_rate
    d = rule.step_size * m * d
    gated = rule.alive is not None and rule.alive.gates == "update"
    if gated:
        d = d * living(rule, x)
    if rule.noise == "state":
        d = d + rule.noise_std * noise
    lo, hi = rule.mutable or (0, rule.channels)
    new = torch.cat((x[:, :lo], x[:, lo:hi] + d, x[:, hi:]), 1)
    if rule.alive is not None and not gated:
        keep = torch.ones_like(x[:, :1], dtype=torch.bool)
        if rule.alive.pre:
            keep = keep & living(rule, x)
        if rule.alive.post:
            keep = keep & living(rule, new)
        new = new * keep
    if rule.clamp is not None:
        lo, hi = rule.clamp
        new = new if lo is None else torch.where(new < lo, torch.full_like(new, lo), new)
        new = new if hi is None else torch.where(new > hi, torch.full_like(new, hi), new)
    if rule.restore is not None:
        lo, hi = rule.restore
        new = torch.cat((new[:, :lo], x[:, lo:hi], new[:, hi:]), 1)
    return new


def rollout(
    rule: Rule,
    x: Tensor,
    p: dict[str, Tensor],
    masks: Tensor | None,
    steps: int,
    extra: Tensor | None = None,
    noises: list[Tensor] | None = None,
    kepts: list[list[Tensor]] | None = None,
) -> list[Tensor]:
    """[x_1, ..., x_T] as one autograd graph."""
    states = []
    for t in range(steps):
        own = extra[t] if extra is not None and extra.dim() == x.dim() + 1 else extra
        fired = None if masks is None else masks[t]
        noise, kept = (None if drawn is None else drawn[t] for drawn in (noises, kepts))
        x = one_step(rule, x, p, fired, own, noise, kept)
        states.append(x)
    return states
