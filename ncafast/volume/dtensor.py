"""Rollouts of distributed tensors (torch.distributed.tensor.DTensor) that are sharded along one axis of the grid.

DTensor's own convolution takes no part: sharded along the image it reads nothing of the neighbours, without an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard

from ncafast.rule import Rule
from ncafast.volume.slabs import rollout_sharded


def rollout_dtensor(
    x: DTensor, rule: Rule, params: Mapping[str, Tensor], steps: int, *, axis: str = "domain", **options: Any
) -> DTensor:
    """`rollout_sharded` of the local tensors of x, whose mesh and placements say how the grid is cut.

    Args:
        x: state [B, C, *S], placed as Shard(d) with d >= 2 along `axis` of its mesh, and as Shard(0) or Replicate()
            along the others.
        rule: what one step does.
        params: plain tensors by name, equal on all ranks.
        steps: number of steps.
        axis: the mesh's axis whose ranks share the grid.
        **options: those of `rollout_sharded` but mesh, group, axis and dim. Extra channels are plain tensors.

    Returns:
        x_T, placed as x. Differentiable.

    Raises:
        TypeError: x is no DTensor.
        ValueError: another placement, or as `rollout_sharded`.
    """
    if not isinstance(x, DTensor):
        raise TypeError(f"x must be a DTensor, got {type(x).__name__}; rollout_sharded takes plain slabs")
    names = x.device_mesh.mesh_dim_names or ()
    placed = dict(zip(names, x.placements, strict=False))
    cut = placed.pop(axis, None)
    if type(cut) is not Shard or cut.dim < 2:
        raise ValueError(
            f"x must be Shard(d) with d >= 2 along the mesh's axis {axis!r}, got {x.placements} on {names}"
        )
    if any(not (other == Shard(0) or isinstance(other, Replicate)) for other in placed.values()):
        raise ValueError(
            f"x must be Shard(0) or Replicate() along the mesh's other axes, got {x.placements} on {names}"
        )
    if "first_sample" not in options and all(isinstance(other, Replicate) for other in placed.values()):
        options["first_sample"] = 0  # copies of one batch
    out = rollout_sharded(x.to_local(), rule, params, steps, mesh=x.device_mesh, axis=axis, dim=cut.dim, **options)
    stride = [1]
    for size in reversed(x.shape[1:]):
        stride.insert(0, stride[0] * size)
    return DTensor.from_local(out, x.device_mesh, x.placements, run_check=False, shape=x.shape, stride=tuple(stride))
