"""What happens to a gradient between backward and the optimiser."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_


def shape_gradient(parameters: Iterable[Tensor], *, normalise: bool, clip: float) -> Tensor:
    """Normalise, then clip, in place; returns the norm [] of what there was to clip (infinite or NaN if any part is).

    Args:
        parameters: tensors; those without a gradient do not count.
        normalise: divide every tensor's gradient by its norm plus 1e-8 (Mordvintsev et al., "Growing Neural Cellular
            Automata", Distill 2020).
        clip: largest norm over all tensors together; 0 for any.
    """
    found = [p for p in parameters if p.grad is not None]
    if normalise:
        gradients = [p.grad for p in found if p.grad is not None]
        norms = torch._foreach_norm(gradients)
        torch._foreach_add_(norms, 1e-8)
        torch._foreach_div_(gradients, norms)
    return clip_grad_norm_(found, clip or math.inf)


def make_optimiser(
    name: str, parameters: Iterable[Tensor], lr: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD with momentum, by the name that an option gives."""
    weights = list(parameters)
    if name == "sgd":
        return torch.optim.SGD(weights, lr=lr, momentum=betas[0], weight_decay=weight_decay)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(weights, lr=lr, betas=betas, weight_decay=weight_decay)
