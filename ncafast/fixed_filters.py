"""Filters that are fixed: by name or as a tensor, and what they say of a rule's number and size of filters."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ncafast import check
from ncafast import filters as _filters
from ncafast.rule import MAX_KERNEL, Rule
from ncafast.values import shown


def is_learned(filters: str | Sequence[str] | Tensor) -> bool:
    """Whether these are not fixed."""
    return isinstance(filters, str) and filters == "learned"


def fixed_filters(filters: str | Sequence[str] | Tensor, ndim: int) -> Tensor:
    """[F, *k] or [F, C, *k]: those that have these names, or the given ones.

    Raises:
        TypeError, ValueError: neither names nor a tensor of an allowed shape.
    """
    if isinstance(filters, Tensor):
        return _given_filters(filters, ndim)
    names = [filters] if isinstance(filters, str) else list(filters) if isinstance(filters, Sequence) else [None]
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"filters must be 'learned', one or several names, or a tensor, got {shown(filters)}")
    if not names:
        raise ValueError(f"filters={shown(filters)} names no filter; for none give filters='learned', num_filters=0")
    return _filters.bank(names, ndim)


def _given_filters(filters: Tensor, ndim: int) -> Tensor:
    check.check_dense("filters", filters)
    sizes = list(filters.shape)
    if filters.dim() not in (ndim + 1, ndim + 2):
        raise ValueError(f"filters has shape {sizes}; allowed is [F, *k] or [F, C, *k] with {ndim}-D k")
    if any(size % 2 == 0 or size > MAX_KERNEL for size in sizes[-ndim:]) or not sizes[0]:
        raise ValueError(f"filters has shape {sizes}; F must be at least 1, and k odd, 1 to {MAX_KERNEL} per axis")
    if filters.is_complex():
        raise TypeError(f"filters must be real, got {filters.dtype}")
    values = filters.detach().float()
    if not (values.is_meta or values.isfinite().all()):
        raise ValueError("filters has values that are not finite in float32")
    return values


def fixed_sizes(
    filters: str | Sequence[str] | Tensor,
    fixed: Tensor,  # [F, *k] or [F, C, *k]
    ndim: int,
    num_filters: int | None,
    kernel_size: int | Sequence[int] | None,
) -> tuple[int, tuple[int, ...]]:
    """Number and size of fixed filters; num_filters and kernel_size must agree with them if they are given."""
    number, size = fixed.shape[0], tuple(fixed.shape[-ndim:])
    spelled = "a tensor" if isinstance(filters, Tensor) else shown(filters)
    if num_filters is not None and num_filters != number:
        raise ValueError(f"num_filters={shown(num_filters)} does not fit filters={spelled}, which are {number}")
    if kernel_size is not None and Rule(ndim=ndim, kernel_size=kernel_size).kernel_size != size:  # type: ignore[arg-type]
        raise ValueError(f"kernel_size={shown(kernel_size)} does not fit filters={spelled}, which are of size {size}")
    return number, size


def per_channel(fixed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """[F, *k] or [F, C, *k] -> [F, C, *k], a copy."""
    full = fixed if fixed.dim() == len(shape) else fixed[:, None]
    try:
        return full.expand(shape).clone()
    except RuntimeError:
        raise ValueError(f"filters has shape {list(fixed.shape)}, the rule needs {list(shape)}") from None
