"""What the CUDA backend alone must do: each way of launching a rollout is taken where it is asked for, and is right.

Run as tests/backends/gpu_suite.py is, and by tests/backends/test_cuda.py.
"""

from __future__ import annotations

import os

import pytest
import torch
from cases import CASES, make_params, make_state
from gpu_suite import BACKEND, DEVICE, exact_products, refused  # noqa: F401  (a fixture)
from parity import check_case, run

from ncafast import Alive, Rule, native, rollout
from ncafast.backends import cuda as backend
from ncafast.backends.plan import Call, Plan
from ncafast.trace import Options, trace

# Grids of several parts, the last of them smaller, whose cells see beyond their neighbours' parts and around the edges.
_FIELDS = {"channels": 6, "hidden": (10,)}
CASES["parts"] = (Rule(**_FIELDS), (13, 11))
CASES["parts, 1d"] = (Rule(**_FIELDS, ndim=1, num_filters=1, kernel_size=5, padding="replicate"), (277,))
CASES["parts, 3d circular"] = (Rule(**_FIELDS, ndim=3, num_filters=1, padding="circular"), (6, 5, 9))
CASES["parts, k7 reflect"] = (Rule(channels=8, hidden=(10,), kernel_size=7, padding="reflect", extra=1), (17, 19))
CASES["parts, alive"] = (Rule(**_FIELDS, alive=Alive(threshold=1.8), restore=(4, 5)), (14, 15))
CASES["parts, alive pre"] = (Rule(**_FIELDS, alive=Alive(post=False, pool=5, threshold=1.2)), (13, 9))
CASES["parts, alive post"] = (
    Rule(**_FIELDS, ndim=3, num_filters=1, alive=Alive(pre=False, pool=7, threshold=2.0), fire_rate=1.0),
    (4, 7, 6),
)
SEVERAL = [name for name in CASES if name.startswith("parts")]
SMALL = ["k mixed", "one cell", "running norm", "extra", "alive"]

if os.environ.get("NCAFAST_CUDA_SHIM"):
    CLUSTERS = int(os.environ.get("NCAFAST_SHIM_CAPABILITY", 90)) >= 90
else:
    CLUSTERS = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (9, 0)
WAYS = [way for way in backend.LAUNCH_STRATEGIES if way != "cluster" or CLUSTERS]


@pytest.fixture
def went(monkeypatch):
    """What every rollout forward says of its way: (name, blocks of a cluster)."""
    found, module = [], native.load_cuda()

    class Recorded:
        def __getattr__(self, name):
            return getattr(module, name)

        def forward(self, *arguments):
            number, parts = module.forward(*arguments)
            found.append((backend.LAUNCH_STRATEGIES[number], parts))
            return number, parts

    monkeypatch.setattr(backend, "_module", Recorded)
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*SEVERAL, *SMALL])
def test_each_way_agrees_with_float64(name, way, went, monkeypatch):
    monkeypatch.setenv("NCAFAST_CUDA_ROLLOUT", way)
    check_case(BACKEND, name, 4, DEVICE, small=3e-6)
    assert {found for found, _ in went} == {way}
    if way == "cluster" and name in SEVERAL:
        assert all(parts > 2 for _, parts in went)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["parts", "parts, alive"])
def test_each_way_where_only_some_states_are_kept(name, way, went, monkeypatch):
    monkeypatch.setenv("NCAFAST_CUDA_ROLLOUT", way)
    check_case(BACKEND, name, 5, DEVICE, small=3e-6, memory=2, states=4)
    assert {found for found, _ in went} == {way}


@pytest.mark.parametrize("way", WAYS)
def test_life_goes_from_part_to_part(way, went, monkeypatch):
    """A cell that is dead before a step is computed where that may keep a neighbour in another part alive.

    One of 7600 random rules where it matters whether a cluster's blocks wait for each other's marks of living cells.
    """
    monkeypatch.setenv("NCAFAST_CUDA_ROLLOUT", way)
    random = torch.Generator().manual_seed(7329)
    rule = Rule(channels=5, hidden=(8,), alive=Alive(channel=3, threshold=0.3), fire_rate=1.0)
    scale = {"perceive.weight": 0.5, "hidden.weight": 0.5, "hidden.bias": 1.0, "update.weight": 0.5}
    params = {name: scale[name] * torch.randn(shape, generator=random) for name, shape in rule.param_shapes().items()}
    x = 1.5 * torch.randn(3, 5, 16, 17, generator=random) * (torch.rand(3, 1, 16, 17, generator=random) < 0.06)
    exact = rollout(x.double(), rule, {name: p.double() for name, p in params.items()}, 6, backend="reference")
    on_device = {name: p.to(DEVICE) for name, p in params.items()}
    for _ in range(8):  # in which blocks take turns differently
        found = rollout(x.to(DEVICE), rule, on_device, 6, backend=BACKEND)
        torch.testing.assert_close(found.cpu().double(), exact, rtol=1e-4, atol=1e-4 * float(exact.abs().max()))
    assert {name for name, _ in went} == {way}


@pytest.mark.parametrize("name", SEVERAL)
def test_all_ways_give_the_same_bits(name, went, monkeypatch):
    """Drawn masks, first steps and samples included; with states kept and without."""
    rule, size = CASES[name]
    x, params = make_state(rule, size, torch.float32, batch=3), make_params(rule, torch.float32)
    weight = torch.randn(4, 3, rule.channels, *size)
    extra = torch.randn(4, 1, rule.extra, *size) if rule.extra else None
    given = {"seed": 5, "first_step": 2**32 - 4, "first_sample": 3}
    results = []
    for way in WAYS:
        monkeypatch.setenv("NCAFAST_CUDA_ROLLOUT", way)
        found = run(BACKEND, rule, x, params, None, extra, weight, device=DEVICE, **given)
        on_device = {key: p.to(DEVICE) for key, p in params.items()}
        moved = None if extra is None else extra.to(DEVICE)
        alone = rollout(x.to(DEVICE), rule, on_device, 4, extra=moved, backend=BACKEND, **given)
        assert torch.equal(alone.cpu(), found[0])
        results.append(found)
    assert {way for way, _ in went} == set(WAYS)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


