"""Models whose rollouts several ranks share, while each rank holds whole states between rollouts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed.device_mesh import DeviceMesh

from ncafast.film import with_film
from ncafast.half import widened
from ncafast.rule import Rule
from ncafast.trace import Options, Trace, run_by, trace_at_once
from ncafast.volume.domain import Domain, domain_of, trade
from ncafast.volume.slab_call import Wanted
from ncafast.volume.slabs import run


@contextmanager
def sharding(mesh: DeviceMesh, axis: str = "domain") -> Iterator[None]:
    """Inside, every rollout is one on slabs: those of `NCA`, of `ncafast.models` and of `ncafast.rollout`.

    All ranks run the same program on the same whole tensors. A rollout cuts its state along its longest axis, each rank
    computes its slab and keeps its history, and all get the whole result. So do gradients in backward, which may be
    called inside or after it: where every rank computes the same loss from the whole result, each has the gradient that
    one device has, in equal bits. It holds for all threads of the process. Grids with fewer cells along that axis than
    there are ranks run whole on each.

    Args:
        mesh: ranks by axis; those along `axis` share the rollouts.
        axis: the mesh's axis.

    Raises:
        ValueError: the mesh has no such axis; by a rollout inside to which `states` or `fire_mask` is given; else as
            `rollout_sharded`.
    """
    domain = domain_of(mesh, None, axis)
    with run_by(lambda x, rule, params, steps, options: _trace(x, rule, params, steps, options, domain)):
        yield


def _trace(x: Tensor, rule: Rule, params: Mapping[str, Tensor], steps: int, options: Options, domain: Domain) -> Trace:
    if options.states is not None or options.fire_mask is not None:
        raise ValueError("states= and fire_mask= are not possible inside sharding(); call the rollout outside of it")
    longest = max(range(2, x.dim()), key=lambda dim: x.shape[dim], default=0)
    if not longest or x.shape[longest] < domain.count or not x.shape[0]:
        return trace_at_once(x, rule, params, steps, options)
    if options.film is not None:
        params = with_film(rule, params, x, options.film)
    extra = options.extra
    if torch.is_autocast_enabled(x.device.type):  # as in an ordinary rollout
        x, params = widened(x), {name: widened(tensor) for name, tensor in params.items()}
        extra = None if extra is None else widened(extra)
    with torch.autocast(x.device.type, enabled=False):
        where = options.seed, options.first_step, options.first_sample
        how = options.memory, options.backend, options.precision
        return _on_slabs(x, rule, params, Wanted(steps, longest, *where, extra, None, *how), domain)


def _on_slabs(x: Tensor, rule: Rule, params: Mapping[str, Tensor], wanted: Wanted, domain: Domain) -> Trace:
    cells, dim, extra = x.shape[wanted.dim], wanted.dim, wanted.extra
    edges = [cells * rank // domain.count for rank in range(domain.count + 1)]
    sizes = [stop - start for start, stop in zip(edges, edges[1:], strict=False)]
    if extra is not None:
        cut = dim + extra.dim() - x.dim()
        wanted = replace(wanted, extra=extra if extra.shape[cut] == 1 else _Slab.apply(extra, cut, sizes, domain))
    done = run(_Slab.apply(x, dim, sizes, domain), rule, params, wanted, domain)
    return Trace(_Whole.apply(done.out, dim, sizes, domain), None, done.stats)


class _Slab(torch.autograd.Function):
    """This rank's part of a tensor that all ranks hold; its gradient is put together from theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, sizes: Sequence[int], domain: Domain) -> Tensor:
        ctx.dim, ctx.sizes, ctx.domain = dim, sizes, domain
        return x.split(list(sizes), dim)[domain.rank].contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return _joined(grad, ctx.dim, ctx.sizes, ctx.domain, "backward"), None, None, None


class _Whole(torch.autograd.Function):
    """The tensor that the ranks hold slabs of, on all of them, where all go on alike."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, sizes: Sequence[int], domain: Domain) -> Tensor:
        ctx.dim, ctx.sizes, ctx.rank = dim, sizes, domain.rank
        return _joined(x, dim, sizes, domain, "end of the rollout")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return grad.split(list(ctx.sizes), ctx.dim)[ctx.rank].contiguous(), None, None, None


def _joined(part: Tensor, dim: int, sizes: Sequence[int], domain: Domain, doing: str) -> Tensor:
    part = part.contiguous()
    peers = [peer for peer in range(domain.count) if peer != domain.rank]
    shapes = [[size if axis == dim else n for axis, n in enumerate(part.shape)] for size in sizes]
    parts = [part if peer == domain.rank else part.new_empty(shapes[peer]) for peer in range(domain.count)]
    trade(domain, dict.fromkeys(peers, part), {peer: parts[peer] for peer in peers}, doing)
    return torch.cat(parts, dim)
