"""The processes that train together: alone, or as torchrun starts them (gloo on CPUs, NCCL on GPUs).

Every process holds the whole model and the same optimiser. A training step's samples are cut into equal
micro-batches, in order, one or several per process; the gradients of their mean losses, weighted by their share of the
samples, are summed in one exchange. So all processes take the step that one process would take with the whole batch.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ncafast.rule import Rule
from ncafast.utils.devices import resolve_device

_PATIENCE = timedelta(hours=2)  # the others wait while the first process measures and draws


class Ranks:
    """This process among all.

    Args:
        rank: its number.
        count: processes with samples of their own.
        shared: processes that work on the same samples.
    """

    def __init__(self, rank: int = 0, count: int = 1, shared: int = 1) -> None:
        self.rank, self.count, self.shared = rank, count, shared

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def micro_batches(self, samples: int, accumulate: int) -> Iterator[range]:
        """The indices in the whole batch that this process works on, one range per micro-batch; never an empty one."""
        total = self.count * accumulate
        size = -(-samples // total)
        first = self.rank // self.shared * accumulate
        for part in range(first, first + accumulate):
            indices = range(min(part * size, samples), min((part + 1) * size, samples))
            if indices:
                yield indices

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Sum each tensor over the processes, in place, in one exchange."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten().float() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def gather(self, part: Tensor, samples: int, accumulate: int) -> Tensor:
        """The tensor of the whole batch [samples, ...] from each process's part of it."""
        if self.count == 1:
            return part
        most = -(-samples // (self.count * accumulate)) * accumulate
        padded = part.new_zeros(most, *part.shape[1:])
        padded[: len(part)] = part
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        dist.all_gather(parts, padded)
        sizes = [
            sum(map(len, Ranks(rank, self.count).micro_batches(samples, accumulate))) for rank in range(self.count)
        ]
        return torch.cat([tensor[:size] for tensor, size in zip(parts, sizes, strict=True)])

    def told(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        if self.count == self.shared == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]


def joined(device: str, shared: int = 1) -> tuple[Ranks, torch.device]:
    """This process among those torchrun started, if it did, and the device it computes on.

    Raises:
        ValueError: `shared` is neither 1 nor the number of processes.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if shared not in (1, count):
        raise ValueError(f"domain_parallel={shared} must be 1, or the number of processes under torchrun, now {count}")
    if count == 1 and not dist.is_initialized():
        return Ranks(), resolve_device(device)
    chosen = resolve_device(device)
    if chosen.type == "cuda" and chosen.index is None:
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    if not dist.is_initialized():  # once: torchrun's store cannot bring the same processes together twice
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
        atexit.register(_leave)
    return Ranks(dist.get_rank(), dist.get_world_size() // shared, shared), chosen


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def check_norm(model: nn.Module, ranks: Ranks, local_norm: bool) -> None:
    """Raise ValueError if the processes would normalise by different statistics, unless that is wanted."""
    if ranks.count == 1 or local_norm:
        return
    for module in model.modules():
        rule = getattr(module, "rule", None)
        if (isinstance(rule, Rule) and rule.norm in ("batch", "running")) or isinstance(
            module, nn.modules.batchnorm._BatchNorm
        ):
            raise ValueError(
                f"{type(module).__name__} normalises by the statistics of its batch, which a rollout cannot take over "
                f"{ranks.count} processes: train in one process, choose another norm, or give --local-norm (in "
                "Python Settings.local_norm) to let each process normalise by its own samples"
            )
