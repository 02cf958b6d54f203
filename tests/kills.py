"""Kill a training from outside, again and again, until it comes to its end."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def kill_until_done(
    train: Callable[..., Any], arguments: tuple[Any, ...], run: Path, most: int = 6, early: bool = False
) -> Iterator[None]:
    """Start `train(*arguments)`, which writes to the folder `run`, and SIGKILL it, up to `most` times.

    Yields after every kill. A kill comes a random moment after the start's first save, however long that takes on a
    busy machine; so it falls into a step or into a later save, and every start gets further. With `early`, every
    second kill does not wait for a save. The last start ends by itself.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ncafast.train", train.__module__])
    moments, resume = random.Random(0), run / "resume.pt"
    for kills in range(most + 1):
        before = _saved_at(resume)
        process = context.Process(target=train, args=arguments)
        process.start()
        if kills == most:
            process.join(120)
        elif early and kills % 2:
            process.join(moments.uniform(0.0, 0.5))
        else:
            while process.is_alive() and _saved_at(resume) == before:
                time.sleep(0.001)
            process.join(moments.uniform(0.0, 0.05))
        if process.exitcode is not None:
            break
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        yield
    assert process.exitcode == 0


def _saved_at(resume: Path) -> int:
    """When the state that a run goes on from was written, 0 before it is."""
    return resume.stat().st_mtime_ns if resume.exists() else 0
