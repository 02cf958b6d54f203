"""The perception of cells: rows [x?] ++ [filters or dense convolution] ++ [extra], in chunks of columns."""

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
def perceive_dense(
    x, cell, live, first, grid, tensors,
    COLUMNS: tl.constexpr, REACH: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Columns [first, first + KB) of the dense convolution before its activation: [BLOCK, KB]."""
    C: tl.constexpr = COLUMNS.C
    column = first + tl.arange(0, TILE.KB)
    filtered = (column >= COLUMNS.IDENTITY) & (column < COLUMNS.IDENTITY + COLUMNS.FILTERED)
    c = tl.arange(0, COLUMNS.CP)
    start = tl.load(tensors.bias + column - COLUMNS.IDENTITY, mask=filtered, other=0.0)
    total = tl.full([TILE.BLOCK, TILE.KB], 0.0, tl.float32) + start[None, :]
    for tap in range(REACH.KZ * REACH.KY * REACH.KX):
        other, ok = neighbour(cell, tap, grid, REACH)
        there = (live & ok)[:, None] & (c < C)[None, :]
        value = tl.load(x + other.to(tl.int64)[:, None] * C + c[None, :], mask=there, other=0.0).to(tl.float32)
        place = tensors.taps + (tap * C + c)[:, None] * COLUMNS.FILTERED + (column - COLUMNS.IDENTITY)[None, :]
        weight = tl.load(place, mask=(c < C)[:, None] & filtered[None, :], other=0.0)  # [CP, KB]
        total = product(value, weight, total, PRECISION)
    return total


@triton.jit
def perceive_filters(
    x, cell, live, first, grid, tensors, COLUMNS: tl.constexpr, REACH: tl.constexpr, TILE: tl.constexpr
):
    """Columns [first, first + KB) of the filters' output: [BLOCK, KB]."""
    C: tl.constexpr = COLUMNS.C
    column = first + tl.arange(0, TILE.KB)
    filtered = (column >= COLUMNS.IDENTITY) & (column < COLUMNS.IDENTITY + COLUMNS.FILTERED)
    channel = (column + (C - COLUMNS.IDENTITY)) % C
    start = tl.load(tensors.bias + column - COLUMNS.IDENTITY, mask=filtered, other=0.0)
    total = tl.full([TILE.BLOCK, TILE.KB], 0.0, tl.float32) + start[None, :]
    for tap in range(REACH.KZ * REACH.KY * REACH.KX):
        other, ok = neighbour(cell, tap, grid, REACH)
        weight = tl.load(
            tensors.taps + tap * COLUMNS.FILTERED + column - COLUMNS.IDENTITY, mask=filtered, other=0.0
        )  # [KB]
        there = (live & ok)[:, None] & filtered[None, :]
        value = tl.load(x + other.to(tl.int64)[:, None] * C + channel[None, :], mask=there, other=0.0)
        total += weight[None, :] * value.to(tl.float32)
    return total


@triton.jit
def perceive_extra(cell, live, column, grid, tensors, COLUMNS: tl.constexpr):
    """The extra columns of the perception, 0 in the others: [BLOCK, KB]."""
    row, plane = cell // grid.width, cell // grid.width // grid.height
    place = (
        (plane // grid.depth).to(tl.int64) * tensors.extra_sample + (plane % grid.depth).to(tl.int64) * tensors.extra_z
        + (row % grid.height).to(tl.int64) * tensors.extra_y + (cell % grid.width).to(tl.int64) * tensors.extra_x
    )  # fmt: skip
    channel = column - COLUMNS.IDENTITY - COLUMNS.FILTERED
    there = live[:, None] & ((channel >= 0) & (channel < COLUMNS.E))[None, :]
    place = place[:, None] + channel.to(tl.int64)[None, :] * tensors.extra_channel
    return tl.load(tensors.extra + place, mask=there, other=0.0).to(tl.float32)


@triton.jit
def perceive(
    x, cell, live, first, grid, tensors,
    COLUMNS: tl.constexpr, REACH: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Columns [first, first + KB) of the perception: [BLOCK, KB]. Rows that are not live, and columns past P, are 0.

    CENTRED: less the centre, so that the rounding of products goes by how far cells differ, not by their mean.
    """
    DENSE_ACT: tl.constexpr = COLUMNS.DENSE_ACT
    column = first + tl.arange(0, TILE.KB)
    y = tl.full([TILE.BLOCK, TILE.KB], 0.0, tl.float32)
    if COLUMNS.FILTERED > 0:
        if COLUMNS.DENSE:
            y = activate(
                perceive_dense(x, cell, live, first, grid, tensors, COLUMNS, REACH, TILE, PRECISION), DENSE_ACT
            )
        else:
            y = perceive_filters(x, cell, live, first, grid, tensors, COLUMNS, REACH, TILE)
        filtered = (column >= COLUMNS.IDENTITY) & (column < COLUMNS.IDENTITY + COLUMNS.FILTERED)
        y = tl.where(live[:, None] & filtered[None, :], y, 0.0)
    if COLUMNS.IDENTITY > 0:
        there = live[:, None] & (column < COLUMNS.IDENTITY)[None, :]
        own = tl.load(x + cell.to(tl.int64)[:, None] * COLUMNS.C + column[None, :], mask=there, other=0.0)
        y += own.to(tl.float32)
    if COLUMNS.E > 0:
        y += perceive_extra(cell, live, column, grid, tensors, COLUMNS)
    if COLUMNS.CENTRED:
        y = tl.where(
            live[:, None], y - tl.load(tensors.centre + column, mask=column < COLUMNS.P, other=0.0)[None, :], 0.0
        )
    return y
