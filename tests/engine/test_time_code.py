"""The number of the step as extra channels, ranges of steps, and images that become states."""

from __future__ import annotations

import math

import pytest
import torch

import ncafast
from ncafast import backends, ops
from ncafast.step_range import draw_steps


def random(module):
    torch.manual_seed(2)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


def code(kind, step, max_steps):
    return (
        [step / max_steps]
        if kind == "linear"
        else [math.sin(math.pi * step / max_steps), math.cos(math.pi * step / max_steps)]
    )


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("kind", ["linear", "sincos"])
@pytest.mark.parametrize("own", [None, "constant", "per step"])
def test_the_code_is_the_steps_number_behind_the_extra_channels(kind, own, backend):
    if backend not in backends.available():
        pytest.skip("no CPU module here")
    nca = random(ncafast.NCA(3, 8, time_code=kind, max_steps=10, extra=2 if own else 0))
    x = torch.randn(2, 3, 4, 5)
    given = torch.randn(2, 2, 4, 1) if own == "constant" else torch.randn(6, 1, 2, 4, 5) if own else None
    state = x
    for step in range(7, 13):
        mine = given if own != "per step" else given[step - 7]
        time = torch.tensor(code(kind, step, 10)).view(1, -1, 1, 1).expand(2, -1, 4, 5)
        extra = time if mine is None else torch.cat((mine.expand(2, 2, 4, 5), time), 1)
        state = ncafast.rollout(
            state, nca.rule, nca.params(), 1, first_step=step, seed=5, extra=extra, backend="reference"
        )
    found = nca(x, 6, first_step=7, seed=5, extra=given, backend=backend)
    torch.testing.assert_close(found, state, rtol=1e-4, atol=1e-5)
    first, second = (given[:2], given[2:]) if own == "per step" else (given, given)
    halfway = nca(x, 2, first_step=7, seed=5, extra=first, backend=backend)
    halves = nca(halfway, 4, first_step=9, seed=5, extra=second, backend=backend)
    torch.testing.assert_close(halves, found, rtol=1e-5, atol=1e-6)


def test_a_timed_automaton_is_one_operator_call_and_learns(monkeypatch):
    nca, x = random(ncafast.NCA(3, 8, time_code="sincos", steps=4)), torch.randn(1, 3, 5, 5)
    operator, calls = ops.rollout, []
    monkeypatch.setattr(ops, "rollout", lambda *arguments: calls.append(1) or operator(*arguments))
    nca(x, seed=1).sum().backward()
    assert len(calls) == 1
    assert all(p.grad.isfinite().all() for p in nca.parameters())
    assert nca.perception(x, first_step=2)[0, -2:, 0, 0].tolist() == pytest.approx([1, 0], abs=1e-6)
    assert nca.half()(x.half(), seed=1).dtype == torch.float16


def test_all_of_it_is_saved(tmp_path):
    nca = random(ncafast.NCA(4, 8, immutable=1, steps=(3, 6), eval_steps=5, time_code="linear", pad_noise=True))
    ncafast.save(tmp_path / "nca.safetensors", nca)
    again, image = ncafast.load(tmp_path / "nca.safetensors"), torch.rand(2, 1, 4, 4)
    assert again.config() == nca.config() and again.steps == (3, 6)
    assert torch.equal(again(image, seed=3), nca.eval()(image, seed=3))
    assert torch.equal(again(image, seed=3), again(image, 5, seed=3))
    assert set(ncafast.NCA().config()) == {"rule", "fixed_filters"}


def test_ranges_are_drawn_from_both_ends_included():
    torch.manual_seed(0)
    assert {draw_steps((2, 4), None) for _ in range(60)} == {2, 3, 4}
    assert len({draw_steps((2, 400), seed) for seed in range(9)}) > 5
    assert draw_steps((2, 400), 7) == draw_steps((2, 400), torch.tensor([7])) and draw_steps((3, 3), None) == 3
    nca, x = random(ncafast.NCA(3, 8, steps=(2, 9))), torch.randn(1, 3, 5, 5)
    drawn = draw_steps((2, 9), 5)
    assert torch.equal(nca(x, seed=5), nca(x, drawn, seed=5)) and torch.equal(nca(x, (2, 9), seed=5), nca(x, seed=5))


def test_an_image_is_padded_with_zeros_or_noise():
    plain, noisy = (random(ncafast.NCA(6, 8, immutable=2, steps=3, pad_noise=noise)) for noise in (False, True))
    image = torch.rand(3, 2, 8, 9)
    assert torch.equal(plain(image, seed=1), plain(torch.cat((image, torch.zeros(3, 4, 8, 9)), 1), seed=1))
    assert torch.equal(noisy(image, seed=1), noisy(ncafast.pad_input(image, noisy, seed=1), seed=1))
    assert torch.equal(noisy(image[1:], seed=1, first_sample=1), noisy(image, seed=1)[1:])
    state = ncafast.pad_input(torch.rand(4, 1, 40, 40), 9, mean=2.0, std=0.5)
    assert state[:, 1:].mean().item() == pytest.approx(2, abs=0.02) and state[:, 1:].std().item() == pytest.approx(
        0.5, abs=0.02
    )
    torch.manual_seed(4)
    first = noisy(image)
    torch.manual_seed(4)
    assert torch.equal(noisy(image), first) and not torch.equal(noisy(image), first)


def test_wrong_arguments_are_named():
    for options, said in (
        ({"time_code": "sine"}, "time_code='sine' is not allowed: choose None or one of linear, sincos"),
        ({"max_steps": 9}, "max_steps= goes with time_code= only"),
        ({"steps": (5, 2)}, r"steps=\(5, 2\) is not allowed: min must not be above max"),
        ({"eval_steps": (1, 2, 3)}, "give a number of steps, or a range"),
    ):
        with pytest.raises(ValueError, match=said):
            ncafast.NCA(**options)
    with pytest.raises(ValueError, match="time_code= fills the last 2 extra channels, got extra=1"):
        ncafast.NCA.from_rule(ncafast.Rule(extra=1), time_code="sincos")
    with pytest.raises(ValueError, match="x has 3 channels"):
        ncafast.pad_input(torch.zeros(1, 3, 2, 2), 2)
    with pytest.raises(ValueError, match="x has 1 channels"):  # an automaton without immutable channels takes no image
        ncafast.NCA(4)(torch.zeros(1, 1, 2, 2))
