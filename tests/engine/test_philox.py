"""The random source: published vectors, Python against C++, independence of how work is split."""

from __future__ import annotations

import math
import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from ncafast import native, philox

ONES = 0xFFFFFFFF
# Counter, key, result: the philox4x32-10 lines of Random123's file of known answers.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def seed_tensor(seed: int) -> Tensor:
    """The 64-bit seed in two's complement."""
    return torch.tensor([seed - (1 << 64) if seed >> 63 else seed])


@pytest.fixture(scope="module")
def extension():
    """The compiled extension; a missing one fails, unless its absence is declared."""
    if native.load() is None and os.environ.get("NCAFAST_ALLOW_NO_NATIVE") == "1":
        pytest.skip(f"NCAFAST_ALLOW_NO_NATIVE=1 and {native.reason()}")
    assert native.load() is not None, native.reason()
    return native.load()


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_known_answers(counter, key, words):
    got = philox.philox4x32(torch.tensor(counter), torch.tensor(key))
    assert tuple(got.tolist()) == words


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_known_answers_in_cpp(extension, counter, key, words):
    assert extension.philox4x32(*counter, key[0] | key[1] << 32) == words


def test_counters_of_any_shape_are_independent():
    counter = torch.randint(0, 1 << 32, (3, 2, 4), generator=torch.Generator().manual_seed(1))
    key = torch.tensor([5, ONES])
    one_by_one = [philox.philox4x32(c, key) for c in counter.reshape(-1, 4)]
    assert torch.equal(philox.philox4x32(counter, key), torch.stack(one_by_one).reshape(3, 2, 4))


