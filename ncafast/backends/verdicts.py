"""Results of trials on disk: one JSON file, replaced atomically, and the lock that one process holds during a trial."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from ncafast import files
from ncafast.backends import cache

State = Literal["passed", "failed", "slower", "unchecked"]
_STATES = get_args(State)


class Verdict(NamedTuple):
    """The result of a trial.

    Attributes:
        state: "passed" (right and faster), "failed" (wrong, crashed or hung), "slower" (right, but not faster) or
            "unchecked" (the trial could not run). The last one is never written to disk.
        reason: one line; empty where it passed.
        date: ISO date of the trial.
        fused_ms: median time of forward and backward on the backend, or None where nothing was timed.
        reference_ms: the same on the reference backend.
    """

    state: State
    reason: str = ""
    date: str = ""
    fused_ms: float | None = None
    reference_ms: float | None = None

    def describe(self) -> str:
        """One line for people."""
        if self.state == "unchecked":
            return f"not checked: {self.reason}"
        times = ""
        if self.fused_ms and self.reference_ms:
            times = f" ({self.fused_ms:.2f} ms, reference {self.reference_ms:.2f} ms)"
        what = {"passed": "passed its check", "failed": "failed its check", "slower": "is not faster here"}[self.state]
        return f"{what} on {self.date}{times}" + (f": {self.reason}" if self.reason else "")


def parse(entry: Any) -> Verdict | None:
    """The verdict that a dict of its fields stands for, or None where a field is missing or has a value not allowed."""
    if not isinstance(entry, dict) or entry.keys() != set(Verdict._fields):
        return None
    verdict = Verdict(**entry)
    times = verdict.fused_ms, verdict.reference_ms
    timed = all(type(time) is float and math.isfinite(time) and time > 0 for time in times)
    texts = isinstance(verdict.reason, str) and isinstance(verdict.date, str)
    return verdict if verdict.state in _STATES and texts and (timed or times == (None, None)) else None


def file() -> Path:
    """Where verdicts are kept."""
    return cache.folder() / "trials.json"


def digest(key: dict[str, str]) -> str:
    """The name of an entry: it changes with every part of the key."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


def read(key: dict[str, str]) -> Verdict | None:
    """The verdict kept for this key, or None. A corrupt file or entry counts as none."""
    entry = _entries().get(digest(key))
    return parse(entry.get("verdict")) if isinstance(entry, dict) and entry.get("key") == key else None


def matching(parts: dict[str, str]) -> list[tuple[dict[str, str], Verdict]]:
    """Key and verdict of all entries whose key has these parts."""
    entries = [entry for entry in _entries().values() if isinstance(entry, dict) and isinstance(entry.get("key"), dict)]
    found = [(entry["key"], parse(entry.get("verdict"))) for entry in entries if parts.items() <= entry["key"].items()]
    return [(key, verdict) for key, verdict in found if verdict is not None]


def write(key: dict[str, str], verdict: Verdict) -> None:
    """Keep a verdict. Call it with the lock held, so that no entry of another process is lost.

    Raises:
        OSError: the folder cannot be written.
    """
    entries = {**_entries(), digest(key): {"key": key, "verdict": verdict._asdict()}}
    files.write_text(file(), json.dumps(entries, indent=1, sort_keys=True))


@contextmanager
def locked(limit: float) -> Iterator[None]:
    """Hold the lock of the cache folder, which ends with the process; go on without it where it cannot be had.

    Trials run one at a time on a machine: two at once would disturb each other's timing.

    Args:
        limit: seconds to wait for another process.
    """
    from filelock import FileLock, Timeout  # comes with torch, which requires it

    lock = FileLock(cache.folder() / "trials.lock")
    held = False
    with suppress(OSError, NotImplementedError, Timeout):  # some network file systems know no locks
        cache.folder().mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=limit)
        held = True
    try:
        yield
    finally:
        if held:
            lock.release()


def _entries() -> dict[str, Any]:
    try:
        found = json.loads(file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
