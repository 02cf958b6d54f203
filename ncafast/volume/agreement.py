"""One call of all ranks: that they mean the same rollout, and what each of them brings, in one exchange of numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from ncafast.volume.domain import Domain

_MISTAKE = "mistake"


def agree(
    domain: Domain,
    alike: Mapping[str, int],  # what must be equal on all ranks
    own: Mapping[str, int],  # what may differ
    mistake: Exception | None,  # why this rank cannot take part
    device: torch.device,
) -> dict[str, list[int]]:
    """Each rank's numbers by name. The names must be the same on all ranks.

    Raises:
        ValueError: a number of `alike` differs between ranks, or another rank has made a mistake.
        Exception: `mistake`.
    """
    names = [_MISTAKE, *alike, *own]
    mine = torch.tensor([int(mistake is not None), *alike.values(), *own.values()], dtype=torch.int64, device=device)
    gathered = [torch.empty_like(mine) for _ in domain.ranks]
    with domain.together("start of the rollout"):
        dist.all_gather(gathered, mine, group=domain.group)
    found = dict(zip(names, map(list, zip(*(row.tolist() for row in gathered), strict=True)), strict=True))
    if mistake is not None:
        raise mistake
    for rank, wrong in enumerate(found[_MISTAKE]):
        if wrong:
            raise ValueError(f"rank {rank} of {domain.count} was called with a wrong argument; its own error names it")
    for name in alike:
        for rank, value in enumerate(found[name]):
            if value != found[name][0]:
                raise ValueError(f"{name} differs between the ranks: {_shown(found[name][0], value, rank)}")
    return found


def _shown(first: int, other: int, rank: int) -> str:
    if max(abs(first), abs(other)) >= _HASHES:
        return f"ranks 0 and {rank} have different ones"
    return f"{first} on rank 0, {other} on rank {rank}"


_HASHES = 2**40  # numbers from here on are hashes, seeds or the like, which say nothing to a reader


def digest(*values: object) -> int:
    """A hash of plain values and of tensors, their dtype, shape and bits, as an int64 of at least 2**40."""
    state = hashlib.blake2b(digest_size=8)
    for part in _bytes(values):
        state.update(len(part).to_bytes(8, "little") + part)
    return int.from_bytes(state.digest(), "little") >> 1 | _HASHES


def _bytes(values: Iterable[object]) -> Iterable[bytes]:
    for value in values:
        if isinstance(value, Tensor):
            yield f"{value.dtype} {list(value.shape)}".encode()
            copy = value.detach().clone(memory_format=torch.contiguous_format)  # numpy() pins the storage's size: FSDP
            yield copy.flatten().view(torch.uint8).cpu().numpy().tobytes()
        else:
            yield repr(value).encode()
