"""Grids cut into slabs, and put together again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from ncafast.volume.domain import Domain, Talk, domain_of
from ncafast.volume.halo import move, spans


def scatter(
    x: Tensor | None, mesh: DeviceMesh, axis: str = "domain", *, dim: int = 2, sizes: Sequence[int] | None = None
) -> Tensor:
    """Cut a grid that the first rank holds: each rank gets its slab.

    Args:
        x: the grid [B, C, *S] on the first rank of `axis`; not looked at on the others, where it may be None.
        mesh: ranks by axis; those along `axis` share the grid.
        axis: the mesh's axis.
        dim: axis to cut along.
        sizes: cells of each slab; None makes them as equal as they can be.

    Returns:
        This rank's slab, without a gradient.

    Raises:
        ValueError: the mesh has no such axis, or sizes that do not add up to the grid's.
    """
    domain = domain_of(mesh, None, axis)
    facts: list[Any] = [None]
    if domain.rank == 0:
        facts = [(list(x.shape), x.dtype)] if isinstance(x, Tensor) else [None]
    with domain.together("scatter"):
        dist.broadcast_object_list(facts, domain.ranks[0], domain.group)
    if facts[0] is None:
        raise ValueError("scatter needs the grid on the first rank of the mesh's axis, where x is no tensor")
    shape, dtype = facts[0]
    cells = shape[dim]
    sizes = list(sizes) if sizes is not None else [
        cells * (rank + 1) // domain.count - cells * rank // domain.count for rank in range(domain.count)
    ]  # fmt: skip
    if len(sizes) != domain.count or sum(sizes) != cells or min(sizes) < 1:
        raise ValueError(f"sizes={sizes} must be {domain.count} sizes of at least 1 that add up to {cells} cells")
    if domain.rank:
        shape[dim] = 0
        x = torch.empty(shape, dtype=dtype, device=mesh.device_type)
    assert x is not None
    held = spans([cells] + [0] * (domain.count - 1))
    return _moved(x.detach(), dim, domain, held, spans(sizes), "scatter")


def gather(x_local: Tensor, mesh: DeviceMesh, axis: str = "domain", *, dim: int = 2) -> Tensor:
    """Put a grid together from the ranks' slabs, on every rank.

    Args:
        x_local: this rank's slab.
        mesh: ranks by axis; those along `axis` share the grid.
        axis: the mesh's axis.
        dim: axis that the grid is cut along.

    Returns:
        The grid, without a gradient: compute the loss from the slabs.

    Raises:
        ValueError: the mesh has no such axis.
    """
    domain = domain_of(mesh, None, axis)
    mine = torch.tensor([x_local.shape[dim]], device=x_local.device)
    found = [torch.empty_like(mine) for _ in domain.ranks]
    with domain.together("gather"):
        dist.all_gather(found, mine, group=domain.group)
    sizes = [int(size) for size in found]
    return _moved(x_local.detach(), dim, domain, spans(sizes), [(0, sum(sizes))] * domain.count, "gather")


def _moved(
    x: Tensor, dim: int, domain: Domain, held: Sequence[tuple[int, int]], wanted: Sequence[tuple[int, int]], doing: str
) -> Tensor:
    talk = Talk(domain, [], [x])
    talk.doing = doing
    return move(talk.own[0], dim, talk, held, wanted).clone()
