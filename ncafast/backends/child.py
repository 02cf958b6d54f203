"""The parent's side of a trial: start the child process, wait for it within limits, and read its answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ncafast.backends import verdicts
from ncafast.backends.verdicts import Verdict

START_LIMIT = 300.0  # seconds to import torch and open the GPU; a busy file system may take minutes
RUN_LIMIT = 240.0  # seconds for the kernels, Triton's compilation included
_POLL = 0.05  # seconds between two looks at the child


def run(
    request: dict[str, Any],
    *,
    command: tuple[str, ...] | None = None,
    start_limit: float = START_LIMIT,
    run_limit: float = RUN_LIMIT,
) -> Verdict:
    """Run a trial in a child process.

    Args:
        request: what `trial` reads: backend, rules, device, precision.
        command: the child's command line, to which the paths of request and answer are added; None runs `trial`.
        start_limit: seconds until the child must have opened the GPU; later is "unchecked".
        run_limit: seconds from then on; longer is "failed", as a crash and an answer that makes no sense are.

    Returns:
        The verdict, without a date.
    """
    with tempfile.TemporaryDirectory(prefix="ncafast-trial-") as name:
        folder = Path(name)
        asked, answer, log = folder / "request.json", folder / "answer.json", folder / "log"
        asked.write_text(json.dumps(request), encoding="utf-8")
        words = [*(command or (sys.executable, "-m", "ncafast.backends.trial")), str(asked), str(answer)]
        with log.open("wb") as out:
            try:
                process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=_environment(), start_new_session=True
                )
            except OSError as error:
                return Verdict("unchecked", f"no child process can be started ({error.strerror})")
        try:
            late = _wait(process, folder / "STARTED", start_limit, run_limit)
        finally:
            _kill(process)
        return late or _outcome(process.returncode, answer, log)


def _environment() -> dict[str, str]:
    """The parent's, with this ncafast first on the path, and no trial inside the trial."""
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "NCAFAST_TRIAL": "0"}


def _wait(process: subprocess.Popen[bytes], started: Path, start_limit: float, run_limit: float) -> Verdict | None:
    """The verdict on a child that is too late, or None once it has ended."""
    begin = time.monotonic()
    opened: float | None = None  # when the GPU was opened, from which the kernels' time counts
    while process.poll() is None:
        now = time.monotonic()
        if opened is None and started.exists():
            opened = now
        if opened is None and now - begin > start_limit:
            return Verdict("unchecked", f"the check did not start within {start_limit:g} s")
        if opened is not None and now - opened > run_limit:
            return Verdict("failed", f"the kernels did not finish within {run_limit:g} s")
        time.sleep(_POLL)
    return None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the child and what it started. One that hangs in the driver cannot be ended and is left to the system."""
    if process.poll() is None:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)


def _outcome(code: int | None, answer: Path, log: Path) -> Verdict:
    try:
        found = json.loads(answer.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Verdict("failed", f"the check {_ending(code)}{_last_line(log)}")
    except (OSError, ValueError):
        return Verdict("failed", "the check wrote no valid answer")
    if code != 0:
        return Verdict("failed", f"the check {_ending(code)}{_last_line(log)}")
    verdict = verdicts.parse({**found, "date": ""}) if isinstance(found, dict) else None
    return verdict or Verdict("failed", "the check wrote no valid answer")


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f" ({last[:200]})" if last else ""
