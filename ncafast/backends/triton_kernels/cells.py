"""Which cells fire, and the lists of them: every step's cells in an order that puts those that fire first.

The MLP then runs on full tiles of cells that fire (at a fire rate of 0.5, half the arithmetic of a dense step), and
the number of programs never has to be known on the host.
"""

import triton
import triton.language as tl

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
    block, t, seed, mask, wanted, cells, per_sample, first_sample, first_step, limit, first_mask,
    mask_step, mask_sample, DRAWN: tl.constexpr, MASKED: tl.constexpr, WANTED: tl.constexpr, LIST: tl.constexpr,
):  # fmt: skip
    """Cells of a block of LIST, whether they are in the grid, and whether they fire and are wanted.

    Steps are counted from 0 here: first_step numbers them for the random source, first_mask in the given masks.
    """
    cell = block * LIST + tl.arange(0, LIST)
    inside = cell < cells
    sample, local = cell // per_sample, cell % per_sample
    active = inside
    if DRAWN:
        active = active & fires(seed, local, sample + first_sample, first_step + t, limit)
    if MASKED:
        place = mask + (first_mask + t).to(tl.int64) * mask_step + sample.to(tl.int64) * mask_sample + local
        active = active & (tl.load(place, mask=inside, other=0) != 0)
    if WANTED:
        active = active & (tl.load(wanted + cell, mask=inside, other=0) != 0)
    return cell, inside, active


@triton.jit(do_not_specialize=_VARIED)
def count_active(
    counts,  # [steps, blocks] int32
    seed, mask, wanted, cells, per_sample, first_sample, first_step, limit, first_mask,
    mask_step, mask_sample, DRAWN: tl.constexpr, MASKED: tl.constexpr, WANTED: tl.constexpr, LIST: tl.constexpr,
):  # fmt: skip
    """How many cells of each block are active."""
    block, t = tl.program_id(0), tl.program_id(1)
    _, _, active = active_cells(
        block, t, seed, mask, wanted, cells, per_sample, first_sample, first_step, limit, first_mask,
        mask_step, mask_sample, DRAWN, MASKED, WANTED, LIST,
    )  # fmt: skip
    tl.store(counts + t * tl.num_programs(0) + block, tl.sum(active.to(tl.int32), 0))


@triton.jit(do_not_specialize=_VARIED)
def list_active(
    lists,  # [steps, row] int32
    row,  # cells, rounded up for the alignment of what follows
    ends,  # [steps, blocks] int32, cumulative counts
    seed, mask, wanted, cells, per_sample, first_sample, first_step, limit, first_mask,
    mask_step, mask_sample, DRAWN: tl.constexpr, MASKED: tl.constexpr, WANTED: tl.constexpr, LIST: tl.constexpr,
):  # fmt: skip
    """Active cells in ascending order from the front of the list, all others from its end."""
    block, t = tl.program_id(0), tl.program_id(1)
    cell, inside, active = active_cells(
        block, t, seed, mask, wanted, cells, per_sample, first_sample, first_step, limit, first_mask,
        mask_step, mask_sample, DRAWN, MASKED, WANTED, LIST,
    )  # fmt: skip
    number = active.to(tl.int32)
    end = tl.load(ends + t * tl.num_programs(0) + block)
    before = end - tl.sum(number, 0) + tl.cumsum(number, 0) - number  # active cells in front of each
    place = tl.where(active, before, cells - 1 - (cell - before))
    tl.store(lists + t.to(tl.int64) * row + place, cell, mask=inside)


@triton.jit
def tile_cells(tile, work, active, cells, LISTED: tl.constexpr, BLOCK: tl.constexpr):
    """Cells of a tile, whether they exist, and whether they are active."""
    place = tile * BLOCK + tl.arange(0, BLOCK)
    exists = place < cells
    cell = place
    if LISTED:
        cell = tl.load(work.lists + place, mask=exists, other=0)
    return cell, exists, place < active
