"""Rollouts over tiles against those of the whole: numbers, masks, kinds of arrays."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.lib.format import open_memmap
from parity import check, make_extra, make_params, make_state
from volume_rules import RULES

from ncafast import Alive, Rule, rollout
from ncafast.volume import plan_tiled, rollout_tiled
from ncafast.volume.reach import needs_whole_grid, refusal

COUNT = os.environ.get("NCAFAST_RANDOM_TILES")
RULE = Rule(channels=4, hidden=(8,), padding="reflect", fire_rate=0.6)


def inputs(rule, size, dtype=torch.float32, batch=2):
    """State, parameters and extra channels."""
    x, extra = (make(rule, size, dtype, batch) for make in (make_state, make_extra))
    return x, make_params(rule, dtype), extra


def tiled(x, rule, params, steps, **options):
    return rollout_tiled(x, rule, params, steps, progress=False, **options)


@pytest.mark.parametrize("name", RULES)
def test_tiles_equal_the_whole(name):
    rule, size = RULES[name]
    x, params, extra = inputs(rule, size)
    before = x.clone()
    options = {"seed": 7, "first_step": 5, "first_sample": 3}
    whole = rollout(x, rule, params, 4, extra=extra, **options)
    wide = None if extra is None else extra.double()
    exact = rollout(x.double(), rule, {n: p.double() for n, p in params.items()}, 4, extra=wide, **options)
    for steps in (None,) if needs_whole_grid(rule) else (1, 3):
        found = tiled(x, rule, params, 4, extra=extra, tile=5, steps_per_pass=steps, **options)
        check([found], [whole], [exact])
    assert torch.equal(x, before)


def test_the_same_cells_fire():
    rule = Rule(channels=1, hidden=(1,), update_bias=True, fire_rate=0.3, padding="circular")
    params = {name: torch.zeros(shape) for name, shape in rule.param_shapes().items()}
    params["update.bias"] += 1.0  # so that a cell counts how often it fired
    x = torch.zeros(3, 1, 23, 17)
    whole = rollout(x, rule, params, 6, seed=9, first_step=4)
    assert torch.equal(tiled(x, rule, params, 6, seed=9, first_step=4, tile=(5, 8), steps_per_pass=4), whole)
    torch.manual_seed(3)
    found = tiled(x, rule, params, 2, tile=7)
    torch.manual_seed(3)
    assert torch.equal(found, rollout(x, rule, params, 2))


def test_extra_channels_may_change_per_step():
    for norm in ("none", "batch"):
        rule = RULE.replace(extra=2, norm=norm)
        x, params, _ = inputs(rule, (9, 12), torch.float64)
        extra = torch.randn(5, 1, 2, 9, 1, dtype=torch.float64)
        whole = rollout(x, rule, params, 5, extra=extra, seed=1)
        torch.testing.assert_close(tiled(x, rule, params, 5, extra=extra, seed=1, tile=4), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_states_are_rounded_once_per_step(dtype):
    for rule in (RULE, RULE.replace(norm="batch"), RULE.replace(pooled="mean", norm="group", norm_groups=2)):
        x, params, _ = inputs(rule, (9, 12), dtype)
        whole = rollout(x, rule, params, 3, seed=1)
        found = tiled(x, rule, params, 3, seed=1, tile=5)
        torch.testing.assert_close(found, whole, rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)


def test_parameters_may_be_those_of_a_sample():
    x, params, _ = inputs(RULE, (9, 12), torch.float64)
    params["hidden.weight"] = torch.randn(2, *params["hidden.weight"].shape, dtype=torch.float64)
    whole = rollout(x, RULE, params, 3, seed=1)
    torch.testing.assert_close(tiled(x, RULE, params, 3, seed=1, tile=5), whole)
    with pytest.raises(ValueError, match="parameters per sample"):
        tiled(x, RULE.replace(norm="batch", norm_affine=False), params, 3, seed=1, tile=5)


def near(array, want):
    np.testing.assert_allclose(np.asarray(array[...]), want.numpy(), rtol=1e-5, atol=1e-5)


def arrays_of(kind, folder, x):
    """A source that holds x and an empty out of one kind."""
    values = x.numpy()
    if kind == "tensor":
        return x.movedim(1, -1).contiguous().movedim(-1, 1), torch.empty(x.shape)
    if kind == "numpy":
        return values.astype(">f4")[:, :, ::-1][:, :, ::-1], np.empty_like(values)
    if kind == "memory map":
        np.save(folder / "source.npy", values)
        out = open_memmap(folder / "out.npy", "w+", np.float32, values.shape)
        return np.load(folder / "source.npy", mmap_mode="r"), out
    zarr = pytest.importorskip("zarr")
    source = zarr.create_array(str(folder / "source.zarr"), data=values, chunks=(1, 2, 4, 5))
    return source, zarr.create_array(str(folder / "out.zarr"), shape=x.shape, dtype="f4", chunks=(2, 4, 8, 8))


@pytest.mark.parametrize("kind", ["tensor", "numpy", "memory map", "zarr"])
@pytest.mark.parametrize("passes", [1, 2, 3])
def test_arrays_of_every_kind(kind, passes, tmp_path):
    x, params, _ = inputs(RULE, (13, 22))
    want = rollout(x, RULE, params, 3, seed=1)
    source, out = arrays_of(kind, tmp_path, x)
    files = sorted(tmp_path.iterdir())
    options = {"seed": 1, "tile": (6, 7), "steps_per_pass": -(-3 // passes)}
    assert tiled(source, RULE, params, 3, out=out, **options) is out
    near(out, want)
    assert (np.asarray(source[...]) == x.numpy()).all()
    assert sorted(tmp_path.iterdir()) == files
    found = tiled(source, RULE, params, 3, **options)
    near(found, want)
    assert isinstance(found, torch.Tensor if kind == "tensor" else np.ndarray)
    if kind == "memory map":
        source = np.load(tmp_path / "source.npy", mmap_mode="r+")
    if kind != "numpy":
        tiled(source, RULE, params, 3, out=source, **options)
        near(source, want)


def test_a_part_of_a_memory_map_and_an_out_of_another_kind(tmp_path):
    x, params, _ = inputs(RULE, (13, 22))
    want = rollout(x, RULE, params, 3, seed=1)
    both = open_memmap(tmp_path / "both.npy", "w+", np.float32, (2, 2, 4, 13, 22))
    both[0] = x
    tiled(both[0], RULE, params, 3, out=both[1], seed=1, tile=6)
    torch.testing.assert_close(torch.from_numpy(both[1].copy()), want)
    assert (both[0] == x.numpy()).all()
    mapped = np.load(tmp_path / "both.npy", mmap_mode="c")
    mapped[1] = x  # in memory only
    torch.testing.assert_close(tiled(mapped[1], RULE, params, 3, out=torch.empty(x.shape), seed=1, tile=6), want)


def test_no_steps_copy():
    x, params, _ = inputs(RULE, (7, 8))
    out = tiled(x, RULE, params, 0, tile=3)
    assert torch.equal(out, x) and out.data_ptr() != x.data_ptr()
    assert torch.equal(tiled(x.clone(), RULE, params, 0, out=x, tile=3), x)
    assert tiled(x[:0], RULE, params, 3, tile=3).shape == (0, 4, 7, 8)


def test_a_state_that_is_not_cut_is_one_rollout():
    rule = RULE.replace(norm="batch", hidden=(8, 6), noise="update", noise_std=0.1)
    x, params, _ = inputs(rule, (7, 8), torch.float64)
    assert torch.equal(tiled(x, rule, params, 3, seed=2), rollout(x, rule, params, 3, seed=2))
    assert plan_tiled(x, rule, params, 3).counts == (3,)


@st.composite
def examples(draw):
    """A rule, sizes, and how they are cut."""
    ndim = draw(st.sampled_from([1, 2, 2, 2, 3]))
    alive = st.fixed_dictionaries(
        {
            "channel": st.integers(0, 2),
            "threshold": st.sampled_from([0.1, 0.9]),
            "pool": st.sampled_from([1, 3, 5]),
            "gates": st.sampled_from(["state", "state", "update"]),
        }
    )
    living = draw(st.none() | alive)
    if living:
        living["post"] = living["gates"] == "state" and draw(st.booleans())
        living["pre"] = not living["post"] or draw(st.booleans())
    padding = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    rule = {
        "ndim": ndim,
        "channels": draw(st.integers(3, 5)),
        "kernel_size": tuple(draw(st.lists(st.sampled_from([1, 3, 3, 5, 7]), min_size=ndim, max_size=ndim))),
        "padding": padding,
        "perception": draw(st.sampled_from(["depthwise", "depthwise", "dense"])),
        "dense_channels": 5,
        "num_filters": draw(st.integers(0, 2)),
        "filter_bias": draw(st.booleans()),
        "extra": draw(st.integers(0, 2)),
        "hidden": (4 * draw(st.integers(1, 3)),),
        "norm": draw(st.sampled_from(["none", "none", "batch", "running", "group", "instance", "layer"])),
        "norm_affine": draw(st.booleans()),
        "norm_groups": 2,
        "fire_rate": draw(st.sampled_from([1.0, 0.5, 0.8])),
        "fire_rescale": draw(st.booleans()),
        "pooled": draw(st.sampled_from(["none", "none", "none", "mean", "max"])),
        "alive": living and Alive(**living, wrap=padding == "circular"),
        "clamp": draw(st.sampled_from([None, (-1.0, 1.5)])),
        "restore": draw(st.sampled_from([None, (0, 1)])),
        "mutable": draw(st.sampled_from([None, (1, 3)])),
    }
    size = tuple(draw(st.lists(st.integers(4, {1: 60, 2: 17, 3: 9}[ndim]), min_size=ndim, max_size=ndim)))
    tile = tuple(draw(st.integers(-(-n // 3), n)) for n in size)
    return rule, size, tile, draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 2))


@given(examples())
@settings(
    max_examples=int(COUNT or 200),
    deadline=None,
    derandomize=COUNT is None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_random_rules_in_random_tiles(example):
    fields, size, tile, steps_per_pass, steps, batch = example
    try:
        rule = Rule(**fields)
    except ValueError:
        assume(False)
    assume(refusal(rule) is None)
    x, params, extra = inputs(rule, size, torch.float64, batch)
    options = {"extra": extra, "seed": 11, "first_step": 2, "first_sample": 1, "backend": "reference"}
    whole = rollout(x, rule, params, steps, **options)
    if needs_whole_grid(rule):
        steps_per_pass = 1
    found = tiled(x, rule, params, steps, tile=tile, steps_per_pass=steps_per_pass, **options)
    torch.testing.assert_close(found, whole, rtol=1e-9, atol=1e-9 * max(1.0, whole.abs().max().item()))
