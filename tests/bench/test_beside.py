"""The comparison that the demo shows: it is fair, and says where it could not measure."""

from __future__ import annotations

from itertools import zip_longest

import pytest
import torch

from ncafast import backends
from ncafast.bench import beside, measure
from ncafast.models import NCA2D
from ncafast.tasks.demo import summary


@pytest.mark.parametrize(("busy", "kept"), [(0, True), (1, True), (2, False)])
def test_a_forward_that_takes_longer_than_forward_and_backward_is_measured_again_then_left_out(monkeypatch, busy, kept):
    timed = []

    def interleave(calls, rounds, **_):
        timed.append(calls)
        forward = [1.0, 9.0 if len(timed) <= 1 + busy else 4.0]  # plain PyTorch's is disturbed
        seconds = [3.0, 8.0] if len(timed) == 1 else forward
        return {name: [taken] for name, taken in zip_longest(calls, seconds, fillvalue=1e-9)}

    monkeypatch.setattr(measure, "interleave", interleave)
    found = beside.compare(NCA2D(4, 4), 1, batch=1, side=8, rounds=1)
    assert len(timed) == 1 + min(busy + 1, 2)
    assert (found["ms_per_step"], found["ms_per_step_eager"]) == (3000.0, 8000.0)
    assert found["speedup_forward"] == (4.0 if kept else None)
    assert found["ms_per_step_forward_eager"] == (4000.0 if kept else None)
    row = summary._forward(found)
    assert row == (("1000.00 ms", "4000.00 ms", "4.00x as fast") if kept else ("-", "-", row[2]))
    assert kept or "left out" in row[2]


def test_compare_is_consistent_and_leaves_the_model_as_it_was():
    model = NCA2D(8, 12).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = beside.compare(model, 3, batch=2, side=32, rounds=2)
    ratio = found["ms_per_step_eager"] / found["ms_per_step"]
    assert found["speedup_train"] == pytest.approx(ratio)
    if found["speedup_forward"] is not None:  # as on a busy machine
        ratio = found["ms_per_step_forward_eager"] / found["ms_per_step_forward"]
        assert found["speedup_forward"] == pytest.approx(ratio)
    states = 2 * 2 * 8 * 32 * 32 * 4  # bytes of x_1 and x_2, since x_0 is there anyway
    weights = sum(p.numel() for p in model.parameters()) * 4
    p = model.rule.perception_size
    moments = 3 * (p + p * p) * 4  # of every step's perception, for the batch norm's backward
    assert states <= found["memory_mib"] * 2**20 <= states + weights + moments + 256
    assert found["memory_mib_eager"] > 5 * found["memory_mib"]
    assert found["backend"] == backends.available()[0]
    assert not model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in model.parameters())
