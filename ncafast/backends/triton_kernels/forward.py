"""One step of the cells that fire; the others are copied in the same launch."""

import triton
import triton.language as tl

from ncafast.backends.triton_kernels.cells import tile_cells
from ncafast.backends.triton_kernels.hidden import hidden_layers
from ncafast.backends.triton_kernels.mlp import activate, load_matrix, product
from ncafast.backends.triton_kernels.norms import normed


@triton.jit
def step(
    x,  # [cells, C]
    out,  # [cells, C]
    work, grid, tensors, weights,
    moved,  # [C] 1.0 on the channels that the update changes
    COLUMNS: tl.constexpr, REACH: tl.constexpr, MLP: tl.constexpr, LISTED: tl.constexpr,
    TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write out: x plus the update of the active cells."""
    ACT: tl.constexpr = MLP.ACT
    C: tl.constexpr = COLUMNS.C
    tile = tl.program_id(0)
    active = grid.cells
    if LISTED:
        active = tl.load(work.fired)
    cell, exists, live = tile_cells(tile, work, active, grid.cells, LISTED, TILE.BLOCK)
    c = tl.arange(0, COLUMNS.CP)
    there = exists[:, None] & (c < C)[None, :]
    place = cell.to(tl.int64)[:, None] * C + c[None, :]
    own = tl.load(x + place, mask=there, other=0.0).to(tl.float32)
    if tile * TILE.BLOCK < active:
        h = tl.arange(0, MLP.HP)
        z, _ = hidden_layers(
            x, cell, live, grid, tensors, weights, MLP.LAYERS - 1, COLUMNS, REACH, MLP, TILE, PRECISION
        )
        start = tl.load(weights.update_bias + c, mask=c < C, other=0.0)
        d = tl.full([TILE.BLOCK, COLUMNS.CP], 0.0, tl.float32) + start[None, :]
        z = normed(z, cell, live, MLP.LAYERS - 1, grid, weights.norm, MLP)
        d = product(activate(z, ACT), load_matrix(weights.update, h, c, MLP.HP, C, C), d, PRECISION)
        moves = live[:, None] & (tl.load(moved + c, mask=c < C, other=0.0) != 0.0)[None, :]
        own = tl.where(moves, own + weights.scale * d, own)
    tl.store(out + place, own, mask=there)
