"""Norms that no weights can stand for, on the host: their tables, and what launches the kernels of `groups`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ncafast.backends.triton_kernels import groups, sizes
from ncafast.backends.triton_kernels.bundles import Norm
from ncafast.backends.triton_kernels.norm_kinds import KINDS
from ncafast.backends.triton_kernels.sizes import options
from ncafast.rule import layer_name

if TYPE_CHECKING:
    from ncafast.backends.triton_kernels.rollout import Rollout

_MARKED = 1024  # cells per program


class Norms:
    """The norms of a rollout's hidden layers.

    Args:
        rollout: whose weights are packed already.
    """

    def __init__(self, rollout: Rollout) -> None:
        rule, like, self.rollout = rollout.rule, rollout.like, rollout
        self.kind = KINDS[rule.norm]
        self.grouped = self.kind == "group"
        self.batch, self.wide = rollout.x.shape[0], rollout.hidden
        self.share, self.gamma, self.beta = like.new_zeros((3, len(rule.hidden), self.wide))
        self.mean = self.inverse = self.mean_d = self.mean_dz = like
        if self.kind == "none":
            return
        for layer, width in enumerate(rule.hidden):
            name = layer_name("norm", layer)
            self.share[layer, :width] = 1 / width
            self.gamma[layer, :width] = rollout.params[f"{name}.weight"] if rule.norm_affine else 1.0
            if rule.norm_affine:
                self.beta[layer, :width] = rollout.params[f"{name}.bias"]
        if self.grouped:
            self.number = rule.hidden[0] if rule.norm == "instance" else rule.norm_groups
            self.width = rule.hidden[0] // self.number
            self.programs = max(1, rollout.programs // self.batch)
            self.mean_d, self.mean_dz, self.d_gamma, self.d_beta = like.new_zeros((4, self.batch, self.wide))

    def tables(self) -> Norm:
        """What kernels read."""
        return Norm(
            self.share, self.gamma, self.beta, self.mean, self.inverse, self.mean_d, self.mean_dz,
            self.rollout.rule.norm_eps,
        )  # fmt: skip

    def use(self, statistics: Tensor) -> None:
        """Take a step's statistics [2, B, HP]."""
        self.mean, self.inverse = statistics

    def measure(self, t: int, x: Tensor, statistics: Tensor) -> None:
        """Write and take the statistics [2, B, HP] of a state [cells, C]."""
        own, like = self.rollout, self.rollout.like
        tiles = own.tiles["step"]
        counts = like.new_empty((self.programs, self.batch))
        means, squares = like.new_empty((2, self.programs, self.batch, self.wide))
        groups.sum_groups[(self.programs, self.batch)](
            x, counts, means, squares, own.grid, own.tensors(t, own.mean), own.weights(),
            COLUMNS=own.columns, REACH=own.reach, MLP=own.mlp, PRECISION=own.precision, **options(tiles),
        )  # fmt: skip
        self.use(statistics.zero_())  # of the padding 0
        groups.finish_groups[(self.batch, self.number)](
            counts, means, squares, self.mean, self.inverse, self.programs, own.per_sample, own.rule.norm_eps,
            WIDTH=self.width, WP=sizes.padded(self.width), HP=self.wide,
        )  # fmt: skip

    def counted(self, listed: tuple[Tensor, Tensor]) -> Tensor:
        """[cells] uint8: the cells of a list that fire, of `Lists.at`; all where there is none."""
        own = self.rollout
        if not own.lists.needed:
            return torch.ones(own.cells, dtype=torch.uint8, device=own.x.device)
        flags = torch.empty(own.cells, dtype=torch.uint8, device=own.x.device)
        groups.mark_fired[(-(-own.cells // _MARKED),)](*listed, flags, own.cells, BLOCK=_MARKED)
        return flags

    def differentiate(self, t: int, x: Tensor, g: Tensor, counted: Tensor) -> None:
        """A step's share of the norm's gradients, and the averages that flow back through its statistics."""
        own = self.rollout
        shares = own.like.new_empty((self.programs, self.batch, 2, self.wide))
        groups.sum_group_gradients[(self.programs, self.batch)](
            x, g, counted, shares, own.grid, own.tensors(t, own.mean), own.weights(), own.touched,
            COLUMNS=own.columns, REACH=own.reach, MLP=own.mlp, PRECISION=own.precision,
            **options(own.tiles["mlp_backward"]),
        )  # fmt: skip
        groups.finish_group_gradients[(self.batch, self.number)](
            shares, self.gamma, self.d_gamma, self.d_beta, self.mean_d, self.mean_dz, self.programs, own.per_sample,
            WIDTH=self.width, WP=sizes.padded(self.width), HP=self.wide,
        )  # fmt: skip
