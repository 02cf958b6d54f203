"""What a rollout on the CPU backend allocates: states as the memory policy says, a few more, and little else."""

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
    x, grad = torch.randn(1, 16, side, side, requires_grad=train), torch.ones(1, 16, side, side)
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


@pytest.mark.parametrize(
    "rule",
    [{}, {"norm": "batch", "padding": "reflect"}, {"norm": "group"}, {"norm": "layer"}, {"alive": True}],
    ids=["plain", "batch norm", "group norm", "layer norm", "alive"],
)
def test_training_keeps_a_state_a_step_and_few_besides(rule):
    """The last state and the gradient of x, which are returned, are among them."""
    assert STEPS < peak(**rule) <= STEPS + 6


def test_sqrt_and_every_kth_state_keep_those_and_one_stretch():
    for memory, k in (("sqrt", math.isqrt(STEPS)), (8, 8)):
        assert peak(memory=memory) <= STEPS // k + k + 6


@pytest.mark.parametrize("filters", [1, 2])
def test_large_filters_under_batch_norm_keep_what_they_see_and_its_gradient(filters):
    """F states and F + 1: the filters' outputs, and dL/dy of the perception."""
    k = math.isqrt(STEPS)
    found = peak(memory="sqrt", norm="batch", kernel_size=7, num_filters=filters)
    assert STEPS // k + k + 2 * filters + 3 < found <= STEPS // k + k + 2 * filters + 7


def test_inference_keeps_a_few_states_whatever_the_steps():
    assert peak(train=False, steps=4) <= 5
    assert peak(train=False, steps=40, norm="batch") <= 5


def test_scratch_does_not_grow_with_the_grid():
    """On a small grid nothing is left but scratch: under 2 MB for two threads."""
    assert peak(side=24, steps=4, norm="batch") <= 0.5
