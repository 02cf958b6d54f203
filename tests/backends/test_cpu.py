"""The CPU backend against the float64 oracle: every rule it takes, forward, states and every gradient, on each ISA."""

from __future__ import annotations

import pytest
import torch
from cases import CASES
from parity import check_case

from ncafast import backends

RUNS = [name for name, (rule, _) in CASES.items() if backends.get("cpu").can_run(rule, torch.zeros(1)) is None]


@pytest.fixture(params=["avx512", "avx2", "portable"])
def isa(request, monkeypatch):
    monkeypatch.setenv("NCAFAST_CPU_ISA", request.param)
    from ncafast import native

    if native.load().instruction_set() != request.param:
        pytest.skip(f"this processor has no {request.param}")


@pytest.mark.parametrize("name", RUNS)
def test_parity_with_float64(name, isa):
    check_case("cpu", name)
