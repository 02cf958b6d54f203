"""The arguments of a rollout on slabs: checked on each rank, and compared between the ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ncafast import check
from ncafast.backends.fusable import MEASURED_NORMS
from ncafast.rule import Rule
from ncafast.trace import Memory, seed_tensor
from ncafast.volume.agreement import agree, digest
from ncafast.volume.domain import Domain
from ncafast.volume.reach import needs_whole_grid, refusal

_LONG_ENOUGH = 8  # cells, for the padding of every filter


@dataclass(frozen=True)
class Wanted:
    """The options of `slabs.rollout_sharded`, which documents them."""

    steps: int
    dim: int = 2
    seed: int | Tensor | None = None
    first_step: int = 0
    first_sample: int | None = None
    extra: Tensor | None = None
    steps_per_exchange: int | None = None
    memory: Memory = "states"
    backend: str | None = None
    precision: str | None = None


class Agreed(NamedTuple):
    """What the ranks agreed on.

    Attributes:
        wanted: the options.
        first_sample: absolute index of the first sample.
        sizes: cells of each rank's slab along the cut axis.
        extra_cut: whether extra channels are cut into slabs as well; else they are equal along that axis.
        seed: [1] int64, on the state's device.
    """

    wanted: Wanted
    first_sample: int
    sizes: list[int]
    extra_cut: bool
    seed: Tensor


def agreed(x: Tensor, rule: Rule, params: Mapping[str, Tensor], wanted: Wanted, domain: Domain) -> Agreed:
    """All ranks call it together: all of them return, or all raise.

    Raises:
        TypeError, ValueError: a wrong argument, on this rank or another, or one that differs between the ranks.
    """
    mistake: Exception | None = None
    alike, own = dict.fromkeys(_ALIKE, 0), dict.fromkeys(_OWN, 0)
    try:
        wanted = _checked(x, rule, params, wanted, domain)
        alike = dict(zip(_ALIKE, _alike(x, rule, params, wanted), strict=True))
        own = dict(zip(_OWN, (x.shape[wanted.dim], _extra_cells(x, wanted), _seed(wanted)), strict=True))
    except (TypeError, ValueError) as error:
        mistake = error
    device = x.device if isinstance(x, Tensor) else torch.device("cpu")
    domain.check_device(device)
    found = agree(domain, alike, own, mistake, device)
    sizes, extra_sizes, seeds = (found[name] for name in _OWN)
    if wanted.seed is not None and len(set(seeds)) > 1:
        raise ValueError("seed differs between the ranks; give all of them the same one, or None")
    row = x.detach().narrow(wanted.dim, 0, 1)
    check.check_state(row.expand(*(sum(sizes) if axis == wanted.dim else -1 for axis in range(x.dim()))), rule)
    cut = _extra_cut(extra_sizes, sizes)
    return Agreed(wanted, found["first_sample"][0], sizes, cut, torch.tensor(seeds[:1], device=x.device))


_OWN = ("cells", "cells of extra", "seed")
_ALIKE = (
    "steps", "dim", "first_step", "first_sample", "steps_per_exchange", "batch", "the size of the other axes", "dtype",
    "rule", "params", "requires_grad", "whether a seed is given", "the shape of extra", "memory", "backend",
)  # fmt: skip


def _alike(x: Tensor, rule: Rule, params: Mapping[str, Tensor], wanted: Wanted) -> tuple[int, ...]:
    """What must be equal on all ranks."""
    values, extra = [params[name] for name in rule.param_shapes()], wanted.extra
    gradients = [torch.is_grad_enabled() and t is not None and t.requires_grad for t in (x, extra, *values)]
    extra_shape = None if extra is None else _without(extra.shape, wanted.dim + extra.dim() - x.dim())
    assert wanted.first_sample is not None
    return (
        wanted.steps, wanted.dim, wanted.first_step, wanted.first_sample, wanted.steps_per_exchange or 0, x.shape[0],
        digest(_without(x.shape, wanted.dim)), digest(x.dtype), digest(rule.to_json()), digest(*values),
        digest(gradients), int(wanted.seed is not None), digest(extra_shape), digest(wanted.memory),
        digest(wanted.backend),
    )  # fmt: skip


def _without(shape: Sequence[int], dim: int) -> list[int]:
    return [size for axis, size in enumerate(shape) if axis != dim]


def _seed(wanted: Wanted) -> int:
    """The given seed, or one that counts if this is the first rank."""
    if wanted.seed is None:
        return int(torch.randint(-(2**63), 2**63 - 1, (1,)))
    return int(seed_tensor(wanted.seed, torch.device("cpu")))


def _checked(x: Tensor, rule: Rule, params: Mapping[str, Tensor], wanted: Wanted, domain: Domain) -> Wanted:
    """The options made plain, or an error about them: as far as one rank can tell."""
    if not isinstance(rule, Rule):
        raise TypeError(f"rule must be an ncafast.Rule, got {type(rule).__name__}")
    check.check_floating("x_local", x)
    dim = check.check_count("dim", wanted.dim, 2)
    if dim >= x.dim():
        raise ValueError(f"dim={dim} is no spatial axis of x_local, whose shape is {list(x.shape)}")
    if not x.shape[dim]:
        raise ValueError(f"rank {domain.rank} has a slab without cells: x_local has shape {list(x.shape)}")
    first_sample = domain.index * x.shape[0] if wanted.first_sample is None else wanted.first_sample
    wanted = replace(wanted, dim=dim, first_sample=first_sample, memory=check.check_memory(wanted.memory))
    if wanted.steps_per_exchange is not None:
        wanted = replace(
            wanted, steps_per_exchange=check.check_count("steps_per_exchange", wanted.steps_per_exchange, 1)
        )
    if wanted.seed is not None:
        wanted = replace(wanted, seed=check.check_seed(wanted.seed))
    extra = _extra_row(x, wanted)
    row = x.narrow(dim, 0, 1).expand(*(_LONG_ENOUGH if axis == dim else -1 for axis in range(x.dim())))
    counts = check.check_rollout(row, rule, params, wanted.steps, wanted.first_step, first_sample, None, extra)
    if domain.count > 1:
        _check_slabs(rule, params, wanted)
    return replace(wanted, steps=counts[0], first_step=counts[1], first_sample=counts[2])


def _check_slabs(rule: Rule, params: Mapping[str, Tensor], wanted: Wanted) -> None:
    reason = refusal(rule)
    if reason is None and rule.norm in MEASURED_NORMS and check.per_sample(rule, params):
        reason = f"norm={rule.norm!r} with parameters per sample"
    if reason is not None:
        raise ValueError(f"this rule cannot run on slabs: {reason}")
    if needs_whole_grid(rule) and (wanted.steps_per_exchange or 1) > 1:
        raise ValueError(
            f"steps_per_exchange={wanted.steps_per_exchange} must be 1 or None: with norm={rule.norm!r} and "
            f"pooled={rule.pooled!r} each step needs numbers of the whole grid"
        )


def _extra_row(x: Tensor, wanted: Wanted) -> Tensor | None:
    """Extra channels of one row of cells, if they are cut into slabs."""
    extra = wanted.extra
    if isinstance(extra, Tensor) and extra.dim() >= x.dim() and _extra_cells(x, wanted) == x.shape[wanted.dim]:
        return extra.narrow(wanted.dim + extra.dim() - x.dim(), 0, 1)
    return extra


def _extra_cells(x: Tensor, wanted: Wanted) -> int:
    extra = wanted.extra
    return 0 if extra is None else extra.shape[wanted.dim + extra.dim() - x.dim()]


def _extra_cut(cells: Sequence[int], sizes: Sequence[int]) -> bool:
    if list(cells) == list(sizes):
        return True
    if len(set(cells)) == 1 and cells[0] in (0, 1):
        return False
    raise ValueError(f"extra has {list(cells)} cells on the ranks along the axis of the slabs, x_local {list(sizes)}")
