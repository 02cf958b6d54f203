"""What goes wrong in a rollout over tiles: one line each, the source as it was, and no scratch left."""

from __future__ import annotations

import errno
import os
import threading

import numpy as np
import pytest
import torch
from cases import make_params, make_state
from numpy.lib.format import open_memmap

from ncafast import Rule
from ncafast.volume import rollout_tiled

RULE = Rule(channels=4, hidden=(8,))
PARAMS = make_params(RULE, torch.float32)
X = make_state(RULE, (12, 10), torch.float32)


def tiled(source, out=None, rule=RULE, steps=4, tile=5, **options):
    params = PARAMS if rule is RULE else make_params(rule, torch.float32)
    return rollout_tiled(source, rule, params, steps, out=out, tile=tile, progress=False, **options)


@pytest.fixture
def files(tmp_path):
    """A source and an out as memory maps, and a check that nothing of a failed run is left."""
    np.save(tmp_path / "source.npy", X.numpy())
    out = open_memmap(tmp_path / "out.npy", "w+", np.float32, tuple(X.shape))
    yield np.load(tmp_path / "source.npy", mmap_mode="r+"), out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npy", "source.npy"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tiles-")]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot keep room on a disk")
@pytest.mark.parametrize("after", [0, 1])
def test_a_full_disk_is_said_before_anything_is_written(after, files, monkeypatch):
    def full(*_):
        nonlocal after
        after -= 1
        if after < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    source, out = files
    with pytest.raises(OSError, match="No space left on device") as caught:
        tiled(source, out, steps_per_pass=2)
    assert caught.value.errno == errno.ENOSPC
    assert np.array_equal(source, X) and not out.any()


def test_a_disk_that_is_nearly_full_is_not_filled(files, monkeypatch):
    real = os.fstatvfs

    def few(descriptor):
        fields = list(real(descriptor))
        fields[3:5] = 0, 0
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "fstatvfs", few)
    with pytest.raises(OSError, match=r"No space left on device: 0.0 MB are needed and 0.0 MB are free: '/"):
        tiled(*files)


def test_a_source_that_was_cut_short(files):
    source, out = files
    os.truncate(source.filename, 1000)
    with pytest.raises(ValueError, match=r"source.npy was cut short: it has 1000 bytes, and 3968 are needed"):
        tiled(source, out)


def test_outs_that_cannot_be_written(files):
    source, out = files
    for mode, text in ("r", "out is read-only"), ("c", "never reaches its file"):
        with pytest.raises(ValueError, match=text):
            tiled(source, np.load(out.filename, mmap_mode=mode))
    with pytest.raises(ValueError, match="expanded"):
        tiled(X, torch.zeros(2, 4, 1, 10).expand(2, 4, 12, 10))


class Failing:
    """An array of slices that fails once."""

    def __init__(self, values, reads=99, writes=99):
        self.values, self.reads, self.writes = values, reads, writes
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, place):
        self.reads -= 1
        if self.reads < 0:
            raise OSError(errno.EIO, "the disk cannot be read")
        return self.values[place]

    def __setitem__(self, place, values):
        self.writes -= 1
        if self.writes < 0:
            raise OSError(errno.EIO, "the disk cannot be written")
        self.values[place] = values


@pytest.mark.parametrize("steps_per_pass", [1, 2])
def test_a_disk_that_fails_in_between(steps_per_pass, files):
    source, out = files
    with pytest.raises(OSError, match="cannot be read"):
        tiled(Failing(X.numpy(), reads=3), out, steps_per_pass=steps_per_pass)
    with pytest.raises(OSError, match="cannot be written"):
        tiled(source, Failing(np.zeros_like(X), writes=4), steps_per_pass=steps_per_pass)
    assert np.array_equal(source, X)


def test_a_source_that_is_out_keeps_its_numbers_until_the_last_pass(files, monkeypatch):
    source, _ = files
    calls = []

    def failing(*args, **options):
        calls.append(args)
        if len(calls) > 17:
            raise RuntimeError("a step fails")
        return real(*args, **options)

    from ncafast.volume import run_tiles

    real = run_tiles.steps_of_part
    monkeypatch.setattr(run_tiles, "steps_of_part", failing)
    with pytest.raises(RuntimeError, match="a step fails"):
        tiled(source, source, steps_per_pass=1)  # 6 tiles in each of 4 passes
    assert np.array_equal(source, X)


@pytest.mark.parametrize(
    "source, options, kind, text",
    [
        (X[:, :3], {}, ValueError, r"^source has 3 channels \(shape \[2, 3, 12, 10\]\), but the rule has 4"),
        (X[0], {}, ValueError, r"^source has shape \[4, 12, 10\], but a 2-D rule needs 4 axes \[B, C, H, W\]"),
        (X.numpy().astype("i2"), {}, TypeError, "source must be float16, float32 or float64, got int16"),
        (X.int(), {}, TypeError, "source must be floating point"),
        ([1.0], {}, TypeError, "source must be a tensor, a numpy or a zarr array, got list"),
        (X, {"out": X[:, :, :6]}, ValueError, r"out is \[2, 4, 6, 10\] of float32, but source is \[2, 4, 12, 10\] of"),
        (X, {"out": X.double()}, ValueError, r"of float64, but source is \[2, 4, 12, 10\] of float32; both must agree"),
        (X, {"tile": 0}, ValueError, "tile=0 is not allowed: it must be >= 1"),
        (X, {"tile": (3, 3, 3)}, ValueError, r"tile=\(3, 3, 3\) must be one int or 2 ints, one per spatial axis"),
        (X, {"steps_per_pass": 0}, ValueError, "steps_per_pass=0 is not allowed"),
        (X, {"steps_per_pass": 2, "rule": RULE.replace(norm="batch")}, ValueError, "each step measures the whole"),
        (X, {"rule": RULE.replace(noise="update", noise_std=0.1)}, ValueError, "cannot run in tiles: noise, whose"),
        (X, {"memory_limit": "six"}, ValueError, "memory_limit='six' is not allowed"),
        (X, {"memory_limit": 1}, MemoryError, r"tiles of 5 x 5 cells need \d+ MB, .*and 0.0 MB may be used"),
        (X, {"memory_limit": "1MB", "tile": None}, MemoryError, r"tiles of .* raise memory_limit"),
        (X, {"steps": -1}, ValueError, "steps=-1 is not allowed"),
        (X, {"device": "nowhere"}, ValueError, "is not a device"),
    ],
)  # fmt: skip
def test_wrong_arguments(source, options, kind, text):
    with pytest.raises(kind, match=text) as caught:
        tiled(source, **options)
    assert "\n" not in str(caught.value)


def test_an_out_that_shares_some_of_the_source(tmp_path):
    both = torch.zeros(3, 4, 12, 10)
    with pytest.raises(ValueError, match="out shares some of source's memory"):
        tiled(both[:2], both[1:])
    for path in ("a.npy", "b.npy"):
        open_memmap(tmp_path / path, "w+", np.float32, (3, 4, 12, 10))
    one, other = (np.load(tmp_path / "a.npy", mmap_mode="r+") for _ in range(2))
    with pytest.raises(ValueError, match="out shares some of source's memory"):
        tiled(one[:2], other[1:])
    tiled(one[:2], other[:2])  # the same numbers, opened twice
    tiled(one[:2], np.load(tmp_path / "b.npy", mmap_mode="r+")[1:])
