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
