"""Steps of a run: each a process of its own with a time limit, inside the limit of the whole; output goes to a log."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

GRACE = 5.0  # seconds between asking a process to end and ending it
_LEAST = 5.0  # seconds: a step with less than that is left out


class Run:
    """What all steps share: the clock and the log.

    Args:
        out: folder of the log and of all results.
        limit: seconds that all steps may take together.
        clock: seconds, monotonic.
    """

    def __init__(self, out: Path, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit, self.clock, self.start = limit, clock, clock()
        out.mkdir(parents=True, exist_ok=True)
        self._log = out / "log.txt"
        self._lock = threading.Lock()

    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.start

    def say(self, line: str) -> None:
        """Print a line and write it to the log at once."""
        with self._lock, self._log.open("a", encoding="utf-8") as file:
            print(line, flush=True)
            file.write(f"{line}\n")

    def step(self, name: str, most: float, command: Sequence[str], **variables: str) -> int | None:
        """Run a command for at most so many seconds. Returns its exit code, None where it could not be run."""
        left = min(most, self.limit - self.elapsed())
        if left < _LEAST:
            self.say(f"== {name}: left out, no time is left")
            return None
        self.say(f"\n== {name} (at {self.elapsed():.0f} s, at most {left:.0f})")
        try:
            return self._run(name, left, command, variables)
        except OSError as error:  # there is no such program
            self.say(f"== {name}: {error}")
            return None

    def _run(self, name: str, left: float, command: Sequence[str], variables: Mapping[str, str]) -> int:
        began = self.elapsed()
        with started(command, variables) as process:
            reader = threading.Thread(target=self._copy, args=(process.stdout,), daemon=True)
            reader.start()
            ended = wait(process, left)
            reader.join(GRACE)
        how = f"exit code {process.returncode}" if ended else "stopped at its limit"
        self.say(f"== {name}: {how} after {self.elapsed() - began:.0f} s")
        return process.returncode

    def _copy(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self.say(line.rstrip("\n"))


class Background:
    """A process that works beside the steps, and is stopped while something is timed."""

    def __init__(self, command: Sequence[str], log: Path, **variables: str) -> None:
        self._file = log.open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            command, stdout=self._file, stderr=subprocess.STDOUT, env=os.environ | variables, start_new_session=True
        )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """It stands still meanwhile, if it is still there."""
        send(self.process, signal.SIGSTOP)
        try:
            yield
        finally:
            send(self.process, signal.SIGCONT)

    def close(self) -> None:
        """End it."""
        send(self.process, signal.SIGCONT)
        wait(self.process, 0)
        send(self.process, signal.SIGKILL)  # what it left behind
        self._file.close()


@contextmanager
def started(command: Sequence[str], variables: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process and its children as one group, which is ended with the block; both streams come through stdout."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | variables,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        wait(process, 0)
        send(process, signal.SIGKILL)  # what it left behind


def wait(process: subprocess.Popen[str] | subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it ends by itself in that time; else its group is asked to end, and after some seconds made to."""
    for patience, then in ((seconds, signal.SIGTERM), (GRACE, signal.SIGKILL), (None, None)):
        try:
            process.wait(patience)
            return then is signal.SIGTERM
        except subprocess.TimeoutExpired:
            if then is not None:
                send(process, then)
    return False


def send(process: subprocess.Popen[str] | subprocess.Popen[bytes], number: signal.Signals) -> None:
    """A signal to the process and its children, where they are still there."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
