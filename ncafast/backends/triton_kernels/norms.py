"""Norms between a hidden layer and its activation that no weights can stand for, on a tile of cells.

Layer norm takes every cell by itself. Group norm (instance norm has one unit per group) takes mean and variance over
the cells of a sample, which `groups` finds beforehand. Batch and running norms are folded into their layer instead.

With zh = (z - mean) s, s = 1 / sqrt(var + eps), the norm's output zh gamma + beta, and averages <> over what a mean is
taken over: dL/dz = s (gamma d - <gamma d> - zh <gamma d zh>) for d = dL/d(output).
"""

import triton
import triton.language as tl


@triton.jit
def standardised(z, cell, live, layer, grid, norm, MLP: tl.constexpr):
    """zh and s of hidden layer `layer`, [BLOCK, HP] both; 0 in rows that are not live and in columns past the layer."""
    h = tl.arange(0, MLP.HP)
    share = tl.load(norm.share + layer * MLP.HP + h)[None, :]
    inside = live[:, None] & (share > 0.0)
    if MLP.NORM == "layer":
        away = tl.where(inside, z - tl.sum(z * share, 1)[:, None], 0.0)
        var = tl.sum(away * away * share, 1)
        s = tl.where(inside, (1.0 / tl.sqrt(tl.where(live, var + norm.eps, 1.0)))[:, None], 0.0)
    else:
        tl.static_assert(MLP.NORM == "group", "no kernel has this norm")
        place = (cell // (grid.depth * grid.height * grid.width))[:, None] * MLP.HP + h[None, :]
        away = tl.where(inside, z - tl.load(norm.mean + place, mask=inside, other=0.0), 0.0)
        s = tl.load(norm.inverse + place, mask=inside, other=0.0)
    return away * s, s


@triton.jit
def normed(z, cell, live, layer, grid, norm, MLP: tl.constexpr):
    """What the activation of a hidden layer gets."""
    if MLP.NORM != "none":
        zh, _ = standardised(z, cell, live, layer, grid, norm, MLP)
        place = layer * MLP.HP + tl.arange(0, MLP.HP)
        z = zh * tl.load(norm.gamma + place)[None, :] + tl.load(norm.beta + place)[None, :]
    return z


@triton.jit
def back_through_norm(d, z, cell, live, layer, grid, norm, MLP: tl.constexpr):
    """dL/dz from dL/d(norm's output) and the layer before its norm; and what the rows add to gamma's gradient [HP]."""
    dz, d_gamma = d, tl.sum(d, 0)
    if MLP.NORM != "none":
        h = tl.arange(0, MLP.HP)
        zh, s = standardised(z, cell, live, layer, grid, norm, MLP)
        d_gamma = tl.sum(d * zh, 0)
        d = d * tl.load(norm.gamma + layer * MLP.HP + h)[None, :]
        if MLP.NORM == "layer":
            share = tl.load(norm.share + layer * MLP.HP + h)[None, :]
            dz = s * (d - tl.sum(d * share, 1)[:, None] - zh * tl.sum(d * zh * share, 1)[:, None])
        else:
            place = (cell // (grid.depth * grid.height * grid.width))[:, None] * MLP.HP + h[None, :]
            there = live[:, None] & (h < MLP.HP)[None, :]
            mean = tl.load(norm.mean_d + place, mask=there, other=0.0)
            dz = s * (d - mean - zh * tl.load(norm.mean_dz + place, mask=there, other=0.0))
    return dz, d_gamma
