"""One step backward, in two passes: through the MLP on the cells that fired, then from the perception to its sources.

Between them stands dL/dy [cells, P], 0 where nothing fired. The hidden layer is never written to memory.
"""

import triton
import triton.language as tl

from ncafast.backends.triton_kernels.cells import tile_cells
from ncafast.backends.triton_kernels.hidden import hidden_layers
from ncafast.backends.triton_kernels.mlp import activate, load_matrix, product, slope_at
from ncafast.backends.triton_kernels.norms import back_through_norm, normed
from ncafast.backends.triton_kernels.perception import along, perceive, perceive_dense, tap_offset


@triton.jit
def add_to(place, value, mask, FRESH: tl.constexpr):
    """Adds to memory that this program alone owns, or starts it anew.

    Its threads need not be those that wrote there before, and the compiler orders no accesses to global memory.
    """
    if not FRESH:
        tl.debug_barrier()
        value += tl.load(place, mask=mask, other=0.0)
    tl.store(place, value, mask=mask)


@triton.jit
def through_own_norm(dz, z, cell, live, layer, grid, weights, sum_gamma, sum_beta, MLP: tl.constexpr):
    """dL/dz of a hidden layer from dL/d(norm's output). A layer norm's own gradients are added to this program's."""
    if MLP.NORM != "none":
        h = tl.arange(0, MLP.HP)
        d = dz
        dz, d_gamma = back_through_norm(d, z, cell, live, layer, grid, weights.norm, MLP)
        if MLP.NORM == "layer":  # a group norm's have a pass before this one
            add_to(sum_gamma + layer * MLP.HP + h, d_gamma, h < MLP.HP, False)
            add_to(sum_beta + layer * MLP.HP + h, tl.sum(d, 0), h < MLP.HP, False)
    return dz


