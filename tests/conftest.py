"""Shared by all tests: determinism from test to test."""

from __future__ import annotations

import sys

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    yield
    if "torch._dynamo" in sys.modules:  # what one test compiled does not count against the next one's limit
        torch._dynamo.reset()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Minutes-long tests first, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: item.path.name not in ("test_triton.py", "test_cuda.py"))
