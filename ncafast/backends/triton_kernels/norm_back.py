"""Batch norm backward between the two passes: gradients of the first layer, and the map that every cell's dL/dy takes.

With da = dL/d(norm output) on the cells that fired, s = 1 / sqrt(var + eps), N cells, E = sum (y - ym) da^T [P, H]:
    dbeta = sum da,  dgamma = s colsum(W1 o E),  m1 = dbeta gamma / N,  m2 = dgamma gamma / N
    dW1 = gamma s E - N s^2 m2 (G W1)
    dy += A (y - ym) + c,  A = -W1 diag(s^2 m2) W1^T,  c = -W1 (s m1)
"""

import triton
import triton.language as tl

from ncafast.backends.triton_kernels.mlp import load_matrix
from ncafast.backends.triton_kernels.moments import weights_times_moment


@triton.jit
def norm_gradients(
    sum_first,  # [P, HP] E, the sums of all programs
    sum_bias,  # [HP]
    moment, weight, gamma, stats, eps, hidden, cells,
    d_weight,  # [P, HP] added to
    d_gamma, d_beta,  # [HP] added to
    by_two, by_one,  # [HP] s^2 m2, s m1
    P: tl.constexpr, HP: tl.constexpr, KB: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """This step's share of the gradients of 16 hidden units."""
    h = tl.program_id(0) * 16 + tl.arange(0, 16)
    number = cells * 1.0
    along = tl.zeros([16], tl.float32)
    for chunk in range(CHUNKS):
        row = chunk * KB + tl.arange(0, KB)
        along += tl.sum(load_matrix(weight, row, h, P, HP, HP) * load_matrix(sum_first, row, h, P, HP, HP), 0)
    dbeta = tl.load(sum_bias + h)
    s = 1.0 / tl.sqrt(tl.load(stats + hidden + h, mask=h < hidden, other=1.0) + eps)
    g = tl.load(gamma + h)
    dgamma = s * along
    m1, m2 = dbeta * g / number, dgamma * g / number
    for chunk in range(CHUNKS):
        row = chunk * KB + tl.arange(0, KB)
        spread, _ = weights_times_moment(moment, weight, row, h, P, HP, KB, CHUNKS)
        share = (g * s)[None, :] * load_matrix(sum_first, row, h, P, HP, HP) - (number * s * s * m2)[None, :] * spread
        place = d_weight + row[:, None] * HP + h[None, :]
        tl.store(place, tl.load(place, mask=(row < P)[:, None], other=0.0) + share, mask=(row < P)[:, None])
    tl.store(d_gamma + h, tl.load(d_gamma + h) + dgamma)
    tl.store(d_beta + h, tl.load(d_beta + h) + dbeta)
    tl.store(by_two + h, s * s * m2)
    tl.store(by_one + h, s * m1)


@triton.jit
def norm_map(
    weight, by_two, by_one,
    matrix,  # [P, P] A
    offset,  # [P] c
    P: tl.constexpr, HP: tl.constexpr,
):  # fmt: skip
    """A block of 16 x 16 of A, and in the first column of blocks the offset too."""
    i, j = tl.program_id(0), tl.program_id(1)
    row, column = i * 16 + tl.arange(0, 16), j * 16 + tl.arange(0, 16)
    block = tl.zeros([16, 16], tl.float32)
    shift = tl.zeros([16], tl.float32)
    for first in range(0, HP, 16):
        h = first + tl.arange(0, 16)
        left = load_matrix(weight, row, h, P, HP, HP)
        right = load_matrix(weight, column, h, P, HP, HP) * tl.load(by_two + h)[None, :]
        block = tl.dot(left, tl.trans(right), block, input_precision="ieee")
        shift += tl.sum(left * tl.load(by_one + h)[None, :], 1)
    there = (row < P)[:, None] & (column < P)[None, :]
    tl.store(matrix + row[:, None] * P + column[None, :], -block, mask=there)
    tl.store(offset + row, -shift, mask=(row < P) & (j == 0))
