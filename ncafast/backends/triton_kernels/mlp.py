"""Products and activations on tiles. Every activation of 0 is 0, so padded columns stay 0."""

import triton
import triton.language as tl


@triton.jit
def product(a, b, total, PRECISION: tl.constexpr):
    """total + a b, summed in float32; the operands are rounded as PRECISION says."""
    if PRECISION == "bf16":
        total = tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16), total)
    else:
        total = tl.dot(a, b, total, input_precision=PRECISION)
    return total


@triton.jit
def activate(z, ACT: tl.constexpr, SLOPE: tl.constexpr):
    """The activation of that name in ncafast.rule.ACTIVATIONS. A NaN stays one."""
    if ACT == "relu":
        z = tl.where(z < 0.0, 0.0, z)
    elif ACT == "leaky_relu":
        z = tl.where(z > 0.0, z, SLOPE * z)
    elif ACT == "elu":
        z = tl.where(z > 0.0, z, tl.exp(tl.minimum(z, 0.0)) - 1.0)
    elif ACT == "gelu":
        z = 0.5 * z * (1.0 + tl.erf(z * 0.7071067811865476))
    elif ACT == "silu":
        z = z * tl.sigmoid(z)
    elif ACT == "tanh":
        z = 2.0 * tl.sigmoid(2.0 * z) - 1.0
    else:
        tl.static_assert(ACT == "identity", f"no kernel has activation={ACT}")
    return z


@triton.jit
def slope_at(z, ACT: tl.constexpr, SLOPE: tl.constexpr):
    """The activation's derivative at z."""
    if ACT == "relu":
        slope = tl.where(z <= 0.0, 0.0, 1.0)
    elif ACT == "leaky_relu":
        slope = tl.where(z > 0.0, 1.0, SLOPE)
    elif ACT == "elu":
        slope = tl.where(z > 0.0, 1.0, tl.exp(tl.minimum(z, 0.0)))
    elif ACT == "gelu":
        slope = 0.5 * (1.0 + tl.erf(z * 0.7071067811865476)) + z * 0.3989422804014327 * tl.exp(-0.5 * z * z)
    elif ACT == "silu":
        s = tl.sigmoid(z)
        slope = s * (1.0 + z * (1.0 - s))
    elif ACT == "tanh":
        t = 2.0 * tl.sigmoid(2.0 * z) - 1.0
        slope = 1.0 - t * t
    else:
        tl.static_assert(ACT == "identity", f"no kernel has activation={ACT}")
        slope = z * 0.0 + 1.0
    return slope


@triton.jit
def load_matrix(place, row, column, rows, columns, stride):
    """[row, column] of a row-major matrix, 0 past its edges."""
    there = (row < rows)[:, None] & (column < columns)[None, :]
    return tl.load(place + row[:, None] * stride + column[None, :], mask=there, other=0.0)
