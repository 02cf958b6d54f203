"""The bytes that a rollout is said to need are those that it takes, and too many are refused before any is taken."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from parity import make_params

from ncafast import Rule, footprint, rollout
from ncafast.free_memory import Free, limited


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
