"""The bytes that a rollout is said to need are those that it takes, and too many are refused before any is taken."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from ncafast import Alive, Rule, footprint, rollout
from ncafast.footprint import rollout_bytes
from ncafast.free_memory import Free, limited
from ncafast.measuring.memory import peak_bytes
from tests.helpers.cases import make_params

FLAT, CUBE = (220, 230), (36, 38, 37)
RULES = {
    "plain": ({}, FLAT),
    "batch norm, 7 x 7": ({"norm": "batch", "kernel_size": 7, "padding": "reflect"}, FLAT),
    "alive": ({"alive": Alive(threshold=-9.0)}, FLAT),
    "3d, group norm": ({"ndim": 3, "norm": "group", "padding": "replicate"}, CUBE),
    "clamp": ({"clamp": (-1.0, 1.0), "kernel_size": 1}, FLAT),
}


def measured(rule, size, steps, memory, training, backend):
    """The peak of a rollout, and in training of its backward, beside x and the parameters."""

    def peak(size, steps):
        params = {name: p.requires_grad_(training) for name, p in make_params(rule, torch.float32).items()}
        x = torch.randn(1, rule.channels, *size, requires_grad=training)

        def run():
            out = rollout(x, rule, params, steps, seed=1, memory=memory, backend=backend)
            if training:
                out.backward(torch.ones_like(out))

        return peak_bytes(run, x.device)

    peak((9,) * rule.ndim, 2)
    return peak(size, steps)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    ("training", "memory", "steps"), [(False, "states", 5), (True, "states", 7), (True, "sqrt", 16)]
)
def test_a_rollout_on_the_cpu_takes_what_it_is_said_to_need(name, training, memory, steps):
    fields, size = RULES[name]
    rule = Rule(channels=16, hidden=(8,), **fields)
    found = measured(rule, size, steps, memory, training, "cpu")
    if found is None:
        pytest.skip("the peak is read from Linux's /proc")
    said = rollout_bytes(rule, (1, 16, *size), steps, memory=memory, gradients=training)
    assert said == pytest.approx(found, rel=0.15)


@pytest.mark.parametrize("name", ["plain", "3d, group norm"])
@pytest.mark.parametrize("training", [False, True])
def test_plain_pytorch_takes_about_what_it_is_said_to_need(name, training):
    fields, size = RULES[name]
    rule = Rule(channels=16, hidden=(64,), **fields)
    found = measured(rule, size, 4, "states", training, "reference")
    if found is None:
        pytest.skip("the peak is read from Linux's /proc")
    said = rollout_bytes(rule, (1, 16, *size), 4, gradients=training, backend="reference")
    assert 0.5 * found < said < 1.5 * found


def big(monkeypatch, gigabytes, batch=1, steps=16, **options):
    """What is said of a rollout on a state of 0.26 GB (of each sample), which is never made."""
    monkeypatch.setattr(footprint, "free_memory", lambda device: Free(int(gigabytes * 10**9), "available"))
    rule = Rule(channels=16, hidden=(8,), ndim=3)
    params = {
        name: p.requires_grad_(options.pop("train", False)) for name, p in make_params(rule, torch.float32).items()
    }
    x = torch.zeros(1, 1, 1, 1, 1).expand(batch, 16, 160, 160, 160)
    with pytest.raises(MemoryError) as error:
        rollout(x, rule, params, steps, **options)
    return str(error.value)


def test_what_is_too_large_is_refused_in_one_line_that_says_what_fits(monkeypatch):
    assert big(monkeypatch, 0.5) == (
        "a rollout of 16 steps on a state of shape [1, 16, 160, 160, 160] needs 541 MB, and 500 MB is available; "
        "what fits: tiles (ncafast.volume.rollout_tiled), ranks with a part of the grid each "
        "(ncafast.volume.rollout_sharded)"
    )
    said = big(monkeypatch, 4, train=True)
    assert '4.0 GB is available; what fits: memory="sqrt" (3.0 GB), tiles (ncafast.volume.rollout_spilled), ' in said
    said = big(monkeypatch, 2, batch=5)
    assert "what fits: batches of 3, or 2 ranks with a part of the batch each (first_sample=), tiles " in said


def test_what_is_free_is_not_asked_for_small_rollouts_nor_while_compiling(monkeypatch):
    def never(device):
        raise AssertionError("asked")

    monkeypatch.setattr(footprint, "free_memory", never)
    rule = Rule(channels=4, hidden=(6,))
    params = make_params(rule, torch.float32)
    rollout(torch.zeros(2, 4, 64, 64), rule, params, 8)
    large = torch.zeros(1, 4, 1600, 1600)
    torch.compile(lambda x: rollout(x, rule, params, 1), backend="eager", fullgraph=True)(large)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert rollout(mode.from_tensor(large), rule, params, 1).shape == large.shape
    with pytest.raises(AssertionError, match="asked"):
        rollout(large, rule, params, 1)


def test_a_limit_of_this_process_refuses_what_a_rollout_would_take_beyond_it():
    rule = Rule(channels=4, hidden=(6,))
    with (
        limited(1),
        pytest.raises(MemoryError, match=r"needs 43.5 MB, and 0.0 MB is left of 0.0 MB; what fits: tiles"),
    ):
        rollout(torch.zeros(1, 4, 1600, 1600), rule, make_params(rule, torch.float32), 1)


CHILD = """
import resource, torch
from ncafast import NCA
nca, x = NCA(16, 8, ndim=3), torch.zeros(1, 1, 1, 1, 1).expand(1, 16, 160, 160, 160)
with open("/proc/self/statm") as file:
    held = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 10**9, resource.RLIM_INFINITY))
try:
    nca(x, steps=16)
except MemoryError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_under_ulimit_an_automaton_is_refused_instead_of_dying():
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "needs 5.4 GB, and 1.0 GB is left of its address space" in done.stdout
    assert done.stdout.count("\n") == 1
