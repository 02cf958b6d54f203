"""The arguments of a tiled rollout, checked before any cell is read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ncafast import backends, check
from ncafast.backends.fusable import MEASURED_NORMS
from ncafast.rule import Rule
from ncafast.trace import seed_tensor
from ncafast.volume.array import Array
from ncafast.volume.arrays import shared, wrap
from ncafast.volume.plan import PassPlan, Volume
from ncafast.volume.tensor_array import TensorArray

_SAMPLE = 64  # cells per axis of the state that a backend is asked about


@dataclass(frozen=True)
class Job:
    """What is run, on which arrays. Tensors are on the device that computes.

    Attributes:
        volume: what a plan depends on.
        source: the first state.
        out: the argument; None where it is still to be made.
        params: tensors by name.
        extra: channels of the whole grid, [B or 1, E, *(S or 1)] or [T, ...].
        first_step: absolute index.
        first_sample: absolute index.
        seed: [1] int64.
        backend: the one that was asked for.
    """

    volume: Volume
    source: Array
    out: Any
    params: dict[str, Tensor]
    extra: Tensor | None
    first_step: int
    first_sample: int
    seed: Tensor
    backend: str | None

    def made(self, plan: PassPlan) -> tuple[Any, Array]:
        """The result, still empty, and how it is written."""
        if plan.cut and self.volume.rule.norm in MEASURED_NORMS and check.per_sample(self.volume.rule, self.params):
            raise ValueError(f"norm={self.volume.rule.norm!r} with parameters per sample cannot run in tiles")
        result = _empty(self.source) if self.out is None else self.out
        target = wrap("out", result)
        target.reserve()
        return result, target


def checked(
    source: Any,
    rule: Rule,
    params: Mapping[str, Tensor],
    steps: int,
    out: Any,
    extra: Tensor | None,
    first_step: int,
    first_sample: int,
    seed: int | Tensor | None,
    backend: str | None,
    device: torch.device | str | None,
) -> Job:
    """The arguments of `rollout_tiled` as a job.

    Raises:
        TypeError, ValueError, RuntimeError: as `rollout_tiled`.
    """
    state = wrap("source", source)
    tensors = [p for p in params.values() if isinstance(p, Tensor)] if isinstance(params, Mapping) else []
    where = check.check_device(device) if device is not None or not tensors else tensors[0].device
    if device is not None and isinstance(params, Mapping):
        params = {name: p.to(where) if isinstance(p, Tensor) else p for name, p in params.items()}
    extra = extra.to(where) if isinstance(extra, Tensor) else extra
    with _about_source():
        probe = torch.empty((), dtype=state.dtype, device=where).expand(state.shape)
        counts = check.check_rollout(probe, rule, params, steps, first_step, first_sample, None, extra)
    sample = (*state.shape[:2], *(min(size, _SAMPLE) for size in state.shape[2:]))
    chosen = backends.choose(rule, probe.new_empty(()).expand(sample), backend)
    target = None if out is None else _checked_out(out, state)
    like = target or (state if isinstance(state, TensorArray) else None)
    volume = Volume(
        rule,
        state.shape,
        state.dtype,
        counts[0],
        chosen,
        where,
        like.grain if like else (),
        like is not None and like.on_disk,
        target is not None and shared(state, target),
        target.own if target else _bytes(state),
        not isinstance(state, TensorArray),
        target is not None and target.write_only,
    )
    drawn = _seed(seed, rule, where)
    return Job(volume, state, out, dict(params), extra, counts[1], counts[2], drawn, backend)


@contextmanager
def _about_source() -> Iterator[None]:
    """Errors of a rollout's x are those of source here."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(re.sub(r"^x\b", "source", str(error))) from None


def _checked_out(out: Any, source: Array) -> Array:
    target = wrap("out", out)
    if target.shape != source.shape or target.dtype != source.dtype:
        kinds = (f"{list(array.shape)} of {str(array.dtype).removeprefix('torch.')}" for array in (target, source))
        raise ValueError("out is {}, but source is {}; both must agree".format(*kinds))
    return target


def _seed(seed: int | Tensor | None, rule: Rule, device: torch.device) -> Tensor:
    """The given seed, or a fresh one where cells fire at random, drawn as `ncafast.rollout` does."""
    if seed is not None:
        return seed_tensor(check.check_seed(seed), device)
    if rule.fire_rate == 1.0:
        return torch.zeros(1, dtype=torch.int64, device=device)
    return torch.randint(-(2**63), 2**63 - 1, (1,), dtype=torch.int64, device=device)


def _empty(source: Array) -> Any:
    if isinstance(source, TensorArray):
        return torch.empty(source.shape, dtype=source.dtype, device=source.device)
    return np.empty(source.shape, str(source.dtype).removeprefix("torch."))


def _bytes(array: Array) -> int:
    size = array.dtype.itemsize
    for length in array.shape:
        size *= length
    return size
