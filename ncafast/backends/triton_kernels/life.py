"""The alive mask: which cells live before and after a step, and the settling of what the step left."""

import triton
import triton.language as tl

from ncafast.backends.triton_kernels.perception import neighbour


@triton.jit
def window_lives(x, cell, exists, grid, alive, C: tl.constexpr, REACH: tl.constexpr, BLOCK: tl.constexpr):
    """Whether the alive channel's largest value in each cell's window is above the threshold; a NaN there means no."""
    lives = tl.full([BLOCK], 0, tl.int32)
    broken = tl.full([BLOCK], 0, tl.int32)
    for tap in range(REACH.KZ * REACH.KY * REACH.KX):
        other, ok = neighbour(cell, tap, grid, REACH)
        value = tl.load(x + other.to(tl.int64) * C + alive.channel, mask=exists & ok, other=-float("inf"))
        value = value.to(tl.float32)  # a threshold would else be rounded to the state's dtype
        lives = lives | (value > alive.threshold).to(tl.int32)
        broken = broken | (value != value).to(tl.int32)
    return (lives & (1 - broken)) != 0


@triton.jit
def living(
    x,
    lives,  # [cells] uint8
    grid, alive, C: tl.constexpr, REACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Which cells of a state live."""
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = cell < grid.cells
    found = window_lives(x, cell, exists, grid, alive, C, REACH, BLOCK)
    tl.store(lives + cell, found.to(tl.uint8), mask=exists)


@triton.jit
def settle(
    x, raw, out,  # [cells, C]
    before,  # [cells] uint8: which cells of x live
    lives,  # [cells] uint8: which live after the step
    grid, alive, PRE: tl.constexpr, POST: tl.constexpr,
    C: tl.constexpr, CP: tl.constexpr, REACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out: raw where cells live, else 0; restored channels as in x."""
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = cell < grid.cells
    c = tl.arange(0, CP)
    there = exists[:, None] & (c < C)[None, :]
    place = cell.to(tl.int64)[:, None] * C + c[None, :]
    value = tl.load(raw + place, mask=there, other=0.0)
    survives = exists
    if PRE:
        survives = survives & (tl.load(before + cell, mask=exists, other=0) != 0)
    if POST:
        survives = survives & window_lives(raw, cell, exists, grid, alive, C, REACH, BLOCK)
    tl.store(lives + cell, survives.to(tl.uint8), mask=exists)
    value = tl.where(survives[:, None], value, value * 0.0)
    restored = (c >= alive.restore_lo) & (c < alive.restore_hi)
    value = tl.where(restored[None, :], tl.load(x + place, mask=there, other=0.0), value)
    tl.store(out + place, value, mask=there)
