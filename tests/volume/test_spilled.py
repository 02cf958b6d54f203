"""Rollouts in passes and tiles, with states kept elsewhere, against a rollout of the whole grid."""

import os
import resource
from contextlib import nullcontext
from pathlib import Path

import parity
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from parity import make_extra, make_params, make_state
from volume_rules import RULES

from ncafast import NCA, Alive, Rule, rollout
from ncafast.backends.fusable import MEASURED_NORMS
from ncafast.trace import Options, trace
from ncafast.volume.cut import Cut
from ncafast.volume.reach import needs_whole_grid, refusal
from ncafast.volume.spilled import rollout_spilled, spilled_trace, spilling

SMALL = Rule(channels=4, hidden=(8,))
COUNT = os.environ.get("NCAFAST_RANDOM_VOLUMES")


def run(function, rule, size, dtype, *, batch=2, steps=4, extra_shape=None, **options):
    """(x_T, gradients of x, the parameters and extra)."""
    x = make_state(rule, size, dtype, batch, seed=1).requires_grad_()
    params = {name: p.requires_grad_("running" not in name) for name, p in make_params(rule, dtype, seed=2).items()}
    extra = make_extra(rule, size, dtype, batch, shape=extra_shape, seed=3)
    leaves = [x, *(p for p in params.values() if p.requires_grad)]
    if extra is not None:
        leaves.append(extra.requires_grad_())
    out = function(x, rule, params, steps, seed=2**64 - 7, first_step=5, first_sample=3, extra=extra, **options)
    weight = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).to(dtype)
    return [out, *torch.autograd.grad((out * weight).sum(), leaves)]


def check(found, want):
    for a, b in zip(found, want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10 * max(1.0, b.abs().max().item()))


