"""A pytest process that runs the tests it is told to, one at a time, and ends after one that broke the GPU.

    python -m bench.gpu.worker PYTEST-OPTIONS...

Reads ids of tests from stdin, a line each; writes JSON lines: first {"ready": [ids]}, then for every test
{"test", "outcome", "seconds", "text"}. After an asynchronous CUDA error all later calls of a process fail, so it ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import IO

import pytest
import torch


class Plugin:
    """Takes the place of pytest's own loop."""

    def __init__(self, tests: IO[str], answers: IO[str]) -> None:
        self.tests, self.answers = tests, answers
        self.outcome, self.text = "passed", ""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run what is asked for."""
        if session.testsfailed:
            raise session.Interrupted("a file cannot be collected")
        items = {item.nodeid: item for item in session.items}
        self.say(ready=list(items))
        for line in self.tests:
            name = line.rstrip("\n")
            self.outcome, self.text = "passed", ""
            start = time.monotonic()
            items[name].config.hook.pytest_runtest_protocol(item=items[name], nextitem=None)
            error = cuda_error()
            if error is not None:
                self.outcome, self.text = "broke the GPU", f"{self.text}\n{error}"
            self.say(test=name, outcome=self.outcome, seconds=time.monotonic() - start, text=self.text)
            if error is not None:
                os._exit(1)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Of set-up, call and tear-down, the first that is no success."""
        if report.outcome != "passed" and self.outcome == "passed":
            self.outcome, self.text = report.outcome, report.longreprtext

    def say(self, **fields: object) -> None:
        """One line, at once."""
        self.answers.write(json.dumps(fields) + "\n")
        self.answers.flush()


def cuda_error() -> str | None:
    """The error of a kernel that ran, if one failed."""
    if not torch.cuda.is_initialized():
        return None
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        return str(error)
    return None


def main(words: list[str]) -> int:
    """Run tests; pytest itself reads nothing from stdin and prints nothing to stdout. A warning is no error here."""
    tests, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    plugin = Plugin(tests, answers)
    return int(pytest.main(["-q", "-p", "no:cacheprovider", "-W", "default", *words], plugins=[plugin]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
