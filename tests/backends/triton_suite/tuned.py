"""Tile sizes measured and kept: every size that is tried gives the same numbers, and the file says what was chosen.

Run as kernels.py is, beside it.
"""

from __future__ import annotations

import json

import pytest
import torch
from cases import CASES, make_params, make_state
from parity import check_case, run

from ncafast.backends import tuning
from ncafast.backends.precision import use_precision
from ncafast.backends.triton_kernels import sizes
from ncafast.backends.triton_kernels.rollout import Rollout

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    import interpreter

    interpreter.quicken()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setenv("NCAFAST_CACHE", str(tmp_path))
    monkeypatch.delenv("NCAFAST_TUNE", raising=False)
    monkeypatch.setattr(tuning, "_read", None)
    with use_precision("ieee"):
        yield tmp_path / "triton-tiles.json"


def entries(cache):
    (found,) = json.loads(cache.read_text()).values()
    return {key.split()[0]: entry for key, entry in found.items()}


@pytest.fixture
def quicker(monkeypatch):
    """A clock to which every size seems quicker than the one before. Only the last are run, for the time it takes."""
    ticks = []

    def clock(launch):
        launch()
        ticks.append(1)
        return 1000.0 * 0.9 ** len(ticks)

    monkeypatch.setattr(tuning, "clock", clock)
    monkeypatch.setattr(sizes, "around", lambda fixed: [fixed._replace(block=32, warps=8), fixed._replace(block=16)])
    return ticks


@pytest.mark.parametrize("name", ["batch norm", "alive"])
def test_the_quickest_is_kept_and_gives_the_same_numbers(name, cache, quicker):
    with tuning.tune():
        check_case("triton", name, 2, DEVICE, small=3e-6)
    kept = entries(cache)
    expected = {"step", "mlp_backward", "perception_backward"} | (
        {"sum_moments", "batch_norm_backward"} if name == "batch norm" else set()
    )
    assert set(kept) == expected
    assert {entry["block"] for entry in kept.values()} == {16}
    assert all(entry["us"] < entry["fixed_us"] and entry["date"] for entry in kept.values())
    timed = len(quicker)
    check_case("triton", name, 2, DEVICE, small=3e-6)  # with what is kept, and no clock
    assert len(quicker) == timed


def test_nothing_is_timed_unasked_and_what_is_kept_is_taken(cache, quicker, monkeypatch):
    rule, size = CASES["2d"]
    inputs = make_state(rule, size, torch.float32), make_params(rule, torch.float32), None, None
    weight = torch.randn(3, 2, rule.channels, *size)
    run("triton", rule, *inputs, weight, device=DEVICE, seed=1)
    assert not quicker and not cache.exists()
    monkeypatch.setenv("NCAFAST_TUNE", "1")
    run("triton", rule, *inputs, weight, device=DEVICE, seed=1)
    assert quicker
    monkeypatch.delenv("NCAFAST_TUNE")
    monkeypatch.setattr(tuning, "_read", None)  # as another process finds it
    seen = []
    before = Rollout.launch
    monkeypatch.setattr(
        Rollout,
        "launch",
        lambda self, kernel, *rest: seen.append(self.tiles[kernel].block) or before(self, kernel, *rest),
    )
    run("triton", rule, *inputs, weight, device=DEVICE, seed=1)
    assert set(seen) == {16}


def test_sizes_that_do_not_run_are_passed_over_and_small_gains_are_noise(cache, monkeypatch):
    fixed = sizes.Tiles(64, 16, 1)
    times = {fixed: 10.0, fixed._replace(warps=8): 9.9}

    def launch(tiles):
        if tiles not in times:
            raise RuntimeError("out of resources")
        seen.append(tiles)

    seen = []
    monkeypatch.setattr(tuning, "clock", lambda run: run() or times[seen[-1]])
    device, total = torch.device(DEVICE), torch.ones(3, device=DEVICE)
    assert tuning.measure(device, "step of a test", fixed, launch, [total]) == fixed
    assert tuning.known(device, "step of a test", fixed) == fixed
    times[fixed._replace(block=32)] = 5.0
    assert tuning.measure(device, "step of a test", fixed, launch, [total]).block == 32


def test_sums_are_left_as_they_were(cache, quicker):
    total = torch.ones(3)
    tuning.measure(torch.device(DEVICE), "step of a test", sizes.Tiles(64), lambda tiles: total.add_(1), [total])
    assert total.tolist() == [1, 1, 1]


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 3}'])
def test_a_damaged_file_is_no_obstacle(text, cache):
    cache.write_text(text)
    device, fixed = torch.device(DEVICE), sizes.Tiles(64)
    if text == "{":
        with pytest.warns(UserWarning, match="triton-tiles.json: tile sizes cannot be read"):
            assert tuning.known(device, "step", fixed) is None
    assert tuning.known(device, "step", fixed) is None


def test_an_entry_that_was_never_tried_does_not_count(cache):
    device, fixed = torch.device(DEVICE), sizes.Tiles(64, 16, 2)
    entry = fixed._asdict() | {"chunk": 8}
    cache.write_text(json.dumps({tuning.gpu(device): {"step": entry, "other": entry | {"chunk": 16, "warps": 8}}}))
    assert tuning.known(device, "step", fixed) is None
    assert tuning.known(device, "other", fixed).warps == 8