@pytest.mark.parametrize("name", RULES)
def test_tiles_and_their_gradients_equal_the_whole_rollout(name, tmp_path):
    rule, size = RULES[name]
    want = run(rollout, rule, size, torch.float64, backend="reference")
    pieces = tuple(-(-n // pieces) for n, pieces in zip(size, (2, 3, 2), strict=False))
    for spill, tile, per_pass in (None, pieces, 1), (tmp_path, pieces, 3), ("host", size, 3):
        per_pass = 1 if tile != size and needs_whole_grid(rule) else per_pass
        options = {"spill": spill, "tile": tile, "steps_per_pass": per_pass, "backend": "reference"}
        check(run(rollout_spilled, rule, size, torch.float64, **options), want)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["reflect 5", "alive", "3-D", "batch", "group", "pooled max, batch"])
def test_float32_is_as_near_to_float64_as_a_whole_rollout_and_two_runs_give_the_same_bits(name, tmp_path):
    rule, size = RULES[name]
    options = {"spill": tmp_path, "tile": 5}
    exact = run(rollout, rule, size, torch.float64, backend="reference")
    plain = run(rollout, rule, size, torch.float32, backend="reference")
    ours, again = (run(rollout_spilled, rule, size, torch.float32, backend="cpu", **options) for _ in range(2))
    parity.check(ours, plain, exact)
    assert all(map(torch.equal, ours, again))


@st.composite
def volumes(draw):
    """A rule, a grid, and how it is cut."""
    ndim, channels = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    norm = draw(st.sampled_from(["none", "none", "batch", "group", "instance", "layer"]))
    alive, padding = None, draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    if draw(st.integers(0, 2)) == 0:
        pre, post = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
        gates = "state" if post else draw(st.sampled_from(["state", "update"]))
        alive = Alive(draw(st.integers(0, channels - 1)), 0.3, draw(st.sampled_from([1, 3, 5])), pre, post,
                      padding == "circular", gates)  # fmt: skip
    rule = Rule(
        channels=channels,
        ndim=ndim,
        kernel_size=tuple(draw(st.sampled_from([1, 3, 5])) for _ in range(ndim)),
        num_filters=draw(st.integers(0, 2)),
        padding=padding,
        extra=draw(st.integers(0, 2)),
        hidden=(4, 3) if norm in ("none", "layer") and draw(st.booleans()) else (4,),
        norm=norm,
        norm_groups=2,
        activation=draw(st.sampled_from(["relu", "tanh", "gelu"])),
        fire_rate=draw(st.sampled_from([0.4, 1.0])),
        alive=alive,
        pooled=draw(st.sampled_from(["none", "none", "mean", "max"])),
        clamp=draw(st.sampled_from([None, None, (-0.8, 0.9)])),
    )
    size = tuple(draw(st.integers(3, 24 // ndim)) for _ in range(ndim))
    tile = tuple(draw(st.integers(max(1, n // 3), n)) for n in size)
    batch, steps = draw(st.integers(1, 2)), draw(st.integers(1, 5))
    extra = [draw(st.sampled_from([1, batch])), rule.extra, *(draw(st.sampled_from([1, n])) for n in size)]
    shape = tuple([steps] * draw(st.booleans()) + extra)
    per_pass = 1 if needs_whole_grid(rule) and tile != size else draw(st.integers(1, steps))
    memory = draw(st.sampled_from(["states", "sqrt", 2]))
    return rule, size, {"batch": batch, "steps": steps, "extra_shape": shape}, (tile, per_pass, memory)


@settings(
    max_examples=int(COUNT or 60),
    derandomize=COUNT is None,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(volumes())
def test_random_rules_grids_and_cuts(volume):
    rule, size, call, (tile, per_pass, memory) = volume
    assume(refusal(rule) is None and (rule.norm not in MEASURED_NORMS or torch.Size(size).numel() >= 8))
    want = run(rollout, rule, size, torch.float64, backend="reference", **call)
    cut = {"tile": tile, "steps_per_pass": per_pass, "memory": memory}
    check(run(rollout_spilled, rule, size, torch.float64, backend="reference", **call, **cut), want)


@pytest.mark.parametrize("need_x", [False, True])
def test_frozen_inputs_get_no_gradient_and_a_second_backward_gives_the_same(need_x, tmp_path):
    x, params = make_state(SMALL, (9, 8), torch.float32), make_params(SMALL, torch.float32)
    x.requires_grad_(need_x)
    params["update.weight"].requires_grad_()
    out = rollout_spilled(x, SMALL, params, 6, seed=1, spill=tmp_path, tile=4)
    assert mapped(tmp_path)
    out.sum().backward(retain_graph=True)
    first = params["update.weight"].grad.clone(), x.grad.clone() if need_x else None
    assert all(params[name].grad is None for name in params if name != "update.weight")
    out.sum().backward()
    assert torch.equal(params["update.weight"].grad, 2 * first[0])
    assert torch.equal(x.grad, 2 * first[1]) if need_x else x.grad is None
    assert not mapped(tmp_path)  # although `out` and its graph are still there


def mapped(folder):
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]


def test_statistics_of_batch_norm_are_those_of_the_whole_rollout():
    rule, size = RULES["batch"]
    x, params = make_state(rule, size, torch.float64), make_params(rule, torch.float64)
    options = Options(seed=3, backend="reference")
    want = trace(x, rule, params, 3, options).stats
    found = [spilled_trace(x, rule, params, 3, options, Cut(tile=tile)).stats for tile in (4, size)]
    for stats in found:
        torch.testing.assert_close(stats, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_states_round_as_those_of_a_whole_rollout(dtype, tmp_path):
    whole, *_ = run(rollout, SMALL, (12, 11), dtype, backend="reference")
    ours, grad, *_ = run(rollout_spilled, SMALL, (12, 11), dtype, tile=5, spill=tmp_path, backend="reference")
    assert torch.equal(ours, whole) and grad.dtype == dtype


def test_a_rollout_under_autocast_computes_in_float32():
    rule, size = RULES["batch"]
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    want = rollout_spilled(x, rule, params, 3, seed=1, tile=5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(rollout_spilled(x, rule, params, 3, seed=1, tile=5), want)


def test_tiles_are_chosen_by_the_memory_limit(tmp_path):
    rule, size = Rule(channels=8, hidden=(16,)), (96, 96)
    x, params = make_state(rule, size, torch.float32, 1), make_params(rule, torch.float32)
    held = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with pytest.raises(MemoryError, match=r"what may help: spill= to a folder"):
        rollout_spilled(x, rule, params, 16, memory_limit=held + x.nbytes)
    out = rollout_spilled(x, rule, params, 16, seed=1, memory_limit=f"{held + 40 * x.nbytes}", spill=tmp_path)
    torch.testing.assert_close(out, rollout(x, rule, params, 16, seed=1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("refused", ["missing", "a file", "full"])
def test_a_folder_that_cannot_be_used_is_one_line_and_nothing_is_left(refused, tmp_path):
    x, params = make_state(SMALL, (40, 40), torch.float32), make_params(SMALL, torch.float32)
    folder = tmp_path if refused == "full" else tmp_path / refused
    if refused == "a file":
        folder.touch()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    if refused == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match=f"{refused if refused != 'full' else 'bytes are needed'}") as error:
            rollout_spilled(x, SMALL, params, 9, spill=folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)
    assert not mapped(tmp_path) and [p.name for p in tmp_path.iterdir()] == ["a file"] * (refused == "a file")


def test_a_folder_that_vanishes_between_forward_and_backward_is_one_line(tmp_path):
    x, params = make_state(SMALL, (12, 9), torch.float32).requires_grad_(), make_params(SMALL, torch.float32)
    folder = tmp_path / "spill"
    folder.mkdir()
    out = rollout_spilled(x, SMALL, params, 9, spill=folder)
    folder.rmdir()
    with pytest.raises(OSError, match=r"spill=.*No such file or directory: [\d,]+ bytes are needed$"):
        out.sum().backward()


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        (SMALL.replace(norm="batch"), {"steps_per_pass": 2}, "each step measures the whole grid"),
        (SMALL.replace(noise="update", noise_std=0.1), {}, "this rule cannot run in tiles: noise"),
        (SMALL, {"tile": (3, 3, 3)}, "must be one int or 2 ints"),
        (SMALL, {"tile": 0}, "tile"),
        (SMALL, {"memory": "none"}, "memory='none' is not allowed"),
    ],
)
def test_arguments_that_are_refused(rule, options, message):
    x, params = make_state(rule, (8, 8), torch.float32), make_params(rule, torch.float32)
    with pytest.raises(ValueError, match=message):
        rollout_spilled(x, rule, params, 4, **{"tile": 4, **options})


def test_models_train_inside_spilling_as_without_it(tmp_path):
    """With fire masks of the caller, film, running statistics that follow, and a backward after the block."""
    found = []
    for context in nullcontext(), spilling(tmp_path, tile=5):
        torch.manual_seed(3)
        nca = NCA(channels=4, hidden=8, norm="batch", zero_init=False).double()
        filmed = NCA(channels=4, hidden=8, zero_init=False).double()
        x = make_state(SMALL, (9, 12), torch.float64)
        masks = torch.rand(3, 2, 1, 9, 12) < 0.5
        film = torch.rand(2, 8, dtype=torch.float64), torch.rand(2, 8, dtype=torch.float64)
        with context:
            out = filmed(nca(x, 4, seed=1, backend="reference"), 3, fire_mask=masks, film=film, backend="reference")
        out.square().sum().backward()
        found.append([out, *(p.grad for p in (*nca.parameters(), *filmed.parameters())), *nca.buffers()])
    check(found[1], found[0])
    with spilling():
        with pytest.raises(ValueError, match="states= is not possible"):
            nca(x, 4, states="all")
        with pytest.raises(RuntimeError, match="neither inside each other"), spilling():
            pass
