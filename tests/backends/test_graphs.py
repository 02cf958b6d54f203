"""Recorded rollouts: when a call is recorded, what is copied in and out, what makes room; a stand-in for the graph."""

from __future__ import annotations

import pytest
import torch
from recorder import record

from ncafast.backends import graphs
from ncafast.bench.cases import CASES


@pytest.fixture
def calls():
    return []


@pytest.fixture
def kept(calls):
    """Graphs whose recordings are counted."""
    return graphs.Graphs(lambda run: calls.append("recorded") or record(run))


def double(tensors):
    """Some call of a tensor and one that may be missing."""
    first, second = tensors
    return [2 * first if second is None else first + second]


def test_the_third_call_is_recorded_and_later_ones_replay_it(kept, calls):
    for number in range(6):
        x = torch.full((2, 3), float(number))
        (out,) = kept.call("double", [x, None], double)
        assert torch.equal(out, 2 * x)
        assert len(calls) == (number >= 2)


def test_what_was_returned_is_not_changed_by_the_next_call(kept):
    results = [kept.call("double", [torch.full((2,), float(n)), None], double)[0] for n in range(5)]
    assert [out[0].item() for out in results] == [0, 2, 4, 6, 8]


def test_calls_of_another_kind_shape_or_dtype_are_others(kept, calls):
    x, y = torch.ones(3), torch.ones(3)
    variants = [
        ("double", [x, None]),
        ("double", [x, y]),
        ("other", [x, None]),
        ("double", [torch.ones(4), None]),
        ("double", [x.double(), None]),
    ]
    for what, inputs in variants * 2:
        kept.call(what, inputs, double)
    assert not calls
    for what, inputs in variants:
        (out,) = kept.call(what, inputs, double)
        assert out.dtype == inputs[0].dtype and torch.equal(out, 2 * inputs[0])
    assert len(calls) == len(variants)


def test_strides_are_kept(kept):
    x = torch.arange(24.0).reshape(2, 3, 4).movedim(-1, 1)
    for _ in range(4):
        (out,) = kept.call("same", [x, None], lambda tensors: [tensors[0] + 0])
        assert out.stride() == x.stride() and torch.equal(out, x)


@pytest.fixture
def room(monkeypatch):
    """Memory for two calls of ten numbers in and ten out."""
    monkeypatch.setattr(graphs, "memory", lambda device: graphs._ALL_SHARE * 2 * 2 * 4 * 10)


def test_the_longest_unused_makes_room(kept, calls, room, monkeypatch):
    monkeypatch.setattr(graphs, "_UNUSED", 3)
    for what in ("a", "b", "a", "b", "a", "b", "a", "c", "c", "c"):
        kept.call(what, [torch.ones(10), None], double)
    assert len(calls) == 3
    kept.call("a", [torch.ones(10), None], double)  # used after b, so still there
    assert len(calls) == 3
    for _ in range(3):
        kept.call("c", [torch.ones(10), None], double)
    kept.call("b", [torch.ones(10), None], double)
    assert len(calls) == 4


def test_calls_that_take_turns_do_not_have_each_other_recorded_again(kept, calls, room):
    """As those of a number of steps that is drawn anew each time: two of the three stay recorded."""
    for number in range(60):
        (out,) = kept.call(number % 3, [torch.full((10,), float(number)), None], double)
        assert out[0] == 2 * number
    assert len(calls) == 2


def test_each_gpu_has_its_own_room(kept, room):
    first, second = torch.device("cuda", 0), torch.device("cuda", 1)
    held = graphs._Recorded([], lambda: None, [], first, 2 * 2 * 4 * 10, 0)
    kept._recorded["full"] = held
    assert not kept._make_room(first, 4)
    assert kept._make_room(second, 4)


def test_what_cannot_be_recorded_runs_plainly_and_says_so_once(calls):
    def broken(run):
        calls.append("tried")
        raise RuntimeError("operation not permitted when stream is capturing")

    kept = graphs.Graphs(broken)
    x = torch.ones(2)
    for number in range(5):
        if number == 2:
            with pytest.warns(
                UserWarning, match="could not be recorded as a CUDA graph and runs plainly: operation not"
            ):
                (out,) = kept.call("double", [x, None], double)
        else:
            (out,) = kept.call("double", [x, None], double)
        assert torch.equal(out, 2 * x)
    assert calls == ["tried"]


def test_recorded_in_inference_mode_and_used_outside(kept):
    for number in range(6):
        with torch.inference_mode(number < 4):
            x = torch.full((2,), float(number))
            (out,) = kept.call("double", [x, None], double)
            assert torch.equal(out, 2 * x)


@pytest.fixture
def card(monkeypatch):
    """A GPU of 24 GB that need not be there."""
    monkeypatch.setattr(torch.Tensor, "device", property(lambda x: torch.device("cuda")), raising=False)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(graphs, "memory", lambda device: 24 * 10**9)


def state(batch, channels, *size):
    return torch.empty(1).expand(batch, channels, *size)


def test_only_small_calls_on_a_gpu_are_worth_it(card, monkeypatch):
    x = state(1, 16, 8, 8)
    assert graphs.worth(x, 100)
    assert not graphs.worth(state(1, 16, 1024, 1024), 0)  # 2^20 cells
    assert not graphs.worth(state(1, 16, 512, 512), 60)  # 1 GB of states
    monkeypatch.setattr(graphs, "memory", lambda device: 80 * 10**9)
    assert graphs.worth(state(1, 16, 512, 512), 60)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert not graphs.worth(x, 0)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setenv("NCAFAST_GRAPHS", "0")
    assert not graphs.worth(x, 0)


def test_no_call_on_a_cpu_is_worth_it():
    assert not graphs.worth(torch.empty(1, 16, 8, 8), 0)


@pytest.mark.parametrize(
    "name", ["maxnca", "maxnca-bn", "med-fine", "med-coarse", "texture", "growing", "growing-seed", "selfclass-mnist"]
)
def test_published_models_train_inside_graphs_at_their_benchmark_sizes(name, card, monkeypatch):
    """A GPU of 24 GB holds a rollout that keeps every state, and its backward, at once."""
    case = next(case for case in CASES if case.name == name)
    size, channels = case.sizes["gpu"], case.fused().rule.channels
    x = state(size.batch, channels, *size.grid)
    assert graphs.worth(x, size.steps)
    states = (size.steps + 3) * x.numel() * 4
    assert graphs.Graphs(record)._make_room(x.device, 2 * states)
