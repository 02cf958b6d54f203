"""Which cells fire, and the lists of them: every step's cells in an order that puts those that fire first.

The MLP then runs on full tiles of cells that fire (at a fire rate of 0.5, half the arithmetic of a dense step), and
the number of programs never has to be known on the host.
"""

import triton
import triton.language as tl

from ncafast.backends.triton_kernels.perception import neighbour

# What changes from call to call must not have kernels compiled anew.
_VARIED = ["first_step", "first_sample", "limit", "first_mask", "mask_step", "mask_sample"]


@triton.jit
def fires(seed, cell, sample, step, limit):
    """Whether cells of a grid fire. Philox4x32-10 with the counter (cell // 4, sample, step, 0), see ncafast.philox."""
    block = (cell // 4).to(tl.uint32)
    nothing = block * 0
    c0, c1, c2, c3 = tl.philox(
        tl.load(seed), block, nothing + sample.to(tl.uint32), nothing + step.to(tl.uint32), nothing
    )
    word = cell % 4
    chosen = tl.where(word == 0, c0, tl.where(word == 1, c1, tl.where(word == 2, c2, c3)))
    return chosen < limit.to(tl.uint32)


@triton.jit
def active_cells(
    block, t, sources, grid, first_sample, first_step, limit, first_mask, mask_step, mask_sample,
    DRAW: tl.constexpr, LIST: tl.constexpr,
):  # fmt: skip
    """Cells of a block of LIST, whether they are in the grid, and whether they fire and are wanted.

    Steps are counted from 0 here: first_step numbers them for the random source, first_mask in the given masks.
    """
    WINDOW: tl.constexpr = DRAW.WINDOW
    per_sample = grid.depth * grid.height * grid.width
    cell = block * LIST + tl.arange(0, LIST)
    inside = cell < grid.cells
    sample, local = cell // per_sample, cell % per_sample
    active = inside
    if DRAW.DRAWN:
        active = active & fires(sources.seed, local, sample + first_sample, first_step + t, limit)
    if DRAW.MASKED:
        place = (first_mask + t).to(tl.int64) * mask_step + sample.to(tl.int64) * mask_sample + local
        active = active & (tl.load(sources.mask + place, mask=inside, other=0) != 0)
    if DRAW.WANTED:
        near = tl.full([LIST], 0, tl.int32)
        for tap in range(WINDOW.KZ * WINDOW.KY * WINDOW.KX):
            other, ok = neighbour(cell, tap, grid, WINDOW)
            near = near | tl.load(sources.wanted + other, mask=inside & ok, other=0).to(tl.int32)
        active = active & (near != 0)
    return cell, inside, active


@triton.jit
def sum_before(counts, block, WAIT: tl.constexpr):
    """The sum of what the blocks before this one count, each of which writes it down plus 1 in place of a 0.

    Those blocks have started, so that to wait for them ends.
    """
    total = 0
    for first in range(0, block, WAIT):
        other = first + tl.arange(0, WAIT)
        found = tl.load(counts + other, mask=other < block, other=1, volatile=True)
        while tl.min(found, 0) == 0:
            found = tl.load(counts + other, mask=other < block, other=1, volatile=True)
        total += tl.sum(found, 0) - WAIT
    return total


@triton.jit(do_not_specialize=_VARIED)
def list_active(
    listing, sources, grid, first_sample, first_step, limit, first_mask, mask_step, mask_sample,
    DRAW: tl.constexpr, LIST: tl.constexpr, WAIT: tl.constexpr,
):  # fmt: skip
    """Active cells in ascending order from the front of the list, all others from its end; and how many are active."""
    t = tl.program_id(1)
    counts = listing.counts + t * (1 + tl.num_programs(0))
    block = tl.atomic_add(counts, 1)  # numbered as they start
    cell, inside, active = active_cells(
        block, t, sources, grid, first_sample, first_step, limit, first_mask, mask_step, mask_sample, DRAW, LIST
    )
    number = active.to(tl.int32)
    here = tl.sum(number, 0)
    tl.atomic_xchg(counts + 1 + block, here + 1)
    start = sum_before(counts + 1, block, WAIT)
    before = start + tl.cumsum(number, 0) - number  # active cells in front of each
    place = tl.where(active, before, grid.cells - 1 - (cell - before))
    tl.store(listing.lists + t.to(tl.int64) * listing.row + place, cell, mask=inside)
    if block == tl.num_programs(0) - 1:
        tl.store(listing.fired + t * 4, start + here)


@triton.jit
def tile_cells(tile, work, active, cells, LISTED: tl.constexpr, BLOCK: tl.constexpr):
    """Cells of a tile, whether they exist, and whether they are active."""
    place = tile * BLOCK + tl.arange(0, BLOCK)
    exists = place < cells
    cell = place
    if LISTED:
        cell = tl.load(work.lists + place, mask=exists, other=0)
    return cell, exists, place < active
