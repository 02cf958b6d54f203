"""What a rollout on the CPU backend allocates: states as the memory policy says, what it returns, and little else."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

STEPS, SIDE = 20, 256
STATE = 4 * 16 * SIDE**2  # bytes of a state of 16 channels: 4 MB

# Prints by how much the resident memory grew at its peak beyond the inputs of a rollout and, in training, its backward.
MEASURE = """
import json, os, re, sys, torch
from pathlib import Path
from ncafast import Alive, Rule, rollout
from tests.helpers.cases import make_params

train, steps, side, memory, alive, changes = json.loads(sys.argv[1])
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # Linux counts pages per CPU, and adds these up late
torch.set_num_threads(2)
rule = Rule(channels=16, hidden=(8,), alive=Alive(threshold=-9.0) if alive else None, **changes)
params = {key: p.requires_grad_(train) for key, p in make_params(rule, torch.float32).items()}

def grown(side, steps):
    x = torch.randn(1, 16, *[side] * rule.ndim, requires_grad=train)
    grad = torch.ones_like(x)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    before = os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[1])
    out = rollout(x, rule, params, steps, seed=1, memory=memory, backend="cpu")
    if train:
        torch.autograd.grad(out, [x, *params.values()], grad)
    return 1024 * int(re.search("VmHWM:\\\\s+(\\\\d+)", Path("/proc/self/status").read_text())[1]) - before

grown(16, 2)
print(grown(side, steps))
"""


def resettable():
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not resettable(), reason="the peak is read from Linux's /proc")


def peak(train=True, steps=STEPS, side=SIDE, memory="states", alive=False, **changes):
    """Peak of a rollout beyond its inputs, in states of the large grid."""
    command = [sys.executable, "-c", MEASURE, json.dumps([train, steps, side, memory, alive, changes])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return int(done.stdout) / STATE


def held(k, steps=STEPS):
    """States that are kept, computed again in one segment, and returned: the last one and the gradient of x."""
    return (steps - 1) // k + k - 1 + 2


@pytest.mark.parametrize(
    "rule",
    [{}, {"norm": "batch", "padding": "reflect"}, {"norm": "group"}, {"norm": "layer"}, {"alive": True}],
    ids=["plain", "batch norm", "group norm", "layer norm", "alive"],
)
def test_training_needs_at_most_two_states_beside_those_kept_and_returned(rule):
    """The gradient of the present state, and what bands still need of it while others change it."""
    assert held(1) < peak(**rule) <= held(1) + 2


def test_sqrt_and_every_kth_state_need_no_more_than_that():
    for memory, k in (("sqrt", math.isqrt(STEPS)), (8, 8)):
        assert peak(memory=memory) <= held(k) + 2


@pytest.mark.parametrize("filters", [1, 3])
def test_large_filters_under_batch_norm_also_need_dy_of_the_cells_that_fired(filters):
    """F + 1 states, of which half; and what the filters give, where that is one state."""
    found = peak(memory="sqrt", norm="batch", kernel_size=7, num_filters=filters)
    assert found <= held(math.isqrt(STEPS)) + 2 + (filters + 1) / 2 + (filters == 1) + 0.5


def test_large_filters_in_3d_under_batch_norm_need_at_most_five():
    """Here the border is half a state, and a thread's window of 13 slices a third."""
    found = peak(side=40, steps=4, memory=2, ndim=3, norm="batch", kernel_size=7, num_filters=2)
    assert found * STATE / (4 * 16 * 40**3) <= held(2, 4) + 5


@pytest.mark.parametrize("shape", [{"steps": 40, "padding": "circular"}, {"steps": 3, "ndim": 3}])
def test_inference_needs_little_more_than_its_result(shape):
    """75 bytes a cell, of which the result has 64."""
    side = 80 if "ndim" in shape else SIDE
    assert peak(train=False, side=side, **shape) * STATE <= 75 * side ** shape.get("ndim", 2)


def test_inference_under_batch_norm_may_keep_what_large_filters_give():
    assert peak(train=False, steps=4, norm="batch", kernel_size=7, num_filters=1) <= 75 / 64 + 1


def test_scratch_does_not_grow_with_the_grid():
    """On a small grid nothing is left but scratch: under 2 MB for two threads."""
    assert peak(side=24, steps=4, norm="batch") <= 0.5
