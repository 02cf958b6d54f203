"""Ctrl-C ends a rollout between two steps: Python's signal handlers run while the kernels work."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from cases import CASES, make_params, make_state

from ncafast import native, rollout

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer"),
    pytest.mark.skipif(native.load() is None, reason="the C++ kernels are not built"),
]
RULE, SIZE = CASES["2d"][0], (9, 8)


class Stop(Exception):
    pass


@pytest.fixture(autouse=True)
def _one_thread():
    """So few cells take longer on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@contextmanager
def third_signal_stops() -> Iterator[None]:
    """A signal every 50 ms, the third of which raises: kernels that run no handlers would see one, once they are
    done."""
    count = 0

    def handle(number, frame):
        nonlocal count
        count += 1
        if count == 3:
            raise Stop

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        with pytest.raises(Stop):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_forward_ends_where_a_handler_raises():
    with third_signal_stops():
        rollout(
            make_state(RULE, SIZE, torch.float32),
            RULE,
            make_params(RULE, torch.float32),
            1_000_000_000,
            seed=1,
            backend="cpu",
        )


def test_members_end_where_a_handler_raises():
    torch.set_num_threads(2)  # the handler runs in one of them
    x = torch.stack([make_state(RULE, SIZE, torch.float32)] * 5)
    run = torch.vmap(
        lambda x, params: rollout(x, RULE, params, 1_000_000_000, seed=1, backend="cpu"), randomness="different"
    )
    with third_signal_stops():
        run(x, {name: torch.stack([value] * 5) for name, value in make_params(RULE, torch.float32).items()})


def test_backward_ends_where_a_handler_raises():
    x = make_state(RULE, SIZE, torch.float32).requires_grad_()
    out = rollout(x, RULE, make_params(RULE, torch.float32), 100_000, seed=1, backend="cpu", memory=1000)
    with third_signal_stops():
        out.sum().backward()
    assert x.grad is None
