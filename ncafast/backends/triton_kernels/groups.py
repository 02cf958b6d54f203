"""Group norm over the cells of a sample: its statistics forward, and the two averages that flow back through them.

Every program takes tiles of one sample. Shares of programs are merged in a fixed order, so that two runs give the same
bits. Means come before squares, tile by tile and program by program, so that nothing large cancels.
"""

import triton
import triton.language as tl

from ncafast.backends.triton_kernels.hidden import hidden_layers
from ncafast.backends.triton_kernels.mlp import load_matrix, product, slope_at
from ncafast.backends.triton_kernels.norms import normed, standardised


@triton.jit
def sum_groups(
    x,
    counts,  # [programs, B] cells that a program took
    means,  # [programs, B, HP]
    squares,  # [programs, B, HP] sums of squared distances from them
    grid, tensors, weights,
    COLUMNS: tl.constexpr, REACH: tl.constexpr, MLP: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Mean and squares of the first hidden layer over a program's cells of a sample; axis 1: samples."""
    program, programs, sample = tl.program_id(0), tl.num_programs(0), tl.program_id(1)
    number = grid.depth * grid.height * grid.width
    count = 0.0
    mean = tl.full([MLP.HP], 0.0, tl.float32)
    square = tl.full([MLP.HP], 0.0, tl.float32)
    for tile in range(program, (number + TILE.BLOCK - 1) // TILE.BLOCK, programs):
        local = tile * TILE.BLOCK + tl.arange(0, TILE.BLOCK)
        live = local < number
        z, _ = hidden_layers(
            x, sample * number + local, live, grid, tensors, weights, 0, COLUMNS, REACH, MLP, TILE, PRECISION
        )  # fmt: skip
        more = tl.minimum(number - tile * TILE.BLOCK, TILE.BLOCK) * 1.0
        middle = tl.sum(tl.where(live[:, None], z, 0.0), 0) / more
        away = tl.where(live[:, None], z - middle[None, :], 0.0)
        step = (middle - mean) * (more / (count + more))
        square += tl.sum(away * away, 0) + (middle - mean) * step * count
        mean += step
        count += more
    place = program * tl.num_programs(1) + sample
    h = tl.arange(0, MLP.HP)
    tl.store(counts + place, count)
    tl.store(means + place * MLP.HP + h, mean)
    tl.store(squares + place * MLP.HP + h, square)


@triton.jit
def finish_groups(
    counts, means, squares,
    mean, inverse,  # [B, HP] written on the units of the group
    programs, number, eps, WIDTH: tl.constexpr, WP: tl.constexpr, HP: tl.constexpr,
):  # fmt: skip
    """Mean and 1 / sqrt(var + eps) of a group of WIDTH units from the programs' shares; axis 0: samples, 1: groups."""
    sample, samples, group = tl.program_id(0), tl.num_programs(0), tl.program_id(1)
    unit = group * WIDTH + tl.arange(0, WP)
    inside = tl.arange(0, WP) < WIDTH
    middle = tl.full([WP], 0.0, tl.float32)
    square = tl.full([WP], 0.0, tl.float32)
    for first in range(0, programs, 16):
        program = first + tl.arange(0, 16)
        place = program * samples + sample
        count = tl.load(counts + place, mask=program < programs, other=0.0)
        there = (program < programs)[:, None] & inside[None, :]
        middle += tl.sum(
            count[:, None] * tl.load(means + place[:, None] * HP + unit[None, :], mask=there, other=0.0), 0
        )
    middle = middle / number
    for first in range(0, programs, 16):
        program = first + tl.arange(0, 16)
        place = program * samples + sample
        count = tl.load(counts + place, mask=program < programs, other=0.0)
        there = (program < programs)[:, None] & inside[None, :]
        away = tl.load(means + place[:, None] * HP + unit[None, :], mask=there, other=0.0) - middle[None, :]
        own = tl.load(squares + place[:, None] * HP + unit[None, :], mask=there, other=0.0)
        square += tl.sum(own + count[:, None] * away * away, 0)
    centre = tl.sum(middle, 0) / WIDTH
    away = tl.where(inside, middle - centre, 0.0)
    var = (tl.sum(square, 0) / number + tl.sum(away * away, 0)) / WIDTH
    nothing = tl.full([WP], 0.0, tl.float32)
    tl.store(mean + sample * HP + unit, nothing + centre, mask=inside)
    tl.store(inverse + sample * HP + unit, nothing + 1.0 / tl.sqrt(var + eps), mask=inside)


@triton.jit
def mark_fired(
    lists, fired,
    counted,  # [cells] uint8 written
    cells, BLOCK: tl.constexpr,
):  # fmt: skip
    """Which cells the first `fired` of a list are."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    cell = tl.load(lists + place, mask=place < cells, other=0)
    tl.store(counted + cell, (place < tl.load(fired)).to(tl.uint8), mask=place < cells)


@triton.jit
def sum_group_gradients(
    x, g,  # [cells, C] the state, dL/dx of the next one
    counted,  # [cells] uint8: which cells fire and live
    shares,  # [programs, B, 2, HP] sums of dL/d(norm's output) and of that times zh
    grid, tensors, weights,
    touched,  # [C] 1.0 on the channels whose update counts
    COLUMNS: tl.constexpr, REACH: tl.constexpr, MLP: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """What a program's cells of a sample add to the gradients of the norm; axis 1: samples."""
    ACT: tl.constexpr = MLP.ACT
    program, programs, sample = tl.program_id(0), tl.num_programs(0), tl.program_id(1)
    number = grid.depth * grid.height * grid.width
    c, h = tl.arange(0, COLUMNS.CP), tl.arange(0, MLP.HP)
    once = tl.full([MLP.HP], 0.0, tl.float32)
    twice = tl.full([MLP.HP], 0.0, tl.float32)
    for tile in range(program, (number + TILE.BLOCK - 1) // TILE.BLOCK, programs):
        local = tile * TILE.BLOCK + tl.arange(0, TILE.BLOCK)
        cell = sample * number + local
        live = local < number
        live = live & (tl.load(counted + cell, mask=live, other=0) != 0)
        z, _ = hidden_layers(x, cell, live, grid, tensors, weights, 0, COLUMNS, REACH, MLP, TILE, PRECISION)
        reached = live[:, None] & (tl.load(touched + c, mask=c < COLUMNS.C, other=0.0) != 0.0)[None, :]
        place = cell.to(tl.int64)[:, None] * COLUMNS.C + c[None, :]
        du = weights.scale * tl.load(g + place, mask=reached, other=0.0).to(tl.float32)
        back = tl.trans(load_matrix(weights.update, h, c, MLP.HP, COLUMNS.C, COLUMNS.C))  # [CP, HP]
        d = product(du, back, tl.full([TILE.BLOCK, MLP.HP], 0.0, tl.float32), PRECISION)
        d = d * slope_at(normed(z, cell, live, 0, grid, weights.norm, MLP), ACT)
        zh, _ = standardised(z, cell, live, 0, grid, weights.norm, MLP)
        once += tl.sum(d, 0)
        twice += tl.sum(d * zh, 0)
    place = (program * tl.num_programs(1) + sample) * 2 * MLP.HP + h
    tl.store(shares + place, once)
    tl.store(shares + place + MLP.HP, twice)


@triton.jit
def finish_group_gradients(
    shares, gamma,
    d_gamma, d_beta,  # [B, HP] added to
    mean_d, mean_dz,  # [B, HP] written on the units of the group
    programs, number, WIDTH: tl.constexpr, WP: tl.constexpr, HP: tl.constexpr,
):  # fmt: skip
    """The norm's gradients of a sample and group, and the averages <gamma d> and <gamma d zh>."""
    sample, samples, group = tl.program_id(0), tl.num_programs(0), tl.program_id(1)
    unit = group * WIDTH + tl.arange(0, WP)
    inside = tl.arange(0, WP) < WIDTH
    once = tl.full([WP], 0.0, tl.float32)
    twice = tl.full([WP], 0.0, tl.float32)
    for first in range(0, programs, 16):
        program = first + tl.arange(0, 16)
        there = (program < programs)[:, None] & inside[None, :]
        place = shares + (program * samples + sample)[:, None] * 2 * HP + unit[None, :]
        once += tl.sum(tl.load(place, mask=there, other=0.0), 0)
        twice += tl.sum(tl.load(place + HP, mask=there, other=0.0), 0)
    own = sample * HP + unit
    tl.store(d_beta + own, tl.load(d_beta + own, mask=inside, other=0.0) + once, mask=inside)
    tl.store(d_gamma + own, tl.load(d_gamma + own, mask=inside, other=0.0) + twice, mask=inside)
    factor = tl.load(gamma + unit, mask=inside, other=0.0)
    nothing = tl.full([WP], 0.0, tl.float32)
    cells = number * WIDTH * 1.0
    tl.store(mean_d + own, nothing + tl.sum(once * factor, 0) / cells, mask=inside)
    tl.store(mean_dz + own, nothing + tl.sum(twice * factor, 0) / cells, mask=inside)
