"""Tile sizes. Chosen so that what a tile holds stays in registers (no spills, see tests/backends/test_triton.py).

Found by compiling for sm_80, sm_90 and sm_100 with Triton 3.8, 2026-11-24; not tuned for speed on a GPU yet.
`tuning` tries those around them on the user's own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ncafast.backends.triton_kernels.bundles import Tile

# Left alone, the compiler aims at a rounder number of registers and spills a few; given leave to take more it spills
# none. (sm_80 to sm_100, Triton 3.8, 2026-11-24: `perception_backward` 72 to 168 registers instead of 40 to 80.)
REGISTERS = 255
_MIN = 16  # the smallest side of a tl.dot operand


class Tiles(NamedTuple):
    """Cells per tile, perception columns per chunk, chunks, warps; how the compiler pipelines loops.

    It has nothing to pipeline but the products of a dense convolution: without them, kernels of any number of stages
    are the same instructions (see tests/backends/triton_suite/candidates.py).
    """

    block: int
    chunk: int = 0
    chunks: int = 0
    warps: int = 4
    stages: int = 1
    pipelined: bool = False


def padded(width: int) -> int:
    """The power of two, at least 16, that a width is rounded up to."""
    return max(_MIN, 1 << (width - 1).bit_length())


def forward(perception: int, hidden: int, channels: int, layers: int, dense: bool) -> Tiles:
    """Of the forward step: chunks of 16, 32 or 64 columns, those that leave the least padding."""
    chunk = min((16, 32, 64), key=lambda size: (-(-perception // size) * size, -size))
    block = _cells(max(hidden, chunk, channels))
    small = layers == 1 and hidden * max(block, chunk, channels) <= 8192
    return Tiles(block, chunk, -(-perception // chunk), 4 if small else 8, 3 if dense else 1, dense)


def backward(perception: int, hidden: int, channels: int, layers: int, dense: bool, capability: int) -> Tiles:
    """Of the pass through the MLP: one chunk where the first layer's gradient fits the registers.

    Before sm_90 (capability 9) operands of products pass through registers, which leaves room for 16 cells only.
    """
    block, chunk = 32, padded(perception)
    if dense:
        block, chunk = 16, 16 if capability >= 9 else 32
    elif layers > 1:
        chunk = 32
    elif chunk * hidden > 8192:
        # On sm_80 chunks of 64 spill twice what those of 32 do, 240 and 112 bytes a thread at 128 channels.
        block, chunk = (32, 64) if hidden <= 128 and capability >= 9 else (16, 32)
    else:
        block = max(_MIN, _cells(max(hidden, chunk, channels)) // 2)
    return Tiles(block if capability >= 9 else _MIN, chunk, -(-perception // chunk), 8, 1, dense)


def beside_norm(tiles: Tiles) -> Tiles:
    """Of a pass through hidden layers whose norm is taken on the tile, which holds them twice."""
    if tiles.block > _MIN:
        return tiles._replace(block=tiles.block // 2)
    chunk = min(tiles.chunk, 32)
    return tiles._replace(chunk=chunk, chunks=-(-tiles.chunk * tiles.chunks // chunk))


def moments(perception: int, dense: bool) -> Tiles:
    """Of the sums for batch norm and of the map back through it."""
    chunk = min(padded(perception), 64)
    return Tiles(64, chunk, -(-perception // chunk), 4, 3 if dense else 1, dense)


def spread(channels: int) -> Tiles:
    """Of the pass from the perception to its sources."""
    return Tiles(max(_MIN, 512 // channels))


def around(fixed: Tiles) -> list[Tiles]:
    """Sizes that are tried beside the fixed ones: half and double the cells, other warps, other stages of pipelines.

    The chunks stay: what is laid out by them goes through memory between kernels.
    """
    tried = [
        fixed._replace(block=block, warps=warps, stages=stages)
        for block in (fixed.block // 2, fixed.block, fixed.block * 2)
        for warps in (4, 8)
        for stages in ((1, 2, 3) if fixed.pipelined else (fixed.stages,))
        if block >= _MIN
    ]
    return [tiles for tiles in tried if tiles != fixed]


def _cells(widest: int) -> int:
    """Cells of a tile whose widest value holds 8192 numbers at most."""
    return min(128, max(_MIN, 8192 // widest))


def options(tiles: Tiles) -> dict[str, Any]:
    """Tile sizes as a kernel takes them."""
    return {"TILE": Tile(tiles.block, tiles.chunk, tiles.chunks), **compiled(tiles)}


def compiled(tiles: Tiles) -> dict[str, int]:
    """How the compiler is to build a kernel of these sizes."""
    return {"num_warps": tiles.warps, "num_stages": tiles.stages, "maxnreg": REGISTERS}
