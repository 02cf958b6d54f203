"""The hidden layers on a tile of cells, from the state: perception in chunks, then layer after layer."""

import triton
import triton.language as tl

from ncafast.backends.triton_kernels.mlp import activate, load_matrix, product
from ncafast.backends.triton_kernels.norms import normed
from ncafast.backends.triton_kernels.perception import perceive


@triton.jit
def upper_layer(z, cell, live, layer, grid, weights, MLP: tl.constexpr, PRECISION: tl.constexpr):
    """The next hidden layer before its norm and activation."""
    ACT: tl.constexpr = MLP.ACT
    h = tl.arange(0, MLP.HP)
    weight = tl.load(weights.upper + (layer - 1) * MLP.HP * MLP.HP + h[:, None] * MLP.HP + h[None, :])
    bias = tl.load(weights.biases + layer * MLP.HP + h)
    below = activate(normed(z, cell, live, layer - 1, grid, weights.norm, MLP), ACT)
    return product(below, weight, z * 0.0 + bias[None, :], PRECISION)


@triton.jit
def hidden_layers(
    x, cell, live, grid, tensors, weights, UP_TO: tl.constexpr,
    COLUMNS: tl.constexpr, REACH: tl.constexpr, MLP: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Hidden layer UP_TO before norm and activation [BLOCK, HP], and the last chunk of the perception [BLOCK, KB]."""
    h = tl.arange(0, MLP.HP)
    z = tl.full([TILE.BLOCK, MLP.HP], 0.0, tl.float32) + tl.load(weights.biases + h)[None, :]
    y = tl.full([TILE.BLOCK, TILE.KB], 0.0, tl.float32)
    for chunk in range(TILE.CHUNKS):
        y = perceive(x, cell, live, chunk * TILE.KB, grid, tensors, COLUMNS, REACH, TILE, PRECISION)
        row = chunk * TILE.KB + tl.arange(0, TILE.KB)
        z = product(y, load_matrix(weights.first, row, h, COLUMNS.P, MLP.HP, MLP.HP), z, PRECISION)
    for layer in tl.static_range(1, UP_TO + 1):
        z = upper_layer(z, cell, live, layer, grid, weights, MLP, PRECISION)
    return z, y
