"""Tests on several processes at once, each with a time limit: one that hangs or breaks the GPU fails alone."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_STARTING = 60.0  # seconds that a worker may take to import and to collect


@dataclass(frozen=True)
class Result:
    """How a test ended: passed, failed, skipped, broke the GPU, took too long, ended its process, was not run."""

    test: str
    outcome: str
    seconds: float = 0.0
    text: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing has to be looked at."""
        return self.outcome in ("passed", "skipped")

    @property
    def reason(self) -> str:
        """The line that says most: the last that pytest marks as an error, else the last one."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        marked = [line[1:].strip() for line in lines if line.startswith("E ")]
        return (marked or lines or [""])[-1][:200]


class Pool:
    """Runs tests.

    Args:
        options: of pytest: files, ids, -k.
        workers: processes at once.
        seconds: that a test may take.
        until: when no further test is started, on time.monotonic's clock.
        tell: is given every result as it comes.
    """

    def __init__(
        self, options: Sequence[str], workers: int, seconds: float, until: float, tell: Callable[[Result], None]
    ) -> None:
        self.command = [sys.executable, "-m", "bench.gpu.worker", *options]
        self.workers, self.seconds, self.until, self.tell = workers, seconds, until, tell
        self.results: list[Result] = []
        self.problem: str | None = None  # why there is no list of tests
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._listed = False
        self._lock = threading.Lock()

    def run(self) -> list[Result]:
        """All results, those of tests that were not run included."""
        threads = [threading.Thread(target=self._work) for _ in range(self.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        while not self._waiting.empty():
            self._add(Result(self._waiting.get(), "was not run"))
        return self.results

    def _work(self) -> None:
        """Start workers, one after another as they end, until there is nothing left to do."""
        while time.monotonic() < self.until and not (self._listed and self._waiting.empty()):
            worker = _Worker(self.command)
            try:
                ready = worker.answer(min(_STARTING, max(self.until - time.monotonic(), 1)))
                if not isinstance(ready, dict):
                    self.problem = f"a worker {ready} before its first test\n{worker.errors()}"
                    return
                self._list(ready["ready"])
                while self._test(worker):
                    pass
            finally:
                worker.close()

    def _list(self, tests: list[str]) -> None:
        with self._lock:
            if not self._listed:
                for test in tests:
                    self._waiting.put(test)
                self._listed = True

    def _test(self, worker: _Worker) -> bool:
        """One test; whether the worker can take another."""
        if time.monotonic() >= self.until:
            return False
        try:
            test = self._waiting.get_nowait()
        except queue.Empty:
            return False
        found = worker.ask(test, self.seconds)
        if isinstance(found, dict):
            self._add(Result(found["test"], found["outcome"], found["seconds"], found["text"]))
            return bool(found["outcome"] != "broke the GPU")
        self._add(Result(test, found, text=worker.errors()))
        return False

    def _add(self, result: Result) -> None:
        with self._lock:
            self.results.append(result)
            self.tell(result)


class _Worker:
    """A process of worker.py."""

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._errors: list[str] = []
        self._readers = [threading.Thread(target=target, daemon=True) for target in (self._read, self._keep_errors)]
        for reader in self._readers:
            reader.start()

    def ask(self, test: str, seconds: float) -> dict[str, Any] | str:
        """The answer to a test, or how the worker failed to give one."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{test}\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended, which the answer says
        return self.answer(seconds)

    def answer(self, seconds: float) -> dict[str, Any] | str:
        """The next answer, or how there was none."""
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            return "took too long"
        if line is None:
            return f"ended its process with {self.process.wait()}"
        found: dict[str, Any] = json.loads(line)
        return found

    def errors(self) -> str:
        """The end of what it wrote to stderr."""
        self.close()
        return "\n".join("".join(self._errors).splitlines()[-15:])

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
        for reader in self._readers:
            reader.join(2)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self._answers.put(line)
        self._answers.put(None)

    def _keep_errors(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            self._errors.extend(stream)
