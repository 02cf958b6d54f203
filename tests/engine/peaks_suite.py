"""Peaks of memory against what is said of them. `test_peaks.py` runs this in a process of its own.

The heap of a process that ran other tests has holes, and what fits into a hole is not given back when it is freed.
That process also asks the system for every larger tensor: glibc would keep blocks of up to 32 MB, some of the time.
"""

from __future__ import annotations

import pytest
import torch
from parity import make_params, make_state

from ncafast import Alive, Rule, rollout
from ncafast.footprint import rollout_bytes
from ncafast.measuring.memory import peak_bytes
from ncafast.models import M3DNCA, MedNCA
from ncafast.models.cascade import draw_windows
from ncafast.models.memory import cascade_bytes, training_bytes
from ncafast.volume import rollout_spilled

FLAT, CUBE = (490, 500), (62, 64, 61)  # beside which a megabyte more or less of a thread does not count
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
    said = rollout_bytes(rule, (1, 16, *size), steps, memory=memory, gradients=training)
    assert said == pytest.approx(found, rel=0.15)


@pytest.mark.parametrize("name", ["plain", "3d, group norm"])
@pytest.mark.parametrize("training", [False, True])
def test_plain_pytorch_takes_what_it_is_said_to_need(name, training):
    fields, size = RULES[name]
    rule = Rule(channels=16, hidden=(64,), **fields)
    size = tuple(n // 2 for n in size)  # it is slow
    found = measured(rule, size, 4, "states", training, "reference")
    said = rollout_bytes(rule, (1, 16, *size), 4, gradients=training, backend="reference")
    assert said == pytest.approx(found, rel=0.15)


@pytest.mark.parametrize(
    ("model", "size"),
    [(MedNCA(steps=(2, 2), scale=2), (820, 840)), (M3DNCA(steps=2, scale_factor=2), (86, 88, 87))],
    ids=["2-D", "3-D"],
)
def test_a_cascade_takes_what_it_is_said_to_need(model, size):
    image = torch.rand(1, 1, *size) if len(size) == 2 else torch.rand(1, *size, 1)

    def run():
        with torch.no_grad():
            model(image, seed=1).sigmoid()

    run()
    found = peak_bytes(run, torch.device("cpu"))
    assert cascade_bytes(model, 1, size) == pytest.approx(found, rel=0.15)


@pytest.mark.parametrize(
    ("model", "size", "window", "keeps"),
    [
        (MedNCA(steps=(5, 5), scale=2), (360, 380), (), "sqrt"),
        (M3DNCA(steps=4, scale_factor=2), (124, 120, 116), (32, 32, 32), "states"),
    ],
    ids=["2-D", "3-D"],
)
def test_a_training_step_takes_what_it_is_said_to_need(model, size, window, keeps):
    def run():
        if isinstance(model, MedNCA):
            out = model(torch.rand(1, 1, *size), seed=1, memory=keeps)
        else:
            cut = draw_windows(size, scale=2, levels=2, patch=window, real=[size], generators=[None])
            out = model(torch.rand(1, *size, 1), seed=1, memory=keeps, windows=cut)
        out.square().mean().backward()

    run()
    found = peak_bytes(run, torch.device("cpu"))
    assert training_bytes(model, 1, size, window, keeps) == pytest.approx(found, rel=0.15)


def test_training_in_tiles_takes_less_memory_than_a_whole_rollout(tmp_path):
    rule, size = Rule(channels=8, hidden=(16,)), (320, 320)
    x, params = make_state(rule, size, torch.float32, 1), make_params(rule, torch.float32)

    def train(function, **options):
        for p in params.values():
            p.requires_grad_().grad = None
        function(x, rule, params, 16, seed=1, **options).sum().backward()

    train(rollout)  # what is loaded once
    train(rollout_spilled, tile=160)
    whole = peak_bytes(lambda: train(rollout, memory="sqrt"), x.device)
    ours = peak_bytes(lambda: train(rollout_spilled, spill=tmp_path, tile=80), x.device)
    assert ours < 5 * x.nbytes < 8 * x.nbytes < whole, (ours / x.nbytes, whole / x.nbytes)


def test_peak_is_what_a_call_holds_at_once():
    def call():
        held = torch.ones(2**24)  # 64 MiB
        del held
        torch.ones(2**23).sum()

    assert peak_bytes(call, torch.device("cpu")) == pytest.approx(2**26, rel=0.3)  # 96 MiB if nothing were given back
