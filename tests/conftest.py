"""Shared by all tests: determinism from test to test, and threads that do not wait at the cost of others."""

from __future__ import annotations

import os
import sys

# OpenMP's threads wait asleep, also in child processes: where other processes want the processors too, tests of tiny
# tensors would take many times as long, spinning until the system lets the thread that they wait for run.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Processes that test side by side share the processors, and so do the processes that they start.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))
if _WORKERS:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _WORKERS)))
for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "NCAFAST_TRACEBACK"):  # would change what the command line prints
    os.environ.pop(name, None)

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    yield
    if "torch._dynamo" in sys.modules:  # what one test compiled does not count against the next one's limit
        torch._dynamo.reset()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Minutes-long tests first, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: item.path.name not in ("test_triton.py", "test_cuda.py", "test_cuda_compiled.py"))
