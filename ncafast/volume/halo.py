"""Cells of other ranks along the axis that a grid is cut along: halos, and whole grids cut and put together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ncafast.volume.boxes import Box, grown
from ncafast.volume.domain import Domain, Talk, trade

Span = tuple[int, int]  # cells [start, stop) along the axis; past an edge that wraps they go on, as in `boxes.Box`


class Piece(NamedTuple):
    """Cells that one rank holds: `cells` of them, from the rank's own cell `start`."""

    owner: int
    start: int
    cells: int


def spans(sizes: Sequence[int]) -> list[Span]:
    """The span of each rank, from the number of cells that each holds."""
    return list(itertools.pairwise([0, *itertools.accumulate(sizes)]))


def with_halo(held: Sequence[Span], halo: int, wraps: bool) -> list[Span]:
    """Each rank's span with `halo` more cells on each side: cut at the grid's edge, or past it where the grid wraps."""
    size = held[-1][1]
    boxes = [grown(Box((start,), (stop,)), (size,), (halo,), wraps) for start, stop in held]
    return [(box.start[0], box.stop[0]) for box in boxes]


def exchange(x: Tensor, halo: int, dim: int, talk: Talk, wraps: bool, sizes: Sequence[int]) -> Tensor:
    """This rank's slab with cells of its neighbours on each side. Differentiable: backward sends the halo's gradients
    back and adds them.

    Args:
        x: this rank's slab [..., n, ...].
        halo: cells to each side; it may be wider than a neighbour's slab, and is cut at the grid's edge.
        dim: axis that the grid is cut along.
        talk: the communication that this is part of.
        wraps: whether the grid goes on at its other side, as under circular padding.
        sizes: number of cells of each rank's slab.
    """
    held = spans(sizes)
    return move(x, dim, talk, held, with_halo(held, halo, wraps))


def move(x: Tensor, dim: int, talk: Talk, held: Sequence[Span], wanted: Sequence[Span]) -> Tensor:
    """What this rank wants of a grid that the ranks hold. Differentiable.

    Args:
        x: the cells that this rank holds, in its order along axis `dim`.
        dim: axis that the grid is cut along.
        talk: the communication that this is part of.
        held: the span of each rank, one after the other.
        wanted: the span that each rank is to have.
    """
    if list(held) == list(wanted):
        return x
    plan = [list(_pieces(held, span)) for span in wanted]
    out, talk.token = _Move.apply(x, talk.token, dim, plan, talk.domain, talk.doing)
    return out  # type: ignore[no-any-return]


def _pieces(held: Sequence[Span], wanted: Span) -> Iterator[Piece]:
    size = max(stop for _, stop in held)
    at, end = wanted
    while at < end:
        cell = at % size
        owner = next(rank for rank, (start, stop) in enumerate(held) if start <= cell < stop)
        start, stop = held[owner]
        count = min(stop - cell, end - at)
        yield Piece(owner, cell - start, count)
        at += count


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, token: Tensor, dim: int, plan: list[list[Piece]], domain: Domain, doing: str
    ) -> tuple[Tensor, Tensor]:
        ctx.dim, ctx.plan, ctx.domain, ctx.doing, ctx.cells = dim, plan, domain, doing, x.shape[dim]
        give, take = {}, {}
        for peer, pieces in _peers(plan, domain):
            if pieces:
                give[peer] = torch.cat([x.narrow(dim, piece.start, piece.cells) for piece in pieces], dim)
            if cells := sum(piece.cells for piece in plan[domain.rank] if piece.owner == peer):
                take[peer] = _empty(x, dim, cells)
        trade(domain, give, take, doing)
        parts, at = [], dict.fromkeys(take, 0)
        for piece in plan[domain.rank]:
            if piece.owner == domain.rank:
                parts.append(x.narrow(dim, piece.start, piece.cells))
            else:
                parts.append(take[piece.owner].narrow(dim, at[piece.owner], piece.cells))
                at[piece.owner] += piece.cells
        out = torch.cat(parts, dim) if parts else _empty(x, dim, 0)
        if not ctx.needs_input_grad[0]:
            ctx.mark_non_differentiable(out)
        return out, token.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, token: Tensor) -> tuple[Any, ...]:
        if not ctx.needs_input_grad[0]:
            return None, token, None, None, None, None
        dim, plan, domain = ctx.dim, ctx.plan, ctx.domain
        parts = list(zip(plan[domain.rank], grad.split([piece.cells for piece in plan[domain.rank]], dim), strict=True))
        give, take = {}, {}
        for peer, pieces in _peers(plan, domain):
            if back := [part for piece, part in parts if piece.owner == peer]:
                give[peer] = torch.cat(back, dim)
            if pieces:
                take[peer] = _empty(grad, dim, sum(piece.cells for piece in pieces))
        trade(domain, give, take, f"backward of {ctx.doing}")
        out = _empty(grad, dim, ctx.cells).zero_()
        for piece, part in parts:
            if piece.owner == domain.rank:
                out.narrow(dim, piece.start, piece.cells).add_(part)
        for peer, pieces in _peers(plan, domain):
            if pieces:
                for piece, part in zip(pieces, take[peer].split([piece.cells for piece in pieces], dim), strict=True):
                    out.narrow(dim, piece.start, piece.cells).add_(part)
        return out, token, None, None, None, None


def _peers(plan: list[list[Piece]], domain: Domain) -> Iterator[tuple[int, list[Piece]]]:
    """Each other rank, with the pieces of this rank's cells that it wants."""
    for peer, pieces in enumerate(plan):
        if peer != domain.rank:
            yield peer, [piece for piece in pieces if piece.owner == domain.rank]


def _empty(like: Tensor, dim: int, cells: int) -> Tensor:
    return like.new_empty([cells if axis == dim else size for axis, size in enumerate(like.shape)])
