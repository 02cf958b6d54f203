"""Products and activations on tiles. Every activation of 0 is 0, so padded columns stay 0."""

import triton
import triton.language as tl

_ROOT_HALF = tl.constexpr(0.7071067811865476)  # 1 / sqrt(2)
_NORMAL_AT_0 = tl.constexpr(0.3989422804014327)  # 1 / sqrt(2 pi), the normal density at 0


@triton.jit
def product(a, b, total, PRECISION: tl.constexpr):
    """total + a b, summed in float32; the operands are rounded as PRECISION says."""
    if PRECISION == "bf16":
        total = tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16), total)
    else:
        total = tl.dot(a, b, total, input_precision=PRECISION)
    return total


@triton.jit
def activate(z, ACT: tl.constexpr):
    """The activation of a bundle `Activation`. A NaN stays one."""
    if ACT.KIND == "relu":
        z = tl.where(z < 0.0, 0.0, z)
    elif ACT.KIND == "leaky_relu":
        z = tl.where(z > 0.0, z, ACT.SLOPE * z)
    elif ACT.KIND == "elu":
        z = tl.where(z > 0.0, z, tl.exp(tl.minimum(z, 0.0)) - 1.0)
    elif ACT.KIND == "gelu":
        z = 0.5 * z * (1.0 + tl.erf(z * _ROOT_HALF))
    elif ACT.KIND == "silu":
        z = z * tl.sigmoid(z)
    elif ACT.KIND == "tanh":
        z = 2.0 * tl.sigmoid(2.0 * z) - 1.0
    else:
        tl.static_assert(ACT.KIND == "identity", f"no kernel has activation={ACT.KIND}")
    return z


@triton.jit
def slope_at(z, ACT: tl.constexpr):
    """The activation's derivative at z."""
    if ACT.KIND == "relu":
        slope = tl.where(z <= 0.0, 0.0, 1.0)
    elif ACT.KIND == "leaky_relu":
        slope = tl.where(z > 0.0, 1.0, ACT.SLOPE)
    elif ACT.KIND == "elu":
        slope = tl.where(z > 0.0, 1.0, tl.exp(tl.minimum(z, 0.0)))
    elif ACT.KIND == "gelu":
        slope = 0.5 * (1.0 + tl.erf(z * _ROOT_HALF)) + z * _NORMAL_AT_0 * tl.exp(-0.5 * z * z)
    elif ACT.KIND == "silu":
        s = tl.sigmoid(z)
        slope = s * (1.0 + z * (1.0 - s))
    elif ACT.KIND == "tanh":
        t = 2.0 * tl.sigmoid(2.0 * z) - 1.0
        slope = 1.0 - t * t
    else:
        tl.static_assert(ACT.KIND == "identity", f"no kernel has activation={ACT.KIND}")
        slope = z * 0.0 + 1.0
    return slope


@triton.jit
def load_matrix(place, row, column, rows, columns, stride):
    """[row, column] of a row-major matrix, 0 past its edges."""
    there = (row < rows)[:, None] & (column < columns)[None, :]
    return tl.load(place + row[:, None] * stride + column[None, :], mask=there, other=0.0)
