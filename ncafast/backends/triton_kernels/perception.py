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
def tap_offset(tap, REACH: tl.constexpr):
    """(z, y, x) from a cell to what a tap sees."""
    z, y, x = tap // (REACH.KY * REACH.KX), tap // REACH.KX % REACH.KY, tap % REACH.KX
    return z - REACH.KZ // 2, y - REACH.KY // 2, x - REACH.KX // 2


@triton.jit
def neighbour(cell, tap, grid, REACH: tl.constexpr):
    """The cell that a tap sees from each cell, and whether there is one."""
    PADDING: tl.constexpr = REACH.PADDING
    dz, dy, dx = tap_offset(tap, REACH)
    x, row = cell % grid.width, cell // grid.width
    place, ok = along(x + dx, grid.width, PADDING)
    if REACH.KY > 1 or REACH.KZ > 1:
        line, here = along(row % grid.height + dy, grid.height, PADDING)
        ok = ok & here
        plane = row // grid.height
        if REACH.KZ > 1:
            layer, here = along(plane % grid.depth + dz, grid.depth, PADDING)
            ok = ok & here
            plane = plane // grid.depth * grid.depth + layer
        row = plane * grid.height + line
    return row * grid.width + place, ok


@triton.jit
def see_dense(
    x, cell, live, first, grid, sight,
    SEES: tl.constexpr, REACH: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Columns [first, first + KB) of the dense convolution before its activation: [BLOCK, KB]."""
    C: tl.constexpr = SEES.C
    column = first + tl.arange(0, TILE.KB)
    seen = (column >= SEES.OWN) & (column < SEES.OWN + SEES.SEEN)
    c = tl.arange(0, SEES.CP)
    start = tl.load(sight.bias + column - SEES.OWN, mask=seen, other=0.0)
    total = tl.full([TILE.BLOCK, TILE.KB], 0.0, tl.float32) + start[None, :]
    for tap in range(REACH.KZ * REACH.KY * REACH.KX):
        other, ok = neighbour(cell, tap, grid, REACH)
        there = (live & ok)[:, None] & (c < C)[None, :]
        value = tl.load(x + other.to(tl.int64)[:, None] * C + c[None, :], mask=there, other=0.0).to(tl.float32)
        place = sight.taps + (tap * C + c)[:, None] * SEES.SEEN + (column - SEES.OWN)[None, :]
        weight = tl.load(place, mask=(c < C)[:, None] & seen[None, :], other=0.0)  # [CP, KB]
        total = product(value, weight, total, PRECISION)
    return total


@triton.jit
def see_filters(x, cell, live, first, grid, sight, SEES: tl.constexpr, REACH: tl.constexpr, TILE: tl.constexpr):
    """Columns [first, first + KB) of what the filters see: [BLOCK, KB]."""
    C: tl.constexpr = SEES.C
    column = first + tl.arange(0, TILE.KB)
    seen = (column >= SEES.OWN) & (column < SEES.OWN + SEES.SEEN)
    channel = (column + (C - SEES.OWN)) % C
    start = tl.load(sight.bias + column - SEES.OWN, mask=seen, other=0.0)
    total = tl.full([TILE.BLOCK, TILE.KB], 0.0, tl.float32) + start[None, :]
    for tap in range(REACH.KZ * REACH.KY * REACH.KX):
        other, ok = neighbour(cell, tap, grid, REACH)
        weight = tl.load(sight.taps + tap * SEES.SEEN + column - SEES.OWN, mask=seen, other=0.0)  # [KB]
        there = (live & ok)[:, None] & seen[None, :]
        value = tl.load(x + other.to(tl.int64)[:, None] * C + channel[None, :], mask=there, other=0.0)
        total += weight[None, :] * value.to(tl.float32)
    return total


@triton.jit
def see_extra(cell, live, column, grid, sight, SEES: tl.constexpr):
    """The extra columns of the perception, 0 in the others: [BLOCK, KB]."""
    row, plane = cell // grid.width, cell // grid.width // grid.height
    place = (
        (plane // grid.depth).to(tl.int64) * sight.extra_sample + (plane % grid.depth).to(tl.int64) * sight.extra_z
        + (row % grid.height).to(tl.int64) * sight.extra_y + (cell % grid.width).to(tl.int64) * sight.extra_x
    )  # fmt: skip
    channel = column - SEES.OWN - SEES.SEEN
    there = live[:, None] & ((channel >= 0) & (channel < SEES.E))[None, :]
    place = place[:, None] + channel.to(tl.int64)[None, :] * sight.extra_channel
    return tl.load(sight.extra + place, mask=there, other=0.0).to(tl.float32)


@triton.jit
def see(
    x, cell, live, first, grid, sight,
    SEES: tl.constexpr, REACH: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Columns [first, first + KB) of the perception: [BLOCK, KB]. Rows that are not live, and columns past P, are 0.

    CENTRED: less the centre, so that the rounding of products goes by how far cells differ, not by their mean.
    """
    DENSE_ACT: tl.constexpr = SEES.DENSE_ACT
    column = first + tl.arange(0, TILE.KB)
    y = tl.full([TILE.BLOCK, TILE.KB], 0.0, tl.float32)
    if SEES.SEEN > 0:
        if SEES.DENSE:
            y = activate(see_dense(x, cell, live, first, grid, sight, SEES, REACH, TILE, PRECISION), DENSE_ACT)
        else:
            y = see_filters(x, cell, live, first, grid, sight, SEES, REACH, TILE)
        seen = (column >= SEES.OWN) & (column < SEES.OWN + SEES.SEEN)
        y = tl.where(live[:, None] & seen[None, :], y, 0.0)
    if SEES.OWN > 0:
        there = live[:, None] & (column < SEES.OWN)[None, :]
        own = tl.load(x + cell.to(tl.int64)[:, None] * SEES.C + column[None, :], mask=there, other=0.0)
        y += own.to(tl.float32)
    if SEES.E > 0:
        y += see_extra(cell, live, column, grid, sight, SEES)
    if SEES.CENTRED:
        y = tl.where(live[:, None], y - tl.load(sight.centre + column, mask=column < SEES.P, other=0.0)[None, :], 0.0)
    return y
