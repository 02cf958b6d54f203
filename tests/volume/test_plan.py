"""Plans of rollouts over tiles: what fits, what is computed twice, and what is said."""

import re

import pytest
import torch

from ncafast import Rule
from ncafast import free_memory as memory
from ncafast.free_memory import Free, parse_size
from ncafast.volume import choose as module
from ncafast.volume.choose import MOST_REDUNDANT, choose
from ncafast.volume.plan import Volume

RULE = Rule(channels=16, ndim=3, hidden=(64,))


@pytest.fixture
def free(monkeypatch):
    """Sets the memory that is free."""

    def set_free(count):
        monkeypatch.setattr(module, "free_memory", lambda device: count and Free(count, "free"))

    return set_free


def volume(rule=RULE, whole=(512, 512, 512), steps=10, **options):
    return Volume(rule, (1, rule.channels, *whole), torch.float32, steps, on_disk=True, **options)


@pytest.mark.parametrize("memory", [10**9, 5 * 10**9, 15 * 10**9])
@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_tiles_fit_and_little_is_computed_twice(memory, padding, free):
    free(memory)
    plan = choose(volume(RULE.replace(padding=padding)), None, None, None)
    assert plan.device_bytes <= 0.8 * memory and plan.redundant <= MOST_REDUNDANT
    assert sum(plan.counts) == 10 and plan.steps_per_pass > 1
    boxes = [plan.box(core, plan.halo(plan.steps_per_pass)) for core in plan.cores]
    assert max(boxes, key=lambda box: torch.Size(box.size).numel()).size == plan.largest
    done = sum(
        count * torch.Size(plan.box(core, plan.halo(count)).size).numel()
        for count in plan.counts
        for core in plan.cores
    )
    assert done / 10 / 512**3 - 1 == pytest.approx(plan.redundant)


def test_leading_axes_are_cut_first(free):
    free(8 * 10**9)
    plan = choose(volume(Rule(channels=16, hidden=(64,)), (16384, 16384), 1), None, None, None)
    assert plan.cut == (0,)


def test_what_fits_is_not_cut(free):
    free(10**9)
    plan = choose(volume(whole=(64, 64, 64)), None, None, None)
    assert plan.cut == () and plan.counts == (10,) and plan.redundant == 0.0 and plan.scratch == 0


def test_steps_that_measure_the_whole_take_a_pass_each(free):
    free(10**9)
    plan = choose(volume(RULE.replace(norm="batch"), steps=3), None, None, None)
    assert plan.counts == (1, 1, 1) and plan.measures
    assert plan.traffic == pytest.approx(3 * 3 * 512**3 * 64, rel=0.2)  # read twice, written once


def test_passes_take_steps_as_equal_as_can_be(free):
    free(10**9)
    assert choose(volume(), 64, 4, None).counts == (4, 3, 3)
    assert choose(volume(in_place=True), 64, 10, None).counts == (10, 0)
    assert [choose(volume(in_place=True), 64, count, None).scratch for count in (10, 5, 2)] == [1, 1, 2]
    assert choose(volume(steps=0), 64, None, None).counts == (0,)


def test_tiles_keep_to_chunks(free):
    free(10**9)
    plan = choose(volume(grain=(48, 48, 48)), None, None, None)
    assert plan.cut and all(plan.tile[axis] % 48 == 0 for axis in plan.cut)


def test_chunks_are_cut_where_no_tile_of_whole_ones_fits(free):
    free(10**9)
    plan = choose(volume(grain=(512, 512, 512)), None, None, None)
    assert plan.device_bytes <= 0.8 * 10**9
    assert plan == choose(volume(), None, None, None)


def test_a_small_volume_of_memory_computes_more_rather_than_nothing(free):
    free(260 * 10**6)
    plan = choose(volume(RULE.replace(kernel_size=7)), None, None, None)
    assert plan.redundant > MOST_REDUNDANT and plan.device_bytes <= 0.8 * 260e6


def test_whole_states_in_memory_count(free):
    free(10**9)
    with pytest.raises(MemoryError, match="of which 17.2 GB are whole states"):
        choose(Volume(RULE, (1, 16, 512, 512, 512), torch.float32, 10, own=512**3 * 64), None, None, None)


def test_a_limit_that_is_too_small_says_which_one_is_not(monkeypatch):
    """Beside what the process holds; a volume that needs less whole than in tiles is run whole under it."""
    monkeypatch.setattr(memory, "_resident", lambda: 620 * 10**6)
    monkeypatch.setattr(memory, "_system", lambda: None)
    small = volume(whole=(96, 96, 96), steps=6, copied=True)
    with pytest.raises(
        MemoryError, match="need .* as one tile .*0.0 MB may be used; .* holds 620 MB already"
    ) as raised:
        choose(small, None, None, "0.6GB")
    (limit,) = re.findall(r"raise memory_limit to (\d+MB)", str(raised.value))
    plan = choose(small, None, None, limit)
    assert plan.cut == () and plan.device_bytes <= parse_size(limit) - 620e6
    with pytest.raises(MemoryError):
        choose(small, None, None, int(0.94 * parse_size(limit)))
    with pytest.raises(MemoryError, match="or use smaller tiles") as raised:
        choose(volume(), 200, None, "1GB")
    (limit,) = re.findall(r"raise memory_limit to (\d+MB)", str(raised.value))
    assert choose(volume(), 200, None, limit).cut


def test_an_unknown_amount_of_memory(free):
    free(None)
    assert choose(volume(), None, None, None).device_bytes <= 2**32
    assert choose(volume(), None, None, "2GB").device_bytes <= 2e9


def test_a_plan_says_what_it_does(free):
    free(10**9)
    plan = choose(volume(), (32, 128, 128), 3, None)
    assert str(plan) == "\n".join(
        (
            "512 x 512 x 512 cells, 16 channels, batch 1: 8.6 GB a state",
            "256 tiles of 32 x 128 x 128 cells on cpu",
            "4 passes of 3, 3, 2, 2 steps, halo 3 x 3 x 3",
            "22 % redundant work, 76.1 GB read and written, 1 scratch of 8.6 GB on disk",
            f"{plan.device_bytes / 1e6:.0f} MB of memory on cpu",
        )
    )
