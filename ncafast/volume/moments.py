"""What a step needs of the whole grid: pooled channels, and the mean and covariance of the perception.

A hidden unit z = w y + b is linear in the perception y. So its mean and variance over all cells follow from the mean of
y and its covariance G: w mean(y) + b and w G w^T. These are summed over parts of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ncafast.perception import perception
from ncafast.rule import Rule
from ncafast.volume.boxes import Place
from ncafast.volume.native_sums import native_sums


class Sums(NamedTuple):
    """Sums over some cells, in float64; those of several parts are added. A set is a sample, or all under batch norm.

    Attributes:
        first: of y - shift, [sets, P].
        second: of (y - shift) (y - shift)^T, [sets, P, P].
    """

    first: Tensor
    second: Tensor


class Moments(NamedTuple):
    """Mean [sets, P] and covariance [sets, P, P] of the perception over all cells of a set, in float64."""

    mean: Tensor
    covariance: Tensor


def sums(
    x: Tensor,  # [B, C, *S] a part with the cells around it that the filters read
    core: Place,  # those of its cells that count
    rule: Rule,
    params: Mapping[str, Tensor],
    extra: Tensor | None,
    shift: Tensor,  # [sets, P] `rounded`, near the mean, so that no digits are lost
) -> Sums:
    """The sums of a part's perception, differentiable in x, the filters and extra."""
    needed = {name: params[name] for name in rule.param_shapes()}
    if native := native_sums(x, core, rule, needed, extra, shift):
        return Sums(*native)
    seen = perception(x, rule, needed, extra=extra)[core].flatten(2)  # [B, P, N]
    seen = seen - shift.to(seen.dtype)[..., None]
    if rule.norm == "batch":
        seen = seen.transpose(0, 1).flatten(1)[None]  # [1, P, B N]
    chunks = seen.split(_CHUNK, 2)  # float32 sums of a few cells, float64 sums of those
    first = torch.stack([chunk.sum(2) for chunk in chunks]).sum(0, dtype=torch.float64)
    second = torch.stack([chunk @ chunk.transpose(1, 2) for chunk in chunks]).sum(0, dtype=torch.float64)
    return Sums(first, second)


_CHUNK = 4096  # cells; with 2^12 terms float32 sums are as exact as their terms to 1e-6 at worst


def start_shift(x: Tensor, rule: Rule, params: Mapping[str, Tensor], extra: Tensor | None) -> Tensor:
    """A shift for the first `sums` of a rollout: the mean over some cells of a part, [sets, P] float64."""
    with torch.no_grad():
        some = slice(0, _ROWS)  # along the first axis
        extra = extra if extra is None or extra.shape[2] == 1 else extra[:, :, some]
        mean = perception(x[:, :, some], rule, params, extra=extra).flatten(2).mean(2)
        return rounded(mean.mean(0, keepdim=True) if rule.norm == "batch" else mean)


def rounded(shift: Tensor) -> Tensor:
    """A shift as float64 numbers that float32 holds too, so that states of both are moved by the same."""
    return shift.detach().float().double()


_ROWS = 16  # more than filters reach


def moments(total: Sums, shift: Tensor, cells: int) -> Moments:
    """From the sums over all `cells` cells of a set. Differentiable."""
    mean = total.first / cells
    return Moments(shift + mean, total.second / cells - mean[..., None] * mean[:, None])


def folded(rule: Rule, params: Mapping[str, Tensor], found: Moments) -> tuple[Rule, dict[str, Tensor], Tensor | None]:
    """The rule and parameters of a step whose norm is no more than a scale and a shift of the hidden layer.

    Differentiable in the moments and all parameters.

    Returns:
        The rule with norm "none"; its parameters, of which the hidden layer's have an axis B in front under norms per
        sample; and batch statistics [2, H] as `backends.plan.Outputs` has them, None under other norms.
    """
    weight, bias = params["hidden.weight"].double(), params["hidden.bias"].double()
    mean = found.mean @ weight.T  # [sets, H], of the unit without its bias
    var = ((weight @ found.covariance) * weight).sum(2).clamp(min=0.0)
    middle, spread = mean + bias, var
    if rule.norm == "group":
        units = mean.shape[1] // rule.norm_groups
        groups = middle.unflatten(1, (rule.norm_groups, units))
        centre = groups.mean(2, keepdim=True)
        spread = (var.unflatten(1, (rule.norm_groups, units)) + (groups - centre).square()).mean(2, keepdim=True)
        middle, spread = centre.expand_as(groups).flatten(1), spread.expand_as(groups).flatten(1)
    scale = torch.rsqrt(spread + rule.norm_eps)
    offset = torch.zeros_like(scale)
    if rule.norm_affine:
        scale, offset = scale * params["norm.weight"].double(), params["norm.bias"].double()
    plain = rule.replace(norm="none")
    own = {name: p for name, p in params.items() if name in plain.param_shapes()}
    dtype = params["hidden.weight"].dtype
    own["hidden.weight"] = (scale[..., None] * weight).to(dtype)
    own["hidden.bias"] = (scale * (bias - middle) + offset).to(dtype)
    if rule.norm != "batch":
        return plain, own, None
    own["hidden.weight"], own["hidden.bias"] = own["hidden.weight"][0], own["hidden.bias"][0]
    return plain, own, torch.cat((middle, spread)).to(dtype)


def pooled_part(x: Tensor, rule: Rule) -> Tensor:
    """[B, Q] sums, or largest values, of the pooled channels over a part's own cells x [B, C, *S]. Differentiable."""
    lo, hi = rule.pooled_range
    own = x[:, lo:hi].flatten(2)
    return own.amax(2) if rule.pooled == "max" else own.double().sum(2)


def joined(rule: Rule, a: Tensor, b: Tensor) -> Tensor:
    """Of two `pooled_part`s."""
    return torch.maximum(a, b) if rule.pooled == "max" else a + b


def holders(x: Tensor, rule: Rule, largest: Tensor) -> Tensor:
    """Of the cells whose pooled channels have the largest value [B, Q]: their sum and number, [2, B, Q] in float64.

    Differentiable; those of several parts are added.
    """
    lo, hi = rule.pooled_range
    own = x[:, lo:hi].flatten(2).double()
    held = own == largest[..., None]
    return torch.stack((own.where(held, 0.0).sum(2), held.sum(2)))


def shared_by(largest: Tensor, held: Tensor) -> Tensor:
    """The largest values, with a gradient that all cells which hold one share, as of torch.amax on the whole grid."""
    mean = held[0] / held[1]
    return largest + (mean - mean.detach()).to(largest.dtype)


def with_pooled(
    rule: Rule,
    extra: Tensor | None,  # [B or 1, E, *(S or 1)]
    pooled: Tensor | None,  # [B, Q]; None where the rule has none
) -> tuple[Rule, Tensor | None]:
    """The rule without pooled channels, and extra channels of which they are the last."""
    if pooled is None:
        return rule, extra
    pooled = pooled.reshape(*pooled.shape, *[1] * rule.ndim)
    if extra is not None:
        batch, size = max(pooled.shape[0], extra.shape[0]), extra.shape[2:]
        pooled = torch.cat((extra.expand(batch, -1, *size), pooled.expand(batch, -1, *size)), 1)
    return rule.replace(pooled="none", pooled_channels=None, extra=pooled.shape[1]), pooled


def cells_of_set(rule: Rule, batch: int, whole: Sequence[int]) -> int:
    """How many cells share a mean and variance."""
    return math.prod(whole) * (batch if rule.norm == "batch" else 1)
