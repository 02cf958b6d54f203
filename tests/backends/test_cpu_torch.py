"""The CPU backend inside the rest of torch: opcheck, compile, export, vmap, autocast, zero batch."""

from __future__ import annotations

import pytest
import torch
from cases import CASES, make_extra, make_masks, make_params, make_state
from torch import nn

from ncafast import NCA, backends, rollout


@pytest.fixture(autouse=True)
def on_cpu():
    with backends.use("cpu"):
        yield


def model(**options):
    torch.manual_seed(5)
    settings = {"norm": "batch", "padding": "reflect", "filters": "learned", "filter_bias": True}
    return NCA(5, 7, zero_init=False, **(settings | options))


@pytest.mark.parametrize("permuted", [False, True], ids=["contiguous", "permuted"])
@pytest.mark.parametrize("name", ["2d", "3d circular", "batch norm", "group norm", "extra", "alive", "dense 1d"])
def test_opcheck(name, permuted):
    rule, size = CASES[name]
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    extra, mask = make_extra(rule, size, torch.float32), make_masks(rule, 3, size)
    tensors = [x, *params.values()] + ([] if extra is None else [extra])
    if permuted:
        tensors = [t.mT.contiguous().mT if t.dim() > 1 else t for t in tensors]
    x, *rest = (t.detach().requires_grad_() for t in tensors)
    extra = rest.pop() if extra is not None else None
    args = (x, rest, extra, mask, torch.tensor([3]), rule.to_json(), "cpu", 3, 0, 0, 1, 2, "ieee")
    torch.library.opcheck(torch.ops.ncafast.rollout.default, args)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile_forward_and_backward_at_two_sizes(backend):
    nca = model()
    compiled = torch.compile(nca, fullgraph=True, dynamic=backend == "aot_eager", backend=backend)
    for size in ((2, 5, 6, 7), (3, 5, 9, 4)):
        x = torch.randn(size, requires_grad=True)
        results = []
        for run in (nca, compiled):
            out, states = run(x, steps=4, seed=8, states=2)
            loss = (out * 1.5).square().sum() + states.sin().sum()
            results.append((out, *torch.autograd.grad(loss, [x, *nca.parameters()])))
        for eager, traced in zip(*results, strict=True):
            torch.testing.assert_close(traced, eager, rtol=1e-4, atol=1e-5)


def test_choosing_it_is_traceable():
    """Without a name given, the choice among backends is part of what torch.compile traces."""
    nca, x = model(), torch.randn(2, 5, 6, 7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "_forced", None)
        assert backends.choose(nca.rule, x) == "cpu"
        compiled = torch.compile(nca, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(x, steps=3, seed=1), nca(x, steps=3, seed=1))


@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")  # torch.export.load of 2.11
def test_export_save_and_load(tmp_path):
    nca, x = model().eval(), torch.randn(2, 5, 6, 7)

    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.nca = nca

        def forward(self, x):
            return self.nca(x, steps=3, seed=6)

    torch.export.save(torch.export.export(Fixed(), (x,)), tmp_path / "nca.pt2")
    again = torch.export.load(tmp_path / "nca.pt2").module()
    assert torch.equal(again(x), nca(x, steps=3, seed=6))


def test_vmap_is_a_loop_over_slices():
    rule, size = CASES["alive"]
    params, masks = make_params(rule, torch.float32), make_masks(rule, 3, size)
    xs = torch.stack([make_state(rule, size, torch.float32) * (i + 1) for i in range(3)], 1)

    def run(x):
        return rollout(x, rule, params, 3, fire_mask=masks, states=2)

    out, states = torch.vmap(run, in_dims=1, out_dims=1)(xs)
    for i in range(3):
        want, want_states = run(xs[:, i])
        assert torch.equal(out[:, i], want) and torch.equal(states[:, i], want_states)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_never_lets_half_precision_reach_float32_memory(dtype):
    nca, x = model(), torch.randn(2, 5, 6, 7)
    with torch.autocast("cpu", dtype):
        half = torch.nn.functional.conv2d(x, torch.eye(5)[:, :, None, None])
        assert half.dtype == dtype
        out = nca(half, steps=2, seed=1)
    assert torch.equal(out, nca(half.float(), steps=2, seed=1))


def test_refused_rules_say_why():
    x = torch.zeros(1, 4, 5, 5)
    base = CASES["2d"][0]
    wrong = {
        "torch.float64": (base, x.double()),
        "on meta": (base, x.to("meta")),
        "norm='group' with 2 hidden layers": (base.replace(norm="group", hidden=(4, 4)), x),
        "norm='batch' with 2 hidden layers": (base.replace(norm="batch", hidden=(4, 4)), x),
        "noise": (base.replace(noise="state", noise_std=0.1), x),
        "5 hidden layers": (base.replace(hidden=(4,) * 5), x),
    }
    for reason, (rule, state) in wrong.items():
        assert reason in backends.explain(rule, state)["cpu"]
    with pytest.raises(RuntimeError, match="backend 'cpu' cannot run this: noise='state' is not fused"):
        rollout(x, wrong["noise"][0], make_params(wrong["noise"][0], torch.float32), 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "_forced", None)
        assert backends.choose(*wrong["noise"]) == "reference"


def test_zero_batch_and_zero_steps():
    rule, size = CASES["batch norm"]
    params = {key: p.requires_grad_() for key, p in make_params(rule, torch.float32).items()}
    empty = torch.empty(0, rule.channels, *size, requires_grad=True)
    out, states = rollout(empty, rule, params, 5, states=2)
    assert out.shape == empty.shape and states.shape == (2, *empty.shape)
    out.sum().backward()
    assert all(p.grad.abs().sum() == 0 for p in params.values())
    x = make_state(rule, size, torch.float32).requires_grad_()
    out = rollout(x, rule, params, 0)
    assert torch.equal(out, x)
    assert torch.equal(torch.autograd.grad(out.sum(), x)[0], torch.ones_like(x))
