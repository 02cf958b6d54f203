"""perception(): what the hidden layers read of a state, for decoders that read it too."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ncafast import check
from ncafast.backends.reference import perceive
from ncafast.half import widened
from ncafast.rule import Rule


def perception(
    x: Tensor,  # [B, C, *S]
    rule: Rule,
    params: Mapping[str, Tensor],
    *,
    extra: Tensor | None = None,  # [B or 1, E, *(S or 1)]
) -> Tensor:
    """What the hidden layers read of a state: itself, its filtered channels, extra channels. Differentiable.

    For models that decode the last state together with its perception: `perception(rollout(x, rule, params, steps),
    rule, params)`. It runs in plain PyTorch on every device.

    Args:
        x: state, as for `ncafast.rollout`.
        rule: what one step does.
        params: tensors by name, as for `ncafast.rollout`; each may have an axis B in front.
        extra: the rule's extra channels for this state.

    Returns:
        [B, P, *S] with P = rule.perception_size, in the dtype of x (float32 under torch.autocast): the state's channels
        if rule.identity, then those of filter 0, of filter 1, ..., then extra channels.

    Raises:
        TypeError, ValueError: a wrong argument; the message names it and says what is allowed.
    """
    if extra is not None and isinstance(extra, Tensor) and extra.dim() > x.dim():
        raise ValueError(f"extra has shape {list(extra.shape)}, with an axis of steps; give that of one step")
    check.check_rollout(x, rule, params, 1, 0, 0, None, extra)
    filters = {name: widened(p) for name, p in params.items() if name.startswith("perceive.")}
    dtype = widened(x).dtype if torch.is_autocast_enabled(x.device.type) else x.dtype
    with torch.autocast(x.device.type, enabled=False):
        seen = _perceive(rule, widened(x), filters, None if extra is None else widened(extra))
    return seen.to(dtype)


def _perceive(rule: Rule, x: Tensor, filters: dict[str, Tensor], extra: Tensor | None) -> Tensor:
    shapes = rule.param_shapes()
    own = {name: 0 if p.dim() > len(shapes[name]) else None for name, p in filters.items()}
    if not any(dim == 0 for dim in own.values()):
        return perceive(rule, x, filters, extra)
    each = None if extra is None else extra.expand(x.shape[0], *extra.shape[1:])

    def alone(x: Tensor, filters: dict[str, Tensor], extra: Tensor | None) -> Tensor:
        return perceive(rule, x[None], filters, None if extra is None else extra[None])[0]

    return torch.vmap(alone, in_dims=(0, own, None if each is None else 0))(x, filters, each)
