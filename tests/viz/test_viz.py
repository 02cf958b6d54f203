"""Frames of an automaton, pictures of states, animations as a reader sees them."""

from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from ncafast import NCA
from ncafast.models import TextureNCA
from ncafast.viz import mosaic, rgb, tiled, watch, write_animation


@pytest.mark.parametrize("model", [NCA(5, 8, zero_init=False), TextureNCA(5, 8)])
@pytest.mark.parametrize(("frames", "every"), [(3, 2), (21, 1), (1, 7)])
def test_watch_sees_one_long_rollout(model, frames, every):
    x = torch.rand(2, 5, 6, 7) * 0.1
    seen = torch.stack(list(watch(model, x, frames=frames, every=every, seed=3, first_step=4)))
    _, expected = model(x, steps=frames * every, seed=3, first_step=4, states=every)
    torch.testing.assert_close(seen, expected)
    assert not seen.requires_grad


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"frames": 2, "every": 0}])
def test_watch_refuses_nothing_at_once(wrong):
    with pytest.raises(ValueError, match="whole number from 1"):
        watch(NCA(3, 4), torch.rand(1, 3, 4, 4), **wrong)


def test_rgb_takes_channels_and_clips():
    state = torch.zeros(4, 2, 3)
    state[0], state[2], state[3, 0, 0] = 0.5, 7.0, torch.nan
    assert rgb(state).dtype == np.uint8
    assert rgb(state)[0, 0].tolist() == [128, 0, 255]
    assert rgb(state[None], channels=(0,), offset=0.1)[1, 2].tolist() == [153] * 3
    assert rgb(state, channels=(3, 3, 3))[0, 0].tolist() == [0, 0, 0]
    for wrong in (torch.zeros(3, 4), torch.zeros(3, 4, 4, dtype=torch.int)):
        with pytest.raises(ValueError, match=r"\[C, H, W\]"):
            rgb(wrong)


def test_mosaic_has_a_tile_per_channel_blue_white_red():
    state = torch.zeros(3, 2, 2)
    state[0, 0, 0], state[0, 1, 1], state[1, 0, 1] = 2.0, -1.0, -0.25
    found = mosaic(state, columns=2, gap=1)
    assert found.shape == (5, 5, 3)
    assert found[0, 0].tolist() == [255, 0, 0]
    assert found[1, 1].tolist() == [128, 128, 255]  # half as strong as the channel's strongest
    assert found[0, 4].tolist() == [0, 0, 255]
    assert (found[:, 2] == 128).all() and (found[3:, 3:] == 128).all()  # the gap, and no fourth channel
    assert (found[3:, :2] == 255).all()
    assert mosaic(state, columns=2, limit=4.0)[0, 0].tolist() == [255, 128, 128]


def test_tiled_is_row_by_row():
    pictures = [np.full((2, 3, 3), value, np.uint8) for value in range(5)]
    found = tiled(pictures, columns=2, gap=0)
    assert found.shape == (6, 6, 3)
    assert found[::2, ::3, 0].tolist() == [[0, 1], [2, 3], [4, 128]]


def frames(count: int, height: int = 6, width: int = 8) -> list[np.ndarray]:
    return [np.full((height, width, 3), 40 * k, np.uint8) for k in range(count)]


def test_a_gif_holds_the_frames_their_size_and_their_time(tmp_path):
    path = tmp_path / "new" / "a.gif"
    assert write_animation(path, iter(frames(4)), fps=20, scale=3, hold=1.0) == 4
    found = iio.imread(path)
    assert found.shape == (4, 18, 24, 3)
    assert found[:, 5, 5, 0].tolist() == [0, 40, 80, 120]
    times = [iio.immeta(path, index=k)["duration"] for k in range(4)]
    assert times == [50, 50, 50, 1050]
    assert iio.immeta(path)["loop"] == 0
    assert [p.name for p in path.parent.iterdir()] == ["a.gif"]


def test_a_gif_has_one_palette_which_keeps_a_narrow_colour_bar(tmp_path):
    random = np.random.default_rng(0)
    bar = np.stack([np.arange(256), np.full(256, 40), 255 - np.arange(256)], -1).astype(np.uint8)
    film = []
    for _ in range(3):
        frame = np.full((256, 99, 3), 255, np.uint8)
        frame[:, :90] = random.integers(0, 256, (256, 90, 1))  # a grey picture of all brightnesses, anew each time
        frame[:, 95:98] = bar[:, None]
        film.append(frame)
    write_animation(tmp_path / "a.gif", film)
    found = iio.imread(tmp_path / "a.gif").astype(int)
    assert len(found) == 3
    assert np.ptp(found[:, :, 90:], axis=0).max() == 0  # what stays the same looks the same
    assert (found[:, :, 92] == 255).all()
    assert len(np.unique(found[0, :, 96], axis=0)) > 50
    assert np.abs(found - np.stack(film)).max() < 24


def test_a_gif_of_few_colours_has_these(tmp_path):
    film = [np.random.default_rng(k).integers(0, 2, (9, 8, 3), np.uint8) * 200 + 7 for k in range(4)]
    write_animation(tmp_path / "a.gif", film)
    assert np.array_equal(iio.imread(tmp_path / "a.gif"), np.stack(film))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio-ffmpeg's reader leaves pipes
def test_an_mp4_holds_the_frames(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / "a.mp4"
    assert write_animation(path, frames(5, 33, 47), fps=10, hold=0.5) == 5
    reader = ffmpeg.read_frames(path)
    facts = next(reader)
    assert facts["fps"] == 10 and facts["size"] == (48, 34)  # even sides
    found = np.stack([np.frombuffer(frame, np.uint8).reshape(34, 48, 3) for frame in reader])
    assert len(found) == 10
    assert np.abs(found[:5, 16, 16, 0].astype(int) - [0, 40, 80, 120, 160]).max() < 8
    assert np.abs(found[5:, 16, 16, 0].astype(int) - 160).max() < 8


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("a.avi", {}, "must end in .gif or .mp4"),
        ("a.gif", {"fps": 0}, "fps=0"),
        ("a.gif", {"scale": 0}, "scale=0"),
        ("a.gif", {"hold": -1}, "hold=-1"),
        ("a.gif", {"frames": []}, "at least one frame"),
        ("a.gif", {"frames": [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)]}, "one size"),
        (".", {}, "must end"),
    ],
)
def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path, name, options, said):
    options = {"frames": frames(2), **options}
    with pytest.raises(ValueError, match=said):
        write_animation(tmp_path / name, options.pop("frames"), **options)
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_the_old_animation(tmp_path):
    path = tmp_path / "a.gif"
    write_animation(path, frames(2))
    before = path.read_bytes()

    def stopped():
        yield frames(1)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_animation(path, stopped())
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_ffmpeg_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(ModuleNotFoundError, match=r"imageio-ffmpeg.*ncafast\[video\].*\.gif"):
        write_animation(tmp_path / "a.mp4", frames(2))
