"""rollout_tiled(): the whole volume's rollout, tile by tile, on one device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ncafast.rule import Rule
from ncafast.volume.choose import choose
from ncafast.volume.job import checked
from ncafast.volume.plan import PassPlan
from ncafast.volume.run_tiles import Passes


def rollout_tiled(
    source: Any,  # [B, C, *S]
    rule: Rule,
    params: Mapping[str, Tensor],
    steps: int,
    *,
    out: Any = None,  # [B, C, *S]
    tile: int | Sequence[int] | None = None,
    steps_per_pass: int | None = None,
    memory_limit: int | str | None = None,
    progress: bool = True,
    seed: int | Tensor | None = None,
    first_step: int = 0,
    first_sample: int = 0,
    extra: Tensor | None = None,  # [B or 1, E, *(S or 1)] or [T, ...]
    backend: str | None = None,
    device: torch.device | str | None = None,
) -> Any:
    """Run `steps` steps of `rule` on a state that need not fit in memory, with the result of `ncafast.rollout`.

    The state is read tile by tile, each with the cells around it that a few steps need. Fire masks are equal bit for
    bit, and numbers within the backend's rounding. Nothing of this is differentiable.

    Args:
        source: state [B, C, *S] in float16, float32 or float64 (a tensor also in bfloat16): a tensor, a numpy array or
            memory map, a zarr array, or another that is read by slices, such as a dataset of h5py. It is not changed,
            unless it is `out` too.
        rule: what one step does.
        params: tensors by name, as for `ncafast.rollout`.
        steps: number of steps T; 0 copies.
        out: where the result goes, of source's shape and dtype, of any kind that source may be of; also source itself,
            which then keeps its numbers until the last pass. What was in another out is lost from the start, and after
            an error its numbers are of no use. None takes a new tensor, or a new numpy array if source is no tensor.
        tile: cells per axis of a tile, or one number for all axes; None chooses.
        steps_per_pass: steps that a tile runs at most before its result is stored; None chooses. 1 under norms batch,
            group and instance and with pooled channels, where each step measures the whole volume.
        memory_limit: bytes that this process may hold in all, on the GPU if it computes there, or a size such as "6GB".
            Memory maps do not count. None: most of what is free. Tiles are chosen so that they fit.
        progress: show a bar where tqdm is installed.
        seed: 64-bit int or int64 tensor of one element. None draws one from torch's generator.
        first_step: absolute index of the first step.
        first_sample: absolute index of the first sample.
        extra: the rule's extra channels, [B or 1, E, *(S or 1)], with a leading axis T when they change per step.
        backend: name of a backend; None takes the fastest that can run this.
        device: where tiles are computed; None is where the parameters are.

    Returns:
        out, holding x_T.

    Raises:
        TypeError, ValueError: a wrong argument, a rule that cannot run in parts (see docs/volumes.md), a file that was
            cut short.
        MemoryError: no tile is small enough, or a new out does not fit in memory.
        OSError: the disk is full, or cannot be read or written.
        RuntimeError: the backend asked for cannot run this.
    """
    job = checked(source, rule, params, steps, out, extra, first_step, first_sample, seed, backend, device)
    plan = choose(job.volume, tile, steps_per_pass, memory_limit)
    result, target = job.made(plan)
    with torch.no_grad(), torch.autocast(job.volume.device.type, enabled=False), Passes(job, plan, target) as passes:
        passes.run(progress)
    return result


def plan_tiled(
    source: Any,
    rule: Rule,
    params: Mapping[str, Tensor],
    steps: int,
    *,
    out: Any = None,
    tile: int | Sequence[int] | None = None,
    steps_per_pass: int | None = None,
    memory_limit: int | str | None = None,
    extra: Tensor | None = None,
    backend: str | None = None,
    device: torch.device | str | None = None,
) -> PassPlan:
    """What `rollout_tiled` would do with these arguments, which it documents. `print` it.

    Raises:
        TypeError, ValueError, MemoryError, RuntimeError: as `rollout_tiled`.
    """
    job = checked(source, rule, params, steps, out, extra, 0, 0, 0, backend, device)
    return choose(job.volume, tile, steps_per_pass, memory_limit)
