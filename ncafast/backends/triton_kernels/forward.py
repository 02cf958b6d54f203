"""One step of the cells that fire; the others are copied in the same launch."""

import triton
import triton.language as tl

from ncafast.backends.triton_kernels.cells import tile_cells
from ncafast.backends.triton_kernels.hidden import hidden_layers
from ncafast.backends.triton_kernels.mlp import activate, load_matrix, product


@triton.jit
def step(
    x,  # [cells, C]
    out,  # [cells, C]
    lists, count, cells,
    taps, tap_bias, extra, centre,
    first_weight,  # [P, HP]
    biases,  # [LAYERS, HP]
    upper,  # [LAYERS - 1, HP, HP]
    update_weight,  # [HP, C]
    update_bias,  # [C]
    moved,  # [C] 1.0 on the channels that the update changes
    scale, Z, Y, X, extra_sample, extra_channel, extra_z, extra_y, extra_x,
    C: tl.constexpr, CP: tl.constexpr, P: tl.constexpr, OWN: tl.constexpr, SEEN: tl.constexpr, E: tl.constexpr,
    DENSE: tl.constexpr, DENSE_ACT: tl.constexpr, KZ: tl.constexpr, KY: tl.constexpr, KX: tl.constexpr,
    PADDING: tl.constexpr, CENTRED: tl.constexpr, HP: tl.constexpr, LAYERS: tl.constexpr,
    ACT: tl.constexpr, SLOPE: tl.constexpr,
    LISTED: tl.constexpr, BLOCK: tl.constexpr, KB: tl.constexpr, CHUNKS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write out: x plus the update of the active cells."""
    tile = tl.program_id(0)
    active = cells
    if LISTED:
        active = tl.load(count)
    cell, exists, live = tile_cells(tile, lists, active, cells, LISTED, BLOCK)
    c = tl.arange(0, CP)
    there = exists[:, None] & (c < C)[None, :]
    place = cell.to(tl.int64)[:, None] * C + c[None, :]
    own = tl.load(x + place, mask=there, other=0.0)
    if tile * BLOCK < active:
        h = tl.arange(0, HP)
        z, _ = hidden_layers(
            x, cell, live, taps, tap_bias, extra, centre, first_weight, biases, upper, Z, Y, X,
            extra_sample, extra_channel, extra_z, extra_y, extra_x,
            C, CP, P, OWN, SEEN, E, DENSE, DENSE_ACT, KZ, KY, KX, PADDING, CENTRED, HP, LAYERS - 1, ACT, SLOPE,
            BLOCK, KB, CHUNKS, PRECISION,
        )  # fmt: skip
        start = tl.load(update_bias + c, mask=c < C, other=0.0)
        d = tl.zeros([BLOCK, CP], tl.float32) + start[None, :]
        d = product(activate(z, ACT, SLOPE), load_matrix(update_weight, h, c, HP, C, C), d, PRECISION)
        moves = live[:, None] & (tl.load(moved + c, mask=c < C, other=0.0) != 0.0)[None, :]
        own = tl.where(moves, own + scale * d, own)
    tl.store(out + place, own, mask=there)
