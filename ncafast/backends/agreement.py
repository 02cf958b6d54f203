"""One verdict for all processes of a distributed program: the first one that asks decides, the others wait for it.

It goes through the process group's key-value store and not through a collective, since not every rank may come here.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from ncafast.backends.verdicts import Verdict

_MARGIN = 60.0  # seconds for the store itself


def is_needed() -> bool:
    """Whether this process is one of several of an initialised process group."""
    dist: Any = sys.modules.get("torch.distributed")  # a program without it has no process group
    return dist is not None and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_too_early() -> bool:
    """Whether this is a rank of a program on several nodes, as torchrun starts them, without a process group yet.

    Ranks of one node agree through the lock on the disk; those of several have nothing to agree through.
    """
    ranks = os.environ.get("WORLD_SIZE", "1")
    return ranks not in ("1", os.environ.get("LOCAL_WORLD_SIZE", ranks)) and not is_needed()


def agreed(name: str, decide: Callable[[], Verdict], limit: float) -> Verdict:
    """The verdict of the first rank that asks for this name; without a process group that of `decide`.

    Args:
        name: of the question; ranks that give one name get one verdict.
        decide: called on one rank only.
        limit: seconds that the others wait for it.
    """
    if not is_needed():
        return decide()
    import torch.distributed as dist

    store: Any = dist.distributed_c10d._get_default_store()
    if store.add(f"{name}/asked", 1) == 1:
        verdict = Verdict("unchecked", "the rank that ran the check ended before its answer")
        try:
            verdict = decide()
        finally:
            store.set(name, json.dumps(verdict._asdict()))
        return verdict
    try:
        store.wait([name], datetime.timedelta(seconds=limit + _MARGIN))
    except (RuntimeError, dist.DistError):
        return Verdict("unchecked", f"the rank that runs the check did not answer within {limit + _MARGIN:g} s")
    return Verdict(**json.loads(store.get(name)))