@triton.jit
def through_upper(
    dz, x, cell, live, grid, tensors, weights,
    sum_biases,  # [LAYERS, HP] of this program
    sum_upper,  # [LAYERS - 1, HP, HP]
    sum_gamma, sum_beta,  # [LAYERS, HP]
    LAYER: tl.constexpr,
    COLUMNS: tl.constexpr, REACH: tl.constexpr, MLP: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dL/dz of the layer below from that of hidden layer LAYER >= 1, whose gradients are added to the sums."""
    ACT: tl.constexpr = MLP.ACT
    HP: tl.constexpr = MLP.HP
    below, _ = hidden_layers(x, cell, live, grid, tensors, weights, LAYER - 1, COLUMNS, REACH, MLP, TILE, PRECISION)
    h = tl.arange(0, HP)
    add_to(sum_biases + LAYER * HP + h, tl.sum(dz, 0), h < HP, False)
    z = normed(below, cell, live, LAYER - 1, grid, weights.norm, MLP)
    share = product(tl.trans(activate(z, ACT)), dz, tl.zeros([HP, HP], tl.float32), PRECISION)
    square = (LAYER - 1) * HP * HP + h[:, None] * HP + h[None, :]
    add_to(sum_upper + square, share, (h < HP)[:, None] & (h < HP)[None, :], False)
    back = tl.trans(tl.load(weights.upper + square))
    d = product(dz, back, tl.full([TILE.BLOCK, HP], 0.0, tl.float32), PRECISION) * slope_at(z, ACT)
    return through_own_norm(d, below, cell, live, LAYER - 1, grid, weights, sum_gamma, sum_beta, MLP)


@triton.jit
def mlp_backward(
    x, g,  # [cells, C] the state, dL/dx of the next one
    lives,  # [cells] uint8
    dy,  # [cells, P] written
    work, grid, tensors, weights,
    touched,  # [C] 1.0 on the channels whose update counts
    sums,
    COLUMNS: tl.constexpr, REACH: tl.constexpr, MLP: tl.constexpr, PASS: tl.constexpr,
    TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dL/dy of every cell, and this program's share of the gradients of the MLP."""
    ACT: tl.constexpr = MLP.ACT
    BLOCK: tl.constexpr = TILE.BLOCK
    C: tl.constexpr = COLUMNS.C
    CHUNKS: tl.constexpr = TILE.CHUNKS
    CP: tl.constexpr = COLUMNS.CP
    HP: tl.constexpr = MLP.HP
    KB: tl.constexpr = TILE.KB
    LAYERS: tl.constexpr = MLP.LAYERS
    P: tl.constexpr = COLUMNS.P
    program, programs = tl.program_id(0), tl.num_programs(0)
    active = grid.cells
    if PASS.LISTED:
        active = tl.load(work.fired)
    c, h, k = tl.arange(0, CP), tl.arange(0, HP), tl.arange(0, KB)
    mine = program.to(tl.int64)
    sum_gamma, sum_beta = sums.gamma + mine * LAYERS * HP, sums.beta + mine * LAYERS * HP
    first = sums.first + mine * (P * HP)
    d_first = tl.zeros([KB, HP], tl.float32)
    d_bias = tl.zeros([HP], tl.float32)
    d_update = tl.zeros([HP, CP], tl.float32)
    d_update_bias = tl.zeros([CP], tl.float32)
    d_tap_bias = tl.zeros([KB], tl.float32)
    if CHUNKS > 1 and PASS.FRESH:
        for chunk in range(CHUNKS):
            row = chunk * KB + k
            tl.store(first + row[:, None] * HP + h[None, :], d_first, mask=(row < P)[:, None])
    for tile in range(program, work.tiles, programs):
        cell, exists, live = tile_cells(tile, work, active, grid.cells, PASS.LISTED, BLOCK)
        if tile * BLOCK < active:
            z, y = hidden_layers(
                x, cell, live, grid, tensors, weights, LAYERS - 1, COLUMNS, REACH, MLP, TILE, PRECISION
            )
            counts = live
            if PASS.ALIVE:
                counts = counts & (tl.load(lives + cell, mask=live, other=0) != 0)
            reached = counts[:, None] & (tl.load(touched + c, mask=c < C, other=0.0) != 0.0)[None, :]
            above = tl.load(g + cell.to(tl.int64)[:, None] * C + c[None, :], mask=reached, other=0.0)
            du = weights.scale * above.to(tl.float32)
            normal = normed(z, cell, live, LAYERS - 1, grid, weights.norm, MLP)
            d_update = product(tl.trans(activate(normal, ACT)), du, d_update, PRECISION)
            d_update_bias += tl.sum(du, 0)
            update_back = tl.trans(load_matrix(weights.update, h, c, HP, C, C))  # [CP, HP]
            da = product(du, update_back, tl.zeros([BLOCK, HP], tl.float32), PRECISION)
            dz = da * slope_at(normal, ACT)
            dz = through_own_norm(dz, z, cell, live, LAYERS - 1, grid, weights, sum_gamma, sum_beta, MLP)
            for down in tl.static_range(1, LAYERS):
                dz = through_upper(
                    dz, x, cell, live, grid, tensors, weights,
                    sums.biases + mine * LAYERS * HP, sums.upper + mine * (LAYERS - 1) * HP * HP,
                    sum_gamma, sum_beta, LAYERS - down, COLUMNS, REACH, MLP, TILE, PRECISION,
                )  # fmt: skip
            d_bias += tl.sum(dz, 0)
            for chunk in range(CHUNKS):
                if CHUNKS > 1:
                    y = perceive(x, cell, live, chunk * KB, grid, tensors, COLUMNS, REACH, TILE, PRECISION)
                row = chunk * KB + k
                if CHUNKS > 1:
                    share = product(tl.trans(y), dz, tl.zeros([KB, HP], tl.float32), PRECISION)
                    add_to(first + row[:, None] * HP + h[None, :], share, (row < P)[:, None], False)
                else:
                    d_first = product(tl.trans(y), dz, d_first, PRECISION)
                first_back = tl.trans(load_matrix(weights.first, row, h, P, HP, HP))  # [HP, KB]
                given = product(dz, first_back, tl.zeros([BLOCK, KB], tl.float32), PRECISION)
                if PASS.FINISH and COLUMNS.DENSE:
                    given = through_dense(
                        given, x, cell, live, chunk * KB, grid, tensors, COLUMNS, REACH, TILE, PRECISION
                    )
                given = tl.where(live[:, None], given, 0.0)
                if PASS.FINISH:
                    if CHUNKS > 1:
                        add_to(sums.tap_bias + mine * P + row, tl.sum(given, 0), row < P, False)
                    else:
                        d_tap_bias += tl.sum(given, 0)
                where = exists[:, None] & (row < P)[None, :]
                tl.store(dy + cell.to(tl.int64)[:, None] * P + row[None, :], given, mask=where)
        else:
            for chunk in range(CHUNKS):
                row = chunk * KB + k
                where = exists[:, None] & (row < P)[None, :]
                nothing = tl.zeros([BLOCK, KB], tl.float32)
                tl.store(dy + cell.to(tl.int64)[:, None] * P + row[None, :], nothing, mask=where)
    if CHUNKS == 1:
        add_to(first + k[:, None] * HP + h[None, :], d_first, (k < P)[:, None], PASS.FRESH)
        if PASS.FINISH:
            add_to(sums.tap_bias + mine * P + k, d_tap_bias, k < P, False)
    add_to(sums.biases + mine * LAYERS * HP + h, d_bias, h < HP, PASS.FRESH)
    add_to(sums.update + mine * HP * C + h[:, None] * C + c[None, :], d_update, (c < C)[None, :], False)
    add_to(sums.update_bias + mine * C + c, d_update_bias, c < C, False)


@triton.jit
def through_dense(
    given, x, cell, live, first, grid, tensors,
    COLUMNS: tl.constexpr, REACH: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dL/dy through the activation of the dense convolution; other columns stay."""
    DENSE_ACT: tl.constexpr = COLUMNS.DENSE_ACT
    if COLUMNS.DENSE_ACT.KIND != "identity":
        column = first + tl.arange(0, TILE.KB)
        filtered = (column >= COLUMNS.IDENTITY) & (column < COLUMNS.IDENTITY + COLUMNS.FILTERED)
        z = perceive_dense(x, cell, live, first, grid, tensors, COLUMNS, REACH, TILE, PRECISION)
        given = tl.where(filtered[None, :], given * slope_at(z, DENSE_ACT), given)
    return given


@triton.jit
def batch_norm_backward(
    x, dy, grid, tensors,
    matrix,  # [P, P]
    offset,  # [P]
    sum_tap_bias,  # [programs, P]
    COLUMNS: tl.constexpr, REACH: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """What flows through the batch's statistics: dy += (y - ym) matrix + offset on every cell; axis 1: chunks."""
    BLOCK: tl.constexpr = TILE.BLOCK
    KB: tl.constexpr = TILE.KB
    P: tl.constexpr = COLUMNS.P
    program, programs, chunk = tl.program_id(0), tl.num_programs(0), tl.program_id(1)
    column = chunk * KB + tl.arange(0, KB)
    d_tap_bias = tl.zeros([KB], tl.float32)
    for tile in range(program, (grid.cells + BLOCK - 1) // BLOCK, programs):
        cell = tile * BLOCK + tl.arange(0, BLOCK)
        live = cell < grid.cells
        there = live[:, None] & (column < P)[None, :]
        place = dy + cell.to(tl.int64)[:, None] * P + column[None, :]
        given = tl.load(place, mask=there, other=0.0)
        given += tl.load(offset + column, mask=column < P, other=0.0)[None, :]
        for other in range(TILE.CHUNKS):
            y = perceive(x, cell, live, other * KB, grid, tensors, COLUMNS, REACH, TILE, PRECISION)
            given = product(y, load_matrix(matrix, other * KB + tl.arange(0, KB), column, P, P, P), given, PRECISION)
        if COLUMNS.DENSE:
            given = through_dense(given, x, cell, live, chunk * KB, grid, tensors, COLUMNS, REACH, TILE, PRECISION)
        given = tl.where(live[:, None], given, 0.0)
        d_tap_bias += tl.sum(given, 0)
        tl.store(place, given, mask=there)
    add_to(sum_tap_bias + program * P + column, d_tap_bias, column < P, False)


@triton.jit
def seers(d, PADDING: tl.constexpr):
    """How many padded places number border_source knows along an axis for a tap d cells away."""
    return 1 if PADDING == "zeros" else 1 + (d if d > 0 else -d)


@triton.jit
def border_source(n, size, number, d, PADDING: tl.constexpr):
    """The cells whose tap, d cells away along an axis, shows cell n there, and whether they do.

    Number 0 are those that see it where it lies; 1, 2 ... see a place past the edge, so many cells away from it, where
    the padding shows n.
    """
    place = n
    if PADDING != "zeros":
        past = size - 1 + number if d > 0 else -number
        place = tl.where(number == 0, n, n * 0 + past)
    shown, ok = along(place, size, PADDING)
    cell = place - d
    return cell, ok & (shown == n) & (cell >= 0) & (cell < size)


@triton.jit
def add_seer(
    total, own, line, ok, taps, sums, tap,
    COLUMNS: tl.constexpr, SP: tl.constexpr, LEARNED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """What one tap gives back [BLOCK, CP], from rows of dL/dy that start at `line`; and its own gradient."""
    C: tl.constexpr = COLUMNS.C
    CP: tl.constexpr = COLUMNS.CP
    FILTERED: tl.constexpr = COLUMNS.FILTERED
    c, s = tl.arange(0, CP), tl.arange(0, SP)
    if COLUMNS.DENSE:
        value = tl.load(line + s[None, :], mask=ok[:, None] & (s < FILTERED)[None, :], other=0.0)
        weight = load_matrix(taps + tap * C * FILTERED, c, s, C, FILTERED, FILTERED)  # [CP, SP]
        total = product(value, tl.trans(weight), total, PRECISION)
        if LEARNED:
            share = product(tl.trans(own), value, tl.zeros([CP, SP], tl.float32), PRECISION)
            place = sums + tap * C * FILTERED + c[:, None] * FILTERED + s[None, :]
            add_to(place, share, (c < C)[:, None] & (s < FILTERED)[None, :], False)
    else:
        for f in range(FILTERED // C):
            column = f * C + c
            value = tl.load(line + column[None, :], mask=ok[:, None] & (c < C)[None, :], other=0.0)
            weight = tl.load(taps + tap * FILTERED + column, mask=c < C, other=0.0)
            total += weight[None, :] * value
            if LEARNED:
                add_to(sums + tap * FILTERED + column, tl.sum(own * value, 0), c < C, False)
    return total


@triton.jit
def perception_backward(
    x, g, lives, dy,
    dx,  # [cells, C] written
    grid, taps,
    sum_taps,  # [programs, TAPS, C, FILTERED] dense, else [programs, TAPS, FILTERED]
    restored,  # [C] 1.0 on the channels that are set back after the step
    COLUMNS: tl.constexpr, REACH: tl.constexpr, ALIVE: tl.constexpr, LEARNED: tl.constexpr,
    SP: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dL/dx: the residual, the identity, and what every filter that sees a cell gives back; and the filters' own.

    SP: FILTERED rounded up to a power of two >= 16 where the perception is dense.
    """
    C: tl.constexpr = COLUMNS.C
    PADDING: tl.constexpr = REACH.PADDING
    TAPS: tl.constexpr = REACH.KZ * REACH.KY * REACH.KX
    program, programs = tl.program_id(0), tl.num_programs(0)
    c = tl.arange(0, COLUMNS.CP)
    sums = sum_taps + program.to(tl.int64) * (TAPS * COLUMNS.FILTERED * (C if COLUMNS.DENSE else 1))
    for tile in range(program, (grid.cells + BLOCK - 1) // BLOCK, programs):
        cell = tile * BLOCK + tl.arange(0, BLOCK)
        exists = cell < grid.cells
        there = exists[:, None] & (c < C)[None, :]
        place = cell.to(tl.int64)[:, None] * C + c[None, :]
        total = tl.load(g + place, mask=there, other=0.0).to(tl.float32)
        if ALIVE:
            alive = tl.load(lives + cell, mask=exists, other=0) != 0
            always = tl.load(restored + c, mask=c < C, other=0.0) != 0.0
            total = tl.where(alive[:, None] | always[None, :], total, 0.0)
        if COLUMNS.IDENTITY > 0:
            total += tl.load(dy + cell.to(tl.int64)[:, None] * COLUMNS.P + c[None, :], mask=there, other=0.0)
        if COLUMNS.FILTERED > 0:
            own = tl.load(x + place, mask=there, other=0.0).to(tl.float32)
            nx, row = cell % grid.width, cell // grid.width
            ny, plane = row % grid.height, row // grid.height
            nz, sample = plane % grid.depth, plane // grid.depth
            for tap in range(TAPS):
                dz, dy_, dx_ = tap_offset(tap, REACH)
                for iz in range(seers(dz, PADDING)):
                    mz, in_z = border_source(nz, grid.depth, iz, dz, PADDING)
                    for iy in range(seers(dy_, PADDING)):
                        my, in_y = border_source(ny, grid.height, iy, dy_, PADDING)
                        for ix in range(seers(dx_, PADDING)):
                            mx, in_x = border_source(nx, grid.width, ix, dx_, PADDING)
                            ok = exists & in_z & in_y & in_x
                            if tl.max(ok.to(tl.int32), 0) > 0:
                                source = ((sample * grid.depth + mz) * grid.height + my) * grid.width + mx
                                line = dy + tl.where(ok, source, 0).to(tl.int64)[:, None] * COLUMNS.P + COLUMNS.IDENTITY
                                total = add_seer(total, own, line, ok, taps, sums, tap, COLUMNS, SP, LEARNED, PRECISION)
        tl.store(dx + place, total, mask=there)


@triton.jit
def add_extra(
    dy, grad, cells, per_sample, grad_sample, P: tl.constexpr, E: tl.constexpr, EP: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """dL/d(extra) [B, E, N]: every cell adds to a place of its own."""
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = cell < cells
    e = tl.arange(0, EP)
    there = exists[:, None] & (e < E)[None, :]
    value = tl.load(dy + cell.to(tl.int64)[:, None] * P + (P - E) + e[None, :], mask=there, other=0.0)
    sample, local = cell // per_sample, cell % per_sample
    start = grad + sample.to(tl.int64) * grad_sample
    add_to(start[:, None] + e.to(tl.int64)[None, :] * per_sample + local[:, None], value, there, False)
