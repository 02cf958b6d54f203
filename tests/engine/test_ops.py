"""The operator as torch sees it: opcheck, gradcheck, compile, export, vmap, autocast, data parallel."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from cases import CASES, make_extra, make_masks, make_params, make_state
from torch import nn
from torch.export import Dim

from ncafast import NCA, backends, rollout

SEED = torch.tensor([3])


@pytest.fixture(autouse=True)
def on_reference():
    with backends.use("reference"):
        yield


def op_args(name, permuted=False, every=1, kept=2):
    rule, size = CASES[name]
    x, params = make_state(rule, size, torch.float64), make_params(rule, torch.float64)
    extra, mask = make_extra(rule, size, torch.float64), make_masks(rule, 3, size)
    tensors = [x, *params.values()] + ([] if extra is None else [extra])
    if permuted:
        tensors = [t.mT.contiguous().mT if t.dim() > 1 else t for t in tensors]
    tensors = [t.detach().requires_grad_(t.is_floating_point()) for t in tensors]
    x, *rest = tensors
    extra = rest.pop() if extra is not None else None
    return x, rest, extra, mask, SEED, rule.to_json(), "reference", 3, 0, 0, every, kept, "ieee"


@pytest.mark.parametrize("permuted", [False, True], ids=["contiguous", "permuted"])
@pytest.mark.parametrize("name", ["2d", "3d circular", "batch norm", "extra", "alive", "dense 1d"])
def test_opcheck(name, permuted):
    torch.library.opcheck(torch.ops.ncafast.rollout.default, op_args(name, permuted))


def test_opcheck_backward():
    x, params, extra, mask, *rest = op_args("extra")
    params = [p.detach() for p in params]
    x, extra = x.detach(), extra.detach()
    _, history, _, tape = torch.ops.ncafast.rollout(x, params, extra, mask, *rest)
    needs = [True, True] + [True] * len(params)
    args = (x, history, x, history, tape, params, extra, mask, *rest, needs)
    torch.library.opcheck(torch.ops.ncafast.rollout_backward.default, args)


@pytest.mark.parametrize(
    "name",
    ["2d", "reflect, bias", "1d", "batch norm", "dense", "extra", "two hidden, norm", "gelu"],
)
def test_gradcheck_every_input(name):
    """Numerical derivatives of the last and the kept states by x, every parameter and extra."""
    x, params, extra, mask, *rest = op_args(name)
    names = CASES[name][0].param_shapes()
    # The hidden bias has no effect under batch norm; its exact zero is checked against autograd elsewhere.
    assert len(names) == len(params)

    def run(x, *tensors):
        own = list(tensors[: len(params)])
        out, history, *_ = torch.ops.ncafast.rollout(x, own, tensors[-1] if extra is not None else None, mask, *rest)
        return out, history

    inputs = (x[:1, :, :3].detach().requires_grad_(), *params)
    mask = None if mask is None else mask[:, :1, :, :3]
    if extra is not None:
        extra = extra[:1, :, :3].detach().requires_grad_()
        inputs += (extra,)
    assert torch.autograd.gradcheck(run, inputs, eps=1e-6, atol=1e-6, rtol=1e-4)


def model(**options):
    torch.manual_seed(5)
    settings = {"norm": "batch", "padding": "reflect", "filters": "learned", "filter_bias": True}
    return NCA(5, 7, zero_init=False, **(settings | options)).double()


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile_fullgraph_forward_and_backward_at_two_sizes(backend):
    nca = model()
    compiled = torch.compile(nca, fullgraph=True, dynamic=backend == "aot_eager", backend=backend)
    for size in ((2, 5, 6, 7), (3, 5, 9, 4)):
        x = torch.randn(size, dtype=torch.float64, requires_grad=True)
        results = []
        for run in (nca, compiled):
            out, states = run(x, steps=4, seed=8, states=2, memory="sqrt")
            loss = (out * 1.5).square().sum() + states.sin().sum()
            results.append((out, *torch.autograd.grad(loss, [x, *nca.parameters()])))
        for eager, traced in zip(*results, strict=True):
            torch.testing.assert_close(traced, eager, rtol=1e-11, atol=1e-12)


def test_compile_draws_from_torchs_generator():
    nca = model(norm=None)
    compiled = torch.compile(nca, fullgraph=True, backend="aot_eager")
    x = torch.randn(1, 5, 6, 6, dtype=torch.float64)
    torch.manual_seed(1)
    want = nca(x, steps=2)
    torch.manual_seed(1)
    first, second = compiled(x, steps=2), compiled(x, steps=2)
    assert torch.equal(first, want)
    assert not torch.equal(first, second)


def test_compile_updates_running_statistics():
    eager, traced = model(norm="running"), model(norm="running")
    x = torch.randn(2, 5, 6, 6, dtype=torch.float64)
    eager(x, steps=3, seed=1)
    torch.compile(traced, fullgraph=True, backend="aot_eager")(x, steps=3, seed=1)
    torch.testing.assert_close(traced.norm.running_mean, eager.norm.running_mean)
    assert eager.norm.running_mean.abs().sum() > 0


def test_export_save_and_load(tmp_path):
    nca = model().eval()
    x = torch.randn(2, 5, 6, 7, dtype=torch.float64)

    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.nca = nca

        def forward(self, x):
            return self.nca(x, steps=3, seed=6)

    program = torch.export.export(Fixed(), (x,))
    torch.export.save(program, tmp_path / "nca.pt2")
    again = torch.export.load(tmp_path / "nca.pt2").module()
    assert torch.equal(again(x), nca(x, steps=3, seed=6))

    sizes = {0: Dim("batch"), 2: Dim("height", min=4), 3: Dim("width", min=4)}
    any_size = torch.export.export(Fixed(), (x,), dynamic_shapes={"x": sizes}).module()
    other = torch.randn(3, 5, 9, 4, dtype=torch.float64)
    assert torch.equal(any_size(other), nca(other, steps=3, seed=6))


@pytest.mark.parametrize("name", ["2d", "batch norm"])
def test_vmap_is_a_loop_over_slices(name):
    rule, size = CASES[name]
    params = make_params(rule, torch.float64)
    xs = torch.stack([make_state(rule, size, torch.float64) * (i + 1) for i in range(3)], 1)
    masks = make_masks(rule, 3, size)
    many = {key: torch.stack([p, 2 * p, -p]) for key, p in params.items()}

    def run(x, params):
        return rollout(x, rule, params, 3, fire_mask=masks, states=2)

    out, states = torch.vmap(run, in_dims=(1, 0), out_dims=1)(xs, many)
    for i in range(3):
        want, want_states = run(xs[:, i], {key: p[i] for key, p in many.items()})
        assert torch.equal(out[:, i], want) and torch.equal(states[:, i], want_states)


def test_gradient_through_vmap():
    rule, size = CASES["2d"]
    params, masks = make_params(rule, torch.float64), make_masks(rule, 3, size)
    xs = torch.stack([make_state(rule, size, torch.float64) * (i + 1) for i in range(3)]).requires_grad_()
    weight = params["hidden.weight"].requires_grad_()

    def run(x):
        return rollout(x, rule, params, 3, fire_mask=masks)

    got = torch.autograd.grad(torch.vmap(run)(xs).square().sum(), [xs, weight])
    want = torch.autograd.grad(torch.stack([run(x) for x in xs]).square().sum(), [xs, weight])
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_vmap_over_nothing_is_empty_and_differentiable():
    rule, size = CASES["2d"]
    params = {key: p.requires_grad_() for key, p in make_params(rule, torch.float64).items()}
    xs = torch.zeros(2, 0, rule.channels, *size, dtype=torch.float64, requires_grad=True)
    masks = torch.zeros(0, 3, 2, 1, *size, dtype=torch.bool)

    def run(x, mask):
        return rollout(x, rule, params, 3, fire_mask=mask, states=1)

    out, states = torch.vmap(run, in_dims=(1, 0))(xs, masks)
    assert out.shape == (0, 2, rule.channels, *size) and states.shape == (0, 3, 2, rule.channels, *size)
    (out.sum() + states.sum()).backward()
    assert xs.grad.shape == xs.shape
    assert all(not p.grad.any() for p in params.values())


def test_compile_with_periods_longer_than_the_rollout():
    nca, x = model(), torch.randn(2, 5, 6, 7, dtype=torch.float64, requires_grad=True)

    def run(x):
        return nca(x, steps=4, seed=8, states=9, memory=6)

    results = []
    for call in (run, torch.compile(run, fullgraph=True, backend="aot_eager")):
        out, states = call(x)
        results.append((out, states, *torch.autograd.grad(out.square().sum(), [x, *nca.parameters()])))
    assert results[0][1].shape == (0, *x.shape)
    for eager, traced in zip(*results, strict=True):
        torch.testing.assert_close(traced, eager, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_runs_in_float32(dtype):
    """Half precision made by autocast elsewhere is widened before any memory is read as float32."""
    nca = model().float()
    x = torch.randn(2, 5, 6, 7)
    with torch.autocast("cpu", dtype):
        half = torch.nn.functional.conv2d(x, torch.eye(5)[:, :, None, None])
        assert half.dtype == dtype
        out = nca(half, steps=2, seed=1)
    assert out.dtype == torch.float32
    assert torch.equal(out, nca(half.float(), steps=2, seed=1))
    out.sum().backward()
    assert nca.hidden.weight.grad.dtype == torch.float32


def test_mixed_dtypes_never_reach_a_backend():
    x, params, *rest = op_args("2d")
    with pytest.raises(TypeError, match="float32 beside a state of torch.float64"):
        torch.ops.ncafast.rollout(x, [p.float() for p in params], *rest)


def test_backward_with_only_some_gradients_wanted():
    rule, size = CASES["extra"]
    x, extra = make_state(rule, size, torch.float64), make_extra(rule, size, torch.float64)
    for wanted in ("x", "extra", *rule.param_shapes()):
        params = make_params(rule, torch.float64)
        leaf = {"x": x, "extra": extra, **params}[wanted]
        leaf.requires_grad_()
        rollout(x, rule, params, 3, seed=2, extra=extra).square().sum().backward()
        assert leaf.grad.abs().sum() > 0
        leaf.requires_grad_(False)


def test_a_second_derivative_is_refused_loudly():
    rule, size = CASES["2d"]
    x, params = (
        make_state(rule, size, torch.float64).requires_grad_(),
        make_params(rule, torch.float64),
    )
    out = rollout(x, rule, params, 3, seed=2)
    (grad,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivative"):
        grad.sum().backward()


def test_two_backward_passes_give_the_same_bits():
    nca = model().float()
    x = torch.randn(2, 5, 6, 7)
    grads = [torch.autograd.grad(nca(x, steps=5, seed=1).square().sum(), list(nca.parameters())) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_memory_kept_for_backward_is_the_states():
    """Tensors held by the graph: states only, whatever the width of the hidden layer."""
    nca = NCA(4, 64, norm="batch")
    x = torch.randn(1, 4, 8, 8, requires_grad=True)
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    for memory, states in (("states", 15), ("sqrt", 3), (5, 3)):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            nca(x, steps=16, memory=memory)
        weights = sum(p.numel() * 4 for p in nca.params().values())
        state = 4 * 4 * 64
        assert sum(kept.values()) <= weights + (1 + states) * state + 64


def ddp_worker(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    nca = model(norm=None)
    parallel = nn.parallel.DistributedDataParallel(nca)
    x = torch.load(f"{folder}/x.pt")
    out = parallel(x[2 * rank : 2 * rank + 2], steps=3, seed=4, first_sample=2 * rank)
    out.square().mean().backward()
    torch.save([p.grad for p in nca.parameters()], f"{folder}/grads{rank}.pt")
    dist.barrier()  # neither process leaves while the other still talks to it
    dist.destroy_process_group()


def test_two_processes_give_the_gradients_of_one(tmp_path):
    x = torch.randn(4, 5, 6, 7, dtype=torch.float64)
    torch.save(x, tmp_path / "x.pt")
    torch.multiprocessing.spawn(ddp_worker, (str(tmp_path),), nprocs=2)
    nca = model(norm=None)
    nca(x, steps=3, seed=4).square().mean().backward()
    for rank in range(2):
        for ours, parameter in zip(torch.load(tmp_path / f"grads{rank}.pt"), nca.parameters(), strict=True):
            torch.testing.assert_close(ours, parameter.grad, rtol=1e-11, atol=1e-12)


def test_what_torch_func_refuses_is_refused_loudly():
    """torch.func.grad wants setup_context of every operator; jvp would return zeros if it were let through."""
    nca = model()
    x = torch.randn(1, 5, 6, 7, dtype=torch.float64)

    def loss(x):
        return nca(x, steps=2, seed=1).square().sum()

    with pytest.raises(RuntimeError, match="setup_context"):
        torch.func.grad(loss)(x)
    with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        torch.func.jvp(loss, (x,), (x,))
    jacobian = torch.autograd.functional.jacobian(loss, x)
    torch.testing.assert_close(jacobian, torch.autograd.grad(loss(x.requires_grad_()), x)[0])
