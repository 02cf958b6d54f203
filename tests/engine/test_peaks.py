"""Runs the suite of peaks of memory in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).with_name("peaks_suite.py")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")
def test_peaks_of_memory_are_what_is_said_of_them():
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment["OMP_NUM_THREADS"] = "2"  # PyTorch's convolutions keep less with one thread
    environment["MALLOC_MMAP_THRESHOLD_"] = str(64 * 1024)  # fixed: it would grow with the blocks that are freed
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SUITE)],
        cwd=SUITE.parents[2],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout
