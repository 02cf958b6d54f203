"""The CPU backend and threads: the same bits again, no more threads than torch allows, calls from anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from cases import CASES, make_extra, make_params, make_state
from torch.utils.data import DataLoader, Dataset

from ncafast import native, rollout
from ncafast.backends.fusable import MEASURED_NORMS

NAMES = [
    "2d",
    "batch norm",
    "group norm",
    "instance norm k7",
    "layer norm deep",
    "circular",
    "k5 reflect",
    "3d k5 reflect",
    "dense",
    "alive",
    "extra",
    "wide",
    "1d",
]
LARGE = {1: (700,), 2: (43, 37), 3: (13, 11, 12)}


@pytest.fixture(autouse=True)
def _same_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(rule, threads, size=None, steps=3, seed=6):
    """[x_T, states, gradients of all inputs] on that many threads."""
    torch.set_num_threads(threads)
    size = size or LARGE[rule.ndim]
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    extra = make_extra(rule, size, torch.float32, batch=1)
    leaves = [x, *params.values()] + ([] if extra is None else [extra])
    leaves = [leaf.requires_grad_() for leaf in leaves]
    out, states = rollout(x, rule, params, steps, seed=seed, extra=extra, states="all", memory=2, backend="cpu")
    loss = out.square().mean() + states.sin().mean()
    return [out.detach(), states.detach(), *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("name", NAMES)
def test_same_bits_for_the_same_threads_and_rounding_between_others(name):
    """Forward without sums over cells does not depend on threads at all; they do, in their last digits."""
    rule = CASES[name][0]
    results = {threads: run(rule, threads) for threads in (1, 2, 3, 5)}
    for threads, found in results.items():
        assert all(torch.equal(a, b) for a, b in zip(found, run(rule, threads), strict=True)), threads
        for i, (one, other) in enumerate(zip(results[1], found, strict=True)):
            if i < 2 and rule.norm not in MEASURED_NORMS:
                assert torch.equal(one, other), threads
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5 * one.abs().max().item() + 2e-6)


def test_two_python_threads_at_once():
    """Rollouts share nothing: what runs beside them changes no bit."""
    rules = [CASES[name][0] for name in ("batch norm", "alive", "2d", "dense")]
    want = [run(rule, 2) for rule in rules]
    ready = threading.Barrier(2)

    def work(mine):
        ready.wait(1800)
        return [(i, run(rules[i], 2)) for _ in range(4) for i in mine]

    with ThreadPoolExecutor(2) as pool:
        for i, found in [pair for part in pool.map(work, ((0, 1), (2, 3))) for pair in part]:
            assert all(torch.equal(a, b) for a, b in zip(found, want[i], strict=True)), rules[i]


def test_backward_from_another_thread():
    rule = CASES["batch norm"][0]
    x, params = make_state(rule, (9, 8), torch.float32), make_params(rule, torch.float32)
    found = []
    for elsewhere in (False, True):
        own = {key: p.clone().requires_grad_() for key, p in params.items()}
        loss = rollout(x, rule, own, 3, seed=1, backend="cpu").square().mean()
        if elsewhere:
            thread = threading.Thread(target=loss.backward)
            thread.start()
            thread.join()
        else:
            loss.backward()
        found.append([p.grad for p in own.values()])
    for want, got in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def tasks():
    """Threads of this process."""
    return len(list(Path("/proc/self/task").iterdir()))


class Rollouts(Dataset):
    """Items made by a rollout: its bytes, torch's threads, and the threads that the rollout added to the process.

    No tensors: to hand one over, a worker starts a thread of its own, whenever that comes to run.
    """

    def __len__(self):
        return 4

    def __getitem__(self, index):
        rule = CASES["circular"][0]
        before = tasks()
        with torch.no_grad():
            x, params = make_state(rule, LARGE[2], torch.float32), make_params(rule, torch.float32)
            out = rollout(x, rule, params, 3, seed=index, backend="cpu")
        return out.numpy().tobytes(), torch.get_num_threads(), tasks() - before


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
@pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")  # JAX's, if another test has imported it
@pytest.mark.filterwarnings(r"ignore:.*use of fork\(\) may lead:DeprecationWarning")  # Python's from 3.12 on
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_dataloader_worker_runs_on_one_thread(start):
    want = Rollouts()
    expected = [want[i][0] for i in range(4)]
    torch.set_num_threads(2)  # the parent has its team of threads when it forks
    run(CASES["2d"][0], 2)
    loader = DataLoader(Rollouts(), batch_size=None, num_workers=1, multiprocessing_context=start, timeout=1800)
    for (out, *threads), known in zip(loader, expected, strict=True):
        assert out == known
        assert threads == [1, 0]


COUNT = """
import sys, torch
from pathlib import Path
from ncafast import NCA
count = lambda: len(list(Path("/proc/self/task").iterdir()))
nca = NCA(8, 16, norm="batch", alive=(3, -9.0))
x = torch.randn(4, 8, 64, 64)
for threads in map(int, sys.argv[1:]):
    torch.set_num_threads(threads)
    before = count()
    with torch.no_grad():
        nca(x, steps=2)
    forward = count()
    nca(x, steps=2).sum().backward()
    print(forward - before, count() - forward)
"""


@pytest.mark.skipif(not native.build_info().get("cpu", {}).get("openmp", True), reason="a build without OpenMP has one")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_threads_are_those_that_torch_allows_at_each_call():
    """One: none is started. Three: two beside the caller, and backward has use for no more. Then these are kept."""
    command = [sys.executable, "-c", COUNT, "1", "3", "2"]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}  # backward starts a thread per GPU
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=hidden, cwd=Path(__file__).parents[2]
    )
    one, three, two = done.stdout.splitlines()
    assert one == "0 0"
    assert three == "2 0"
    assert max(map(int, two.split())) <= 0


def test_bands_of_a_line_hold_whole_blocks_of_cells():
    """Cells that are worked on together read their neighbours in one go: past the end of a band that was memory which
    nobody had written, and now and then not a number."""
    rule = CASES["1d"][0]
    want = run(rule, 3)
    for _ in range(60):
        assert all(torch.equal(a, b) for a, b in zip(run(rule, 3), want, strict=True))
