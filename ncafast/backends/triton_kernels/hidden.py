"""The hidden layers on a tile of cells, from the state: perception in chunks, then layer after layer."""

import triton
import triton.language as tl

from ncafast.backends.triton_kernels.mlp import activate, load_matrix, product
from ncafast.backends.triton_kernels.perception import see


@triton.jit
def upper_layer(
    z, layer, weights, biases, ACT: tl.constexpr, SLOPE: tl.constexpr, HP: tl.constexpr, PRECISION: tl.constexpr
):  # fmt: skip
    """The next hidden layer before its activation; weights [LAYERS - 1, HP, HP], biases [LAYERS, HP]."""
    h = tl.arange(0, HP)
    weight = tl.load(weights + (layer - 1) * HP * HP + h[:, None] * HP + h[None, :])
    bias = tl.load(biases + layer * HP + h)
    return product(activate(z, ACT, SLOPE), weight, z * 0.0 + bias[None, :], PRECISION)


@triton.jit
def hidden_layers(
    x, cell, live, taps, tap_bias, extra, centre, first_weight, biases, upper, Z, Y, X,
    extra_sample, extra_channel, extra_z, extra_y, extra_x,
    C: tl.constexpr, CP: tl.constexpr, P: tl.constexpr, OWN: tl.constexpr, SEEN: tl.constexpr, E: tl.constexpr,
    DENSE: tl.constexpr, DENSE_ACT: tl.constexpr, KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    PADDING: tl.constexpr, CENTRED: tl.constexpr, HP: tl.constexpr, UP_TO: tl.constexpr,
    ACT: tl.constexpr, SLOPE: tl.constexpr,
    BLOCK: tl.constexpr, KB: tl.constexpr, CHUNKS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Hidden layer UP_TO before its activation [BLOCK, HP], and the last chunk of the perception [BLOCK, KB]."""
    h = tl.arange(0, HP)
    z = tl.zeros([BLOCK, HP], tl.float32) + tl.load(biases + h)[None, :]
    y = tl.zeros([BLOCK, KB], tl.float32)
    for chunk in range(CHUNKS):
        y = see(
            x, taps, tap_bias, extra, centre, cell, live, chunk * KB, Z, Y, X,
            extra_sample, extra_channel, extra_z, extra_y, extra_x,
            C, CP, OWN, SEEN, E, DENSE, DENSE_ACT, SLOPE, KZ, KY, KX, PADDING, CENTRED,
            BLOCK, KB, PRECISION,
        )  # fmt: skip
        z = product(y, load_matrix(first_weight, chunk * KB + tl.arange(0, KB), h, P, HP, HP), z, PRECISION)
    for layer in tl.static_range(1, UP_TO + 1):
        z = upper_layer(z, layer, upper, biases, ACT, SLOPE, HP, PRECISION)
    return z, y
