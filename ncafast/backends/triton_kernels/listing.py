"""The lists of cells that fire, made by one launch: for several steps at once, or for one under an alive mask."""

from __future__ import annotations

import torch
from torch import Tensor

from ncafast import philox
from ncafast.backends.plan import Plan
from ncafast.backends.triton_kernels import cells
from ncafast.backends.triton_kernels.bundles import Draw, Grid, Listing, Reach, Sources
from ncafast.rule import Rule

ITSELF = Reach(1, 1, 1, "zeros")
_STEPS = 16  # whose lists are made at once
_LIST = 1024  # cells per program, 4096 of more than _MANY: each reads what all before it have counted
_MANY = 2**22
_WARPS = 4
_WAIT = 32 * _WARPS  # counts that are read at once, one per thread: two that read the same one could see it change
_COUNTED = 64  # lists whose counts are set to 0 at once


class Lists:
    """Every step's cells, those that fire first.

    Args:
        rule: what the cells do.
        plan: where the random source starts.
        grid: the cells.
        seed: [1] int64.
        fire_mask: [T, B or 1, 1, *S], or None to draw.
    """

    def __init__(self, rule: Rule, plan: Plan, grid: Grid, seed: Tensor, fire_mask: Tensor | None) -> None:
        self.plan, self.grid = plan, grid
        self.nothing = torch.zeros(4, dtype=torch.int32, device=seed.device)
        self.draws = fire_mask is None and rule.fire_rate < 1
        self.masked = fire_mask is not None
        self.needed = self.draws or self.masked or rule.alive is not None
        self.threshold = min(philox.threshold(rule.fire_rate), philox.WORD)
        self.seed, self.mask, self.mask_step, self.mask_sample = seed, self.nothing, 0, 0
        if fire_mask is not None:
            per_sample = grid.depth * grid.height * grid.width
            self.mask = fire_mask.view(torch.uint8)
            self.mask_step = per_sample * fire_mask.shape[1]
            self.mask_sample = per_sample if fire_mask.shape[1] > 1 else 0
        self._made: tuple[int, Tensor, Tensor] | None = None
        self._counts = self.nothing[:0]

    def at(self, t: int, wanted: Tensor | None = None, window: Reach = ITSELF) -> tuple[Tensor, Tensor]:
        """Step t's list [cells], and how many of its cells fire [1]; int32.

        Args:
            t: counted from 0.
            wanted: [cells] uint8; cells without a wanted one in their window come last, as those that do not fire.
            window: around each cell.
        """
        if not self.needed:
            return self.nothing, self.nothing
        if wanted is not None:
            found, fired = self._make(t, 1, wanted, window)
            return found[0], fired[0]
        start = t // _STEPS * _STEPS
        if self._made is None or self._made[0] != start:
            self._made = (start, *self._make(start, min(_STEPS, self.plan.steps - start), None, ITSELF))
        _, found, fired = self._made
        return found[t - start], fired[t - start]

    def _make(self, t: int, steps: int, wanted: Tensor | None, window: Reach) -> tuple[Tensor, Tensor]:
        """[steps, cells] and [steps, 1]; the rows begin at multiples of 16 bytes, as compiled kernels expect."""
        number = self.grid.cells
        block = _LIST if number <= _MANY else 4 * _LIST
        blocks, row = -(-number // block), -(-number // 4) * 4
        found = self.seed.new_empty((steps, row), dtype=torch.int32)
        fired = self.seed.new_empty((steps, 4), dtype=torch.int32)
        cells.list_active[(blocks, steps)](
            Listing(found, row, fired, self._zeros(steps, 1 + blocks)),
            Sources(self.seed, self.mask, self.nothing if wanted is None else wanted), self.grid,
            self.plan.first_sample, self.plan.first_step + t, self.threshold, t, self.mask_step, self.mask_sample,
            DRAW=Draw(self.draws, self.masked, wanted is not None, window), LIST=block, WAIT=_WAIT, num_warps=_WARPS,
        )  # fmt: skip
        return found[:, :number], fired[:, :1]

    def _zeros(self, steps: int, wide: int) -> Tensor:
        """Counts of some lists, used by nobody yet; their memory begins at a multiple of 16 bytes."""
        need = -(-steps * wide // 4) * 4
        if self._counts.numel() < need:
            self._counts = torch.zeros(max(need, _COUNTED * (wide + 3)), dtype=torch.int32, device=self.seed.device)
        found, self._counts = self._counts[:need], self._counts[need:]
        return found
