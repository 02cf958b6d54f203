"""Kill a training at a counted moment, again and again, until it comes to its end."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MOST = 60000  # calls before a kill: a few training steps, or one with its save
HANG = 1800  # seconds after which a process is taken to hang, on however busy a machine


def kill_until_done(
    train: Callable[..., Any], arguments: tuple[Any, ...], most: int = 6, early: bool = False
) -> Iterator[None]:
    """Start `train(*arguments)`, which saves resume.pt, and have it killed by SIGKILL `most` times.

    Yields after every kill. A moment is a number of function calls, Python's and C's, after the start's first save,
    so that it does not depend on the machine; it falls into a step or into a later save, and every start gets further.
    With `early`, every second kill counts from the start and does not wait for a save. The last start ends by itself.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ncafast.train", train.__module__])
    moments = random.Random(0)
    for kills in range(most):
        at_once = early and kills % 2 == 1
        process = context.Process(target=_killed, args=(train, arguments, at_once, moments.randrange(MOST)))
        assert _exit_code(process) == -signal.SIGKILL
        yield
    assert _exit_code(context.Process(target=train, args=arguments)) == 0


def _exit_code(process: Any) -> int | None:
    process.start()
    process.join(HANG)
    assert process.exitcode is not None, "the training hangs"
    return int(process.exitcode)


def _killed(train: Callable[..., Any], arguments: tuple[Any, ...], at_once: bool, calls: int) -> None:
    """Train in this process, which kills itself so many calls after its start or after its first save."""

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls -= 1
        if calls < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def begin(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and Path(os.fsdecode(arguments[1])).name == "resume.pt":  # also os.replace
            sys.setprofile(count)

    if at_once:
        sys.setprofile(count)
    else:
        sys.addaudithook(begin)
    train(*arguments)
