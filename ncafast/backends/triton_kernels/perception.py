"""What cells see: rows of the perception [x?] ++ [filters or dense convolution] ++ [extra], in chunks of columns."""

import triton
import triton.language as tl

from ncafast.backends.triton_kernels.mlp import activate, product


@triton.jit
def along(i, n, PADDING: tl.constexpr):
    """Where a place along an axis of n cells lies, and whether it is in the grid at all."""
    ok = (i >= 0) & (i < n)
    if PADDING == "reflect":
        i = (n - 1) - tl.abs(n - 1 - tl.abs(i))
    elif PADDING == "replicate":
        i = tl.minimum(tl.maximum(i, 0), n - 1)
    elif PADDING == "circular":
        i = tl.where(i < 0, i + n, tl.where(i >= n, i - n, i))
    else:
        tl.static_assert(PADDING == "zeros", f"no kernel has padding={PADDING}")
    if PADDING != "zeros":
        ok = ok | True
    return tl.where(ok, i, 0), ok


@triton.jit
def tap_offset(tap, KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr):
    """(z, y, x) from a cell to what a tap sees."""
    return tap // (KY * KX) - KZ // 2, tap // KX % KY - KY // 2, tap % KX - KX // 2


@triton.jit
def neighbour(
    cell, tap, Z, Y, X, KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr, PADDING: tl.constexpr
):  # fmt: skip
    """The cell that a tap sees from each cell, and whether there is one."""
    dz, dy, dx = tap_offset(tap, KZ, KY, KX)
    x, row = cell % X, cell // X
    place, ok = along(x + dx, X, PADDING)
    if KY > 1 or KZ > 1:
        line, here = along(row % Y + dy, Y, PADDING)
        ok = ok & here
        plane = row // Y
        if KZ > 1:
            layer, here = along(plane % Z + dz, Z, PADDING)
            ok = ok & here
            plane = plane // Z * Z + layer
        row = plane * Y + line
    return row * X + place, ok


@triton.jit
def see_dense(
    x, taps, bias, cell, live, first, Z, Y, X,
    C: tl.constexpr, CP: tl.constexpr, OWN: tl.constexpr, SEEN: tl.constexpr,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr, PADDING: tl.constexpr,
    BLOCK: tl.constexpr, KB: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Columns [first, first + KB) of the dense convolution before its activation: [BLOCK, KB]."""
    column = first + tl.arange(0, KB)
    seen = (column >= OWN) & (column < OWN + SEEN)
    c = tl.arange(0, CP)
    start = tl.load(bias + column - OWN, mask=seen, other=0.0)
    total = tl.zeros([BLOCK, KB], tl.float32) + start[None, :]
    for tap in range(KZ * KY * KX):
        other, ok = neighbour(cell, tap, Z, Y, X, KZ, KY, KX, PADDING)
        there = (live & ok)[:, None] & (c < C)[None, :]
        value = tl.load(x + other.to(tl.int64)[:, None] * C + c[None, :], mask=there, other=0.0)
        place = taps + (tap * C + c)[:, None] * SEEN + (column - OWN)[None, :]
        weight = tl.load(place, mask=(c < C)[:, None] & seen[None, :], other=0.0)  # [CP, KB]
        total = product(value, weight, total, PRECISION)
    return total


@triton.jit
def see_filters(
    x, taps, bias, cell, live, first, Z, Y, X,
    C: tl.constexpr, OWN: tl.constexpr, SEEN: tl.constexpr,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr, PADDING: tl.constexpr,
    BLOCK: tl.constexpr, KB: tl.constexpr,
):  # fmt: skip
    """Columns [first, first + KB) of what the filters see: [BLOCK, KB]."""
    column = first + tl.arange(0, KB)
    seen = (column >= OWN) & (column < OWN + SEEN)
    channel = (column + (C - OWN)) % C
    start = tl.load(bias + column - OWN, mask=seen, other=0.0)
    total = tl.zeros([BLOCK, KB], tl.float32) + start[None, :]
    for tap in range(KZ * KY * KX):
        other, ok = neighbour(cell, tap, Z, Y, X, KZ, KY, KX, PADDING)
        weight = tl.load(taps + tap * SEEN + column - OWN, mask=seen, other=0.0)  # [KB]
        there = (live & ok)[:, None] & seen[None, :]
        value = tl.load(x + other.to(tl.int64)[:, None] * C + channel[None, :], mask=there, other=0.0)
        total += weight[None, :] * value
    return total


@triton.jit
def see(
    x, taps, bias, extra, centre, cell, live, first, Z, Y, X,
    extra_sample, extra_channel, extra_z, extra_y, extra_x,
    C: tl.constexpr, CP: tl.constexpr, OWN: tl.constexpr, SEEN: tl.constexpr, E: tl.constexpr,
    DENSE: tl.constexpr, DENSE_ACT: tl.constexpr, SLOPE: tl.constexpr,
    KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr, PADDING: tl.constexpr, CENTRED: tl.constexpr,
    BLOCK: tl.constexpr, KB: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Columns [first, first + KB) of the perception: [BLOCK, KB]. Rows that are not live, and columns past P, are 0.

    CENTRED: less centre [P], so that the rounding of products goes by how far cells differ, not by their mean.
    """
    column = first + tl.arange(0, KB)
    y = tl.zeros([BLOCK, KB], tl.float32)
    if SEEN > 0:
        if DENSE:
            y = see_dense(
                x, taps, bias, cell, live, first, Z, Y, X, C, CP, OWN, SEEN, KZ, KY, KX, PADDING, BLOCK, KB, PRECISION
            )
            y = activate(y, DENSE_ACT, SLOPE)
        else:
            y = see_filters(x, taps, bias, cell, live, first, Z, Y, X, C, OWN, SEEN, KZ, KY, KX, PADDING, BLOCK, KB)
        seen = (column >= OWN) & (column < OWN + SEEN)
        y = tl.where(live[:, None] & seen[None, :], y, 0.0)
    if OWN > 0:
        there = live[:, None] & (column < OWN)[None, :]
        y += tl.load(x + cell.to(tl.int64)[:, None] * C + column[None, :], mask=there, other=0.0)
    if E > 0:
        row, plane = cell // X, cell // X // Y
        place = (
            (plane // Z).to(tl.int64) * extra_sample + (plane % Z).to(tl.int64) * extra_z
            + (row % Y).to(tl.int64) * extra_y + (cell % X).to(tl.int64) * extra_x
        )  # fmt: skip
        channel = column - OWN - SEEN
        there = live[:, None] & ((channel >= 0) & (channel < E))[None, :]
        y += tl.load(extra + place[:, None] + channel.to(tl.int64)[None, :] * extra_channel, mask=there, other=0.0)
    if CENTRED:
        inside = column < OWN + SEEN + E
        y = tl.where(live[:, None], y - tl.load(centre + column, mask=inside, other=0.0)[None, :], 0.0)
    return y
