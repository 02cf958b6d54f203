"""Batch norm through the perception's moments: no pass over the hidden layer of cells that do not fire.

With ym = mean(y) and G = mean((y - ym)(y - ym)^T) over all cells: mean_z = W1 ym + b1, var_z = rowsum((W1 G) * W1). The
norm is then folded into W1 and b1. Sums are taken about a shift (the last step's mean) to keep their digits.
"""

import triton
import triton.language as tl

from ncafast.backends.triton_kernels.mlp import load_matrix, product
from ncafast.backends.triton_kernels.perception import perceive


@triton.jit
def sum_moments(
    x,
    first,  # [programs, P]
    second,  # [programs, P, P] chunks on and above the diagonal
    grid, tensors,
    COLUMNS: tl.constexpr, REACH: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sums of y - shift and of (y - shift)(y - shift)^T over the tiles of each program; axis 1: pairs of chunks.

    The shift is `tensors.centre`.
    """
    BLOCK: tl.constexpr = TILE.BLOCK
    KB: tl.constexpr = TILE.KB
    P: tl.constexpr = COLUMNS.P
    program, programs, pair = tl.program_id(0), tl.num_programs(0), tl.program_id(1)
    i, j = pair // TILE.CHUNKS, pair % TILE.CHUNKS
    if i <= j:
        row, column = i * KB + tl.arange(0, KB), j * KB + tl.arange(0, KB)
        once = tl.zeros([KB], tl.float32)
        twice = tl.zeros([KB, KB], tl.float32)
        for tile in range(program, (grid.cells + BLOCK - 1) // BLOCK, programs):
            cell = tile * BLOCK + tl.arange(0, BLOCK)
            live = cell < grid.cells
            left = perceive(x, cell, live, i * KB, grid, tensors, COLUMNS, REACH, TILE, PRECISION)
            right = left
            if i != j:
                right = perceive(x, cell, live, j * KB, grid, tensors, COLUMNS, REACH, TILE, PRECISION)
            once += tl.sum(left, 0)
            twice = product(tl.trans(left), right, twice, PRECISION)
        if i == j:
            tl.store(first + program * P + row, once, mask=row < P)
        there = (row < P)[:, None] & (column < P)[None, :]
        tl.store(second + program * P * P + row[:, None] * P + column[None, :], twice, mask=there)


@triton.jit
def finish_moments(
    first,  # [programs, P]
    second,  # [programs, P, P]
    programs, shift, cells,
    mean,  # [P]
    moment,  # [P, P]
    new_shift,  # [P]
    P: tl.constexpr, PP: tl.constexpr, KB: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Mean and central second moment of one row of the perception from all programs' sums; moves the shift."""
    i = tl.program_id(0)
    j = tl.arange(0, PP)
    number = cells * 1.0
    place = tl.where(i // KB <= j // KB, i * P + j, j * P + i)  # of a pair of chunks one half was summed
    once = tl.zeros([PP], tl.float32)
    twice = tl.zeros([PP], tl.float32)
    for start in range(0, programs, ROWS):
        program = start + tl.arange(0, ROWS)
        there = (program < programs)[:, None] & (j < P)[None, :]
        once += tl.sum(tl.load(first + program[:, None] * P + j[None, :], mask=there, other=0.0), 0)
        twice += tl.sum(tl.load(second + program[:, None] * P * P + place[None, :], mask=there, other=0.0), 0)
    own = once / number
    one = tl.sum(tl.where(j == i, own, 0.0), 0)
    tl.store(moment + i * P + j, twice / number - own * one, mask=j < P)
    middle = tl.load(shift + i) + one
    tl.store(mean + i, middle)
    tl.store(new_shift + i, middle)


@triton.jit
def weights_times_moment(
    moment, weight, row, h, P: tl.constexpr, HP: tl.constexpr, KB: tl.constexpr, CHUNKS: tl.constexpr
):  # fmt: skip
    """Rows of G W1 [KB, 16], and the same rows of W1; h are 16 hidden units, weight is [P, HP]."""
    total = tl.zeros([KB, 16], tl.float32)
    for chunk in range(CHUNKS):
        column = chunk * KB + tl.arange(0, KB)
        total = tl.dot(
            load_matrix(moment, row, column, P, P, P),
            load_matrix(weight, column, h, P, HP, HP),
            total,
            input_precision="ieee",
        )
    return total, load_matrix(weight, row, h, P, HP, HP)


@triton.jit
def fold_norm(
    mean, moment,
    weight,  # [P, HP]
    bias,  # [HP]
    gamma, beta,  # [HP]
    eps, hidden,
    folded_weight, folded_bias,
    stats,  # [2, hidden] mean and variance
    P: tl.constexpr, HP: tl.constexpr, KB: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """Fold the norm of 16 hidden units into their weights and biases."""
    h = tl.program_id(0) * 16 + tl.arange(0, 16)
    along = tl.zeros([16], tl.float32)
    var = tl.zeros([16], tl.float32)
    for chunk in range(CHUNKS):
        row = chunk * KB + tl.arange(0, KB)
        product_rows, w = weights_times_moment(moment, weight, row, h, P, HP, KB, CHUNKS)
        along += tl.sum(w * tl.load(mean + row, mask=row < P, other=0.0)[:, None], 0)
        var += tl.sum(w * product_rows, 0)
    var = tl.maximum(var, 0.0)
    b = tl.load(bias + h)
    tl.store(stats + h, along + b, mask=h < hidden)
    tl.store(stats + hidden + h, var, mask=h < hidden)
    factor = tl.load(gamma + h) / tl.sqrt(tl.where(h < hidden, var + eps, 1.0))  # eps may be 0
    for chunk in range(CHUNKS):
        row = chunk * KB + tl.arange(0, KB)
        place = row[:, None] * HP + h[None, :]
        w = tl.load(weight + place, mask=(row < P)[:, None], other=0.0)
        tl.store(folded_weight + place, w * factor[None, :], mask=(row < P)[:, None])
    # z - mean_z = W1 (y - ym): the bias cancels, and the mean is taken off the perception itself.
    tl.store(folded_bias + h, tl.load(beta + h))