CASES["parts, norm"] = (Rule(channels=6, hidden=(10,), norm="batch", padding="reflect"), (21, 19))
CASES["parts, norm, alive"] = (Rule(channels=5, hidden=(10,), norm="batch", alive=Alive(threshold=0.8)), (11, 13))
CASES["parts, norm, extra"] = (Rule(channels=9, hidden=(40,), norm="batch", extra=2, kernel_size=5), (9, 12))


@pytest.mark.parametrize("way", ["steps", "cooperative"])
@pytest.mark.parametrize("name", ["batch norm 3d", "parts, norm", "parts, norm, alive", "parts, norm, extra"])
def test_batch_norm_by_steps_and_in_one_launch(name, way, went, monkeypatch):
    monkeypatch.setenv("NCAFAST_CUDA_ROLLOUT", way)
    check_case(BACKEND, name, 4, DEVICE, small=3e-6)
    assert {found for found, _ in went} == {way}


def test_statistics_of_batch_norm_do_not_depend_on_the_way(monkeypatch):
    rule, size = CASES["parts, norm"]
    x, params = make_state(rule, size, torch.float32).to(DEVICE), make_params(rule, torch.float32)
    params = {key: p.to(DEVICE) for key, p in params.items()}
    found = []
    for way in ("steps", "cooperative"):
        monkeypatch.setenv("NCAFAST_CUDA_ROLLOUT", way)
        found.append(trace(x, rule, params, 4, Options(seed=1, backend=BACKEND)).stats)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


def test_batch_norm_is_never_on_chip(went, monkeypatch):
    """Its statistics are those of all samples. With many channels it goes by steps in any case."""
    monkeypatch.setenv("NCAFAST_CUDA_ROLLOUT", "cluster")
    check_case(BACKEND, "batch norm", 3, DEVICE, small=3e-6)
    assert "cluster" not in {way for way, _ in went}
    went.clear()
    monkeypatch.setenv("NCAFAST_CUDA_ROLLOUT", "cooperative")
    check_case(BACKEND, "wide", 2, DEVICE, small=3e-6)
    assert {way for way, _ in went} == {"steps"}


def test_the_quickest_way_by_the_model(went, monkeypatch):
    """A small grid never goes by steps; without clusters it cannot be on chip."""
    monkeypatch.delenv("NCAFAST_CUDA_ROLLOUT", raising=False)
    rule, size = CASES["parts"]
    x, params = make_state(rule, size, torch.float32), make_params(rule, torch.float32)
    rollout(x.to(DEVICE), rule, {key: p.to(DEVICE) for key, p in params.items()}, 3, backend=BACKEND)
    assert went[0][0] == ("cluster" if CLUSTERS else "cooperative")


def test_an_unknown_way_is_refused(monkeypatch):
    monkeypatch.setenv("NCAFAST_CUDA_ROLLOUT", "graph")
    rule, size = CASES["2d"]
    params = {key: p.to(DEVICE) for key, p in make_params(rule, torch.float32).items()}
    with pytest.raises(ValueError, match="NCAFAST_CUDA_ROLLOUT='graph' is not known: choose from steps, cooperative"):
        rollout(make_state(rule, size, torch.float32).to(DEVICE), rule, params, 2, backend=BACKEND)


def test_statistics_of_an_empty_batch_are_written():
    """As zeros, which is what the operator says of them before any backend is asked."""
    rule, size = CASES["batch norm"]
    params = [p.to(DEVICE) for p in make_params(rule, torch.float32).values()]
    x, seed = torch.zeros(0, rule.channels, *size, device=DEVICE), torch.zeros(1, dtype=torch.int64, device=DEVICE)
    full = torch.full((3, 2, rule.hidden[0]), torch.nan, device=DEVICE)  # new memory may well be zero
    with pytest.MonkeyPatch.context() as patch:
        plan = Plan(3, 0, 0, 0, 0, "ieee")
        made = backend.outputs(rule, x, plan)._replace(stats=full)
        patch.setattr(backend, "outputs", lambda *_: made)
        done = backend.forward(Call(rule, x, params, None, None, seed, plan))
    assert torch.equal(done.stats, torch.zeros_like(full))


# Large windows of many channels: as many cells of a thin grid would see more than a block has room for.
CASES["thin"] = (Rule(channels=28, hidden=(8,), ndim=3, num_filters=1, kernel_size=7), (1, 1, 45))
CASES["flat"] = (Rule(channels=28, hidden=(8,), ndim=3, num_filters=1, kernel_size=7), (1, 9, 7))


@pytest.mark.parametrize("name", ["thin", "flat"])
def test_thin_grids_run_wherever_wide_ones_do(name):
    """torch.compile asks for a wide grid, since it may not know the size."""
    rule, size = CASES[name]
    assert refused(rule, (64, 64, 64)) is None
    assert refused(rule, size) is None
    check_case(BACKEND, name, 2, DEVICE, small=3e-6)
    x, params = make_state(rule, size, torch.float32).to(DEVICE), make_params(rule, torch.float32)
    params = {key: p.to(DEVICE) for key, p in params.items()}
    compiled = torch.compile(lambda x: rollout(x, rule, params, 2, seed=1, backend=BACKEND), backend="eager")
    assert torch.equal(compiled(x), rollout(x, rule, params, 2, seed=1, backend=BACKEND))
