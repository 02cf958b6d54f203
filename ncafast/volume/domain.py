"""The ranks that share one grid, and what they do together: sums, largest values, and transfers of cells.

All of a rollout's communication goes through one `Talk`. It is differentiable, and backward repeats it in reverse order
on every rank: each operation hands a token to the next one, so autograd cannot reorder them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed.device_mesh import DeviceMesh


@dataclass(frozen=True)
class Domain:
    """The ranks that share one grid, in the order of their slabs.

    Attributes:
        group: their process group.
        rank: this process among them.
        ranks: their global ranks.
        index: of this domain among those of the mesh, which hold other samples; 0 for a group.
    """

    group: dist.ProcessGroup
    rank: int
    ranks: tuple[int, ...]
    index: int = 0

    @property
    def count(self) -> int:
        """How many ranks share the grid."""
        return len(self.ranks)

    def check_device(self, device: torch.device) -> None:
        """Raise ValueError if the group does not transfer tensors on this kind of device."""
        backends = dist.get_backend_config(self.group)  # such as "cpu:gloo,cuda:nccl"
        if f"{device.type}:" not in backends:
            raise ValueError(
                f"the state is on {device}, for which the ranks' process group has no backend ({backends})"
            )

    @contextmanager
    def together(self, doing: str) -> Iterator[None]:
        """Turns what the backend says when another rank has died, or waits past the group's time limit, into a line."""
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError(
                f"{doing}: rank {self.rank} of {self.count} lost contact with the other ranks ({_reason(error)})"
            ) from None


def _reason(error: RuntimeError) -> str:
    """The first sentence of what a backend says, without its source file in front."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"^\[[^]]*\] *", "", lines[0]).split(". ")[0].strip(". ")


def domain_of(mesh: DeviceMesh | None, group: dist.ProcessGroup | None, axis: str) -> Domain:
    """This process's domain: along one axis of a mesh, or a process group.

    Raises:
        ValueError: neither or both were given, torch.distributed is not initialised, the mesh has no such axis, or this
            process is not part of it.
    """
    if (mesh is None) == (group is None):
        raise ValueError("give either mesh= or group=, the ranks that share the grid")
    if not dist.is_initialized():
        raise ValueError("torch.distributed is not initialised; start the ranks with torchrun and init_process_group()")
    index = 0
    if mesh is not None:
        names = mesh.mesh_dim_names or ()
        if axis not in names:
            raise ValueError(f"the mesh has no axis {axis!r}; its axes are {', '.join(map(repr, names)) or 'unnamed'}")
        place = mesh.get_coordinate()
        if place is None:
            raise ValueError(f"rank {dist.get_rank()} is not part of the mesh")
        for name, size, at in zip(names, mesh.mesh.shape, place, strict=True):
            index = index if name == axis else index * size + at
        group = mesh.get_group(axis)
    assert group is not None
    rank = dist.get_rank(group)
    if rank < 0:
        raise ValueError(f"rank {dist.get_rank()} is not part of the group")
    return Domain(group, rank, tuple(dist.get_process_group_ranks(group)), index)


class Talk:
    """The communication of one rollout.

    Args:
        domain: who takes part.
        shared: tensors that are the same on all ranks, such as parameters. `self.shared` stands for them: its gradients
            are summed over the ranks.
        own: tensors of this rank. `self.own` stands for them.
    """

    def __init__(self, domain: Domain, shared: Sequence[Tensor], own: Sequence[Tensor]) -> None:
        self.domain, self.doing = domain, "rollout"
        self.token, *rest = _Start.apply(domain, len(shared), *shared, *own)
        self.shared, self.own = rest[: len(shared)], rest[len(shared) :]

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over the ranks. Differentiable."""
        out, self.token = _Total.apply(tensor, self.token, self.domain, self.doing)
        return out

    def largest(self, tensor: Tensor) -> Tensor:
        """The largest value over the ranks, element by element, without a gradient."""
        with torch.no_grad(), self.domain.together(self.doing):
            out = tensor.clone()
            dist.all_reduce(out, dist.ReduceOp.MAX, self.domain.group)
        return out


class _Start(torch.autograd.Function):
    """Passes tensors on; backward, which runs last, sums the gradients of the shared ones over the ranks."""

    @staticmethod
    def forward(ctx: Any, domain: Domain, shared: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.domain, ctx.shared = domain, shared
        out = [tensor.view_as(tensor) for tensor in tensors]
        ctx.mark_non_differentiable(*(a for a, needed in zip(out, ctx.needs_input_grad[2:], strict=True) if not needed))
        return torch.zeros((), device=tensors[0].device), *out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor, *grads: Tensor) -> tuple[Any, ...]:
        wanted = [number for number in range(ctx.shared) if ctx.needs_input_grad[number + 2]]
        summed: list[Tensor | None] = [None] * ctx.shared + list(grads[ctx.shared :])
        if wanted:
            flat = torch.cat([grads[number].flatten() for number in wanted])
            with ctx.domain.together("backward"):
                dist.all_reduce(flat, group=ctx.domain.group)
            for number, part in zip(wanted, flat.split([grads[n].numel() for n in wanted]), strict=True):
                summed[number] = part.view_as(grads[number]).to(grads[number].dtype)
        return None, None, *summed


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, token: Tensor, domain: Domain, doing: str) -> tuple[Tensor, Tensor]:
        ctx.domain, ctx.doing = domain, doing
        out = _summed(tensor, domain, doing)
        if not ctx.needs_input_grad[0]:
            ctx.mark_non_differentiable(out)
        return out, token.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, token: Tensor) -> tuple[Any, ...]:
        if not ctx.needs_input_grad[0]:
            return None, token, None, None
        # The loss is the sum of the ranks' losses, so the gradient is the sum of theirs.
        return _summed(grad, ctx.domain, f"backward of {ctx.doing}"), token, None, None


def _summed(tensor: Tensor, domain: Domain, doing: str) -> Tensor:
    out = tensor.clone(memory_format=torch.contiguous_format)
    with domain.together(doing):
        dist.all_reduce(out, group=domain.group)
    return out


def trade(domain: Domain, give: Mapping[int, Tensor], take: Mapping[int, Tensor], doing: str) -> None:
    """Send tensors to ranks of the domain and receive others from them, in place."""
    ops: list[dist.P2POp] = []
    for transfer, tensors in ((dist.isend, give), (dist.irecv, take)):
        for peer, tensor in tensors.items():
            if tensor.numel():
                ops.append(dist.P2POp(transfer, tensor, domain.ranks[peer], domain.group))
    if not ops:
        return
    with domain.together(doing):
        for work in dist.batch_isend_irecv(ops):
            work.wait()
