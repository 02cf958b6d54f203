"""What a loss function may return, and what is wrong with what it did return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_WANTED = "return a tensor [] that is a mean over the batch, or several in a dict by name"


def terms_of(losses: Any) -> dict[str, Tensor]:
    """The losses by name. Raises ValueError, which says what to return, for what cannot be minimised."""
    terms = losses if isinstance(losses, Mapping) else {"loss": losses}
    if not terms:
        raise ValueError(f"the loss is an empty dict; {_WANTED}")
    for name, value in terms.items():
        what = "the loss" if terms is not losses else f"the loss {name!r}"
        if not isinstance(value, Tensor):
            kind = "None (is a return missing?)" if value is None else f"a {type(value).__name__}"
            raise ValueError(f"{what} is {kind}; {_WANTED}, without .item() or float()")
        if value.dim():
            raise ValueError(f"{what} has shape {list(value.shape)}, and one number is needed; take its .mean()")
        if not value.is_floating_point():
            raise ValueError(f"{what} is {value.dtype}, and a floating-point number is needed; {_WANTED}")
    if not any(value.requires_grad for value in terms.values()):
        raise ValueError(
            "the loss does not depend on any weight that is trained: compute it from what the model returns, without "
            "torch.no_grad(), .detach() or .argmax()"
        )
    return dict(terms)


def holds_nan(batch: Any) -> bool:
    """Whether a tensor in a batch (a tensor, or tuples, lists and dicts of them) holds NaN or infinite values."""
    if isinstance(batch, Mapping):
        return any(map(holds_nan, batch.values()))
    if isinstance(batch, (tuple, list)):
        return any(map(holds_nan, batch))
    return isinstance(batch, Tensor) and batch.is_floating_point() and not bool(torch.isfinite(batch).all())