def test_mask_follows_its_definition():
    """Word cell % 4 of counter (cell // 4, sample, step, 0) under the seed as key."""
    seed, step, rate = 0xFEDCBA9876543210, 12345, 0.3
    mask = philox.fire_mask(2, (3, 7), rate, seed_tensor(seed), step=step, first_sample=9)
    key = torch.tensor([seed & ONES, seed >> 32])
    for sample in range(2):
        for cell in range(21):
            words = philox.philox4x32(torch.tensor([cell // 4, 9 + sample, step, 0]), key)
            fired = words[cell % 4].item() < math.floor(rate * 2**32)
            assert mask[sample, 0].flatten()[cell].item() == fired


def test_first_draws_never_change():
    """Stored checkpoints and papers rely on a seed's mask, in every later version too."""
    mask = philox.fire_mask(1, (4, 8), 0.5, seed_tensor(0))
    rows = ["".join(str(int(fired)) for fired in row) for row in mask[0, 0]]
    assert rows == ["10000101", "11110101", "00001101", "00010101"]


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    batch=st.integers(0, 3),
    spatial=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    rate=st.floats(0, 1),
    seed=st.integers(0, 2**64 - 1),
    step=st.integers(0, 2**32 - 1),
    first_sample=st.integers(0, 2**32 - 4),
)
def test_cpp_draws_the_same_mask(extension, batch, spatial, rate, seed, step, first_sample):
    args = (batch, spatial, rate, seed_tensor(seed))
    expected = philox.fire_mask(*args, step=step, first_sample=first_sample)
    got = native.fire_mask(*args, step=step, first_sample=first_sample)
    assert got.shape == (batch, 1, *spatial)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("size", [16383, 16384, 16385, 50001])
def test_cpp_draws_the_same_mask_over_several_runs(extension, size):
    args = (2, (size,), 0.5, seed_tensor(2**63 + 11))
    assert torch.equal(native.fire_mask(*args, step=3), philox.fire_mask(*args, step=3))


@pytest.mark.parametrize("cut", [1, 4, 6, 17, 34])
def test_tiles_and_batch_splits_draw_what_the_whole_draws(extension, cut):
    seed = seed_tensor(77)
    whole = philox.fire_mask(5, (5, 7), 0.5, seed, step=2)
    cells = whole.reshape(5, 35)
    tiles = [
        native.fire_cells(5, 0, cut, 0.5, seed, step=2),
        native.fire_cells(5, cut, 35 - cut, 0.5, seed, step=2),
    ]
    assert torch.equal(torch.cat(tiles, dim=1), cells)
    for draw in (philox.fire_mask, native.fire_mask):
        first = draw(2, (5, 7), 0.5, seed, step=2)
        second = draw(3, (5, 7), 0.5, seed, step=2, first_sample=2)
        assert torch.equal(torch.cat([first, second]), whole)


def test_cells_beyond_32_bits_are_drawn_anew(extension):
    """Cell 2^34 has the first counter word of cell 0; the fourth must tell them apart."""
    seed = seed_tensor(3)
    near = native.fire_cells(1, 0, 64, 0.5, seed)
    far = native.fire_cells(1, 1 << 34, 64, 0.5, seed)
    assert not torch.equal(near, far)
    counter = torch.tensor([[block, 0, 0, 1 << 8] for block in range(16)])
    words = philox.philox4x32(counter, torch.tensor([3, 0])).flatten()
    assert torch.equal(far[0], words < 1 << 31)


@pytest.mark.parametrize("rate", [0.5, 0.1, 0.999])
def test_fire_rate_within_five_sigma(extension, rate):
    cells = 10**7
    fired = native.fire_mask(1, (cells,), rate, seed_tensor(2026)).sum().item()
    assert abs(fired - rate * cells) < 5 * math.sqrt(cells * rate * (1 - rate))


def test_rates_at_the_ends():
    seed = seed_tensor(1)
    assert philox.fire_mask(2, (9,), 1.0, seed).all()
    assert not philox.fire_mask(2, (9,), 0.0, seed).any()
    assert philox.threshold(0.5) == 1 << 31
    assert philox.threshold(1.0) == 1 << 32


@pytest.mark.parametrize(("seed", "place"), [(5, {"step": 1}), (5, {"first_sample": 1}), (6, {}), (5 << 32, {})])
def test_draws_are_uncorrelated(seed, place):
    """Two masks agree on half of the cells, within 5 sigma."""
    cells = 10**6
    first = philox.fire_mask(1, (cells,), 0.5, seed_tensor(5))
    second = philox.fire_mask(1, (cells,), 0.5, seed_tensor(seed), **place)
    agree = (first == second).sum().item()
    assert abs(agree - cells / 2) < 5 * math.sqrt(cells) / 2


def test_neighbours_are_uncorrelated():
    mask = philox.fire_mask(1, (1000, 1000), 0.5, seed_tensor(5))[0, 0]
    for lag in (1, 2, 3, 4, 1000):
        flat = mask.flatten()
        agree = (flat[lag:] == flat[:-lag]).sum().item()
        pairs = flat.numel() - lag
        assert abs(agree - pairs / 2) < 5 * math.sqrt(pairs) / 2


def test_normal_is_standard_normal():
    drawn = philox.normal(2, 3, (40, 50), seed_tensor(8), step=4, dtype=torch.float64)
    assert drawn.shape == (2, 3, 40, 50)
    values = drawn.flatten()
    count = values.numel()
    assert abs(values.mean().item()) < 5 / math.sqrt(count)
    assert abs(values.var().item() - 1) < 5 * math.sqrt(2 / count)
    assert stats.kstest(values.numpy(), "norm").pvalue > 1e-4


def test_normal_does_not_depend_on_split_or_dtype():
    seed = seed_tensor(8)
    whole = philox.normal(4, 3, (5, 3), seed, step=1, dtype=torch.float64)
    rest = philox.normal(3, 3, (5, 3), seed, step=1, first_sample=1, dtype=torch.float64)
    assert torch.equal(rest, whole[1:])
    fewer_channels = philox.normal(4, 2, (5, 3), seed, step=1, dtype=torch.float64)
    assert torch.equal(fewer_channels, whole[:, :2])
    half = philox.normal(4, 3, (5, 3), seed, step=1, dtype=torch.float16)
    assert torch.equal(half, whole.half())
    assert not torch.equal(philox.normal(4, 3, (5, 3), seed, step=2, dtype=torch.float64), whole)


def test_noise_has_a_stream_of_its_own():
    """The words of noise are not those of the mask: signs and mask agree by chance only."""
    cells = 10**5
    mask = philox.fire_mask(1, (cells,), 0.5, seed_tensor(4))
    noise = philox.normal(1, 1, (cells,), seed_tensor(4))
    agree = (mask == (noise > 0)).sum().item()
    assert abs(agree - cells / 2) < 5 * math.sqrt(cells) / 2


def test_kept_units_follow_their_definition(extension):
    hidden, seed, step, first, limit = (5, 8, 3), 2**63 + 11, 7, 4, int(0.7 * 2**32)
    found = philox.kept_units(2, 3, hidden, 0.3, seed_tensor(seed), step=step, first_sample=first)
    for sample in range(2):
        for cell in range(3):
            words = [extension.philox4x32(5 * cell + block, first + sample, step, 2, seed) for block in range(5)]
            for layer, blocks in enumerate((words[:2], words[2:4], words[4:])):
                want = [word < limit for block in blocks for word in block][: hidden[layer]]
                assert found[layer][sample, :, cell].tolist() == want


def test_kept_units_have_their_rate_and_a_stream_of_their_own():
    (kept,) = philox.kept_units(1, 10_000, (4,), 0.25, seed_tensor(4))
    assert abs(kept.double().mean() - 0.75) < 5 * math.sqrt(0.25 * 0.75 / kept.numel())
    fired = philox.fire_mask(1, (40_000,), 0.75, seed_tensor(4))
    flat = kept.transpose(1, 2).reshape(-1)
    assert abs(torch.corrcoef(torch.stack([flat, fired.flatten()]).double())[0, 1]) < 5 / math.sqrt(40_000)


def test_draws_under_fake_tensors_and_compile():
    def both(seed):
        return (
            philox.fire_mask(2, (5, 6), 0.5, seed, step=1),
            philox.normal(2, 3, (5, 6), seed, step=1),
        )

    seed = seed_tensor(12)
    mask, noise = both(seed)
    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(seed)[0], mask)
    torch.testing.assert_close(compiled(seed)[1], noise)
    meta = philox.fire_mask(2, (5, 6), 0.5, seed, device="meta")
    assert meta.shape == mask.shape
    assert meta.dtype == torch.bool


@pytest.mark.parametrize("draw", [philox.fire_mask, native.fire_mask])
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"step": -1}, "step is -1"),
        ({"step": 1 << 32}, "step is 4294967296"),
        ({"first_sample": -1}, "sample"),
        ({"first_sample": (1 << 32) - 1}, "sample"),
        ({"fire_rate": 1.5}, "fire_rate is 1.5"),
        ({"fire_rate": -0.1}, "fire_rate is -0.1"),
        ({"fire_rate": math.nan}, "fire_rate is nan"),
        ({"spatial": (1 << 30, 1 << 29)}, "2\\^58"),
    ],
)
def test_what_does_not_fit_is_refused(draw, arguments, named):
    call = {"batch": 2, "spatial": (4, 4), "fire_rate": 0.5, "seed": seed_tensor(0), **arguments}
    with pytest.raises(ValueError, match=named):
        draw(**call)


def test_tiles_before_the_grid_are_refused():
    with pytest.raises(ValueError, match="first_cell is -1"):
        native.fire_cells(1, -1, 4, 0.5, seed_tensor(0))


def test_build_record_names_every_part(extension):
    info = native.build_info()
    assert native.reason() is None
    assert info["cpu"]["built"] is True
    assert info["cpu"]["compiler"]
    assert info["cuda"]["built"] is True or info["cuda"]["reason"]
