"""Med-NCA's pictures: right colours at the right places, sizes that hold together."""

from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from ncafast.models import M3DNCA, MedNCA
from ncafast.tasks.mednca.animation import Stage, channels, segmentation, stages
from ncafast.tasks.mednca.pictures import PANELS, overlay
from ncafast.viz import charts
from ncafast.viz.figures import write_png

GREEN, PINK = (53, 208, 127), (255, 93, 143)


def _near(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(picture.astype(int) - colour).max(-1) < 40


def _disc(shape: tuple[int, int], centre: tuple[int, int], radius: float) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2).astype(np.uint8)


def test_contours_lie_where_the_labels_do():
    # The first slice axis runs to the right and the second upwards: low rows are left, low columns below.
    image = np.full((60, 40), 0.5, np.float32)
    truth, found = _disc(image.shape, (10, 8), 5), _disc(image.shape, (50, 32), 5)
    picture = overlay(image, found, truth, title="two discs")
    assert picture.dtype == np.uint8
    middle = picture.shape[1] // 2
    panel = picture[: int(picture.shape[0] * 0.87), middle:]  # the legend below has both colours too
    centres = []
    for colour in (GREEN, PINK):
        rows, columns = np.nonzero(_near(panel, colour))
        assert len(rows) > 50
        centres.append((rows.mean(), columns.mean()))
    (green_down, green_right), (pink_down, pink_right) = centres
    assert green_down > pink_down
    assert green_right < pink_right
    assert not _near(picture[:, :middle][: int(picture.shape[0] * 0.8)], GREEN).any()


def test_a_slice_without_truth_or_label_is_drawn():
    image = np.random.default_rng(0).random((30, 30)).astype(np.float32)
    picture = overlay(image, np.zeros((30, 30), np.uint8))
    assert not _near(picture, GREEN).any()
    several = overlay(image, _disc((30, 30), (9, 9), 4) * 2, _disc((30, 30), (9, 9), 6) * 1, names=("a", "b"))
    assert several.shape[1] == picture.shape[1]


def test_pixels_keep_their_shape_in_mm():
    image = np.zeros((20, 20), np.float32)
    image[:] = 1.0
    blank = np.zeros((20, 20), np.uint8)
    tall = overlay(image, blank, pixel=(1.0, 1.5))
    even = overlay(image, blank)
    assert tall.shape[0] > even.shape[0]


def test_curves_mark_the_best_epoch():
    rows = [{"epoch": n, "loss": 1 / n, "dice_loss": 0.5 / n, "val_dice": 0.5 + 0.1 * (n % 3)} for n in range(1, 6)]
    picture = charts.curves(rows, PANELS, best_epoch=2)
    orange = _near(picture[:, picture.shape[1] // 2 :], (248, 150, 30))
    assert orange.sum() > 30
    unscored = charts.curves([row | {"val_dice": None} for row in rows], PANELS, best_epoch=2)
    assert unscored.shape == picture.shape


def test_a_film_shows_both_levels_step_by_step(tmp_path):
    model = MedNCA(channels=4, hidden=8, kernel_sizes=(3, 3), steps=(4, 6), scale=2)
    images = torch.rand(3, 1, 13, 10)
    seen = list(stages(model, images, 1, every=2, seed=1))
    assert [(stage.level, stage.step) for stage in seen] == [
        ("coarse level", 2), ("coarse level", 4), ("fine level", 2), ("fine level", 4), ("fine level", 6)
    ]  # fmt: skip
    padded = torch.nn.functional.pad(images[1:2], (0, 0, 0, 1))
    with torch.no_grad():
        logits, (coarse, fine) = model(padded, seed=1, states="all")
    torch.testing.assert_close(seen[-1].state[1:2], logits[0, :, :13, :10])
    torch.testing.assert_close(seen[2].state, fine[1, 0, :, :13])
    torch.testing.assert_close(seen[1].state[:, ::2, ::2], coarse[3, 0, :, :, :5])
    torch.testing.assert_close(seen[1].state[:, 1::2], seen[1].state[:, :-1:2])  # a coarse cell covers 2 x 2 pixels
    frames = segmentation(seen, images[1, 0].numpy(), 1)
    assert len({frame.shape for frame in frames}) == 1
    assert all((a != b).any() for a, b in zip(frames, frames[1:], strict=False))
    assert len(frames) == 5
    write_png(tmp_path / "a.png", frames[0])
    np.testing.assert_array_equal(iio.imread(tmp_path / "a.png"), frames[0])


def test_a_film_of_a_volume_shows_its_slice_at_every_level():
    model = M3DNCA(channel_n=5, steps=(3, 2), hidden_size=8, scale_factor=2, kernel_size=3)
    images = torch.rand(7, 1, 9, 8)
    seen = list(stages(model, images, 5, seed=2))
    assert [(stage.level, stage.step) for stage in seen] == [
        ("level 1 of 2", 1), ("level 1 of 2", 2), ("level 1 of 2", 3), ("level 2 of 2", 1), ("level 2 of 2", 2)
    ]  # fmt: skip
    with torch.no_grad():
        logits, (coarse, _) = model(images.permute(0, 2, 3, 1)[None], seed=2, states="all")
    torch.testing.assert_close(seen[-1].state[1], logits[0, 5, :, :, 0])
    torch.testing.assert_close(seen[0].state[:, ::2, ::2], coarse[0, 0, 2].movedim(-1, 0))


def test_all_channels_are_tiles_of_one_colour_scale():
    state = torch.tensor([0.0, 1.0, -1.0])[:, None, None].expand(-1, 2, 4)
    first, last = channels([Stage("a", 1, 2, state / 2), Stage("a", 2, 2, state)], 3)
    assert first.shape == last.shape == (3 * (2 * 4 + 1), 3 * (2 * 2 + 1), 3)
    assert last[0, 0].tolist() == [255, 255, 255] and last[0, -1].tolist() == [255, 0, 0]
    assert last[-1, 0].tolist() == [0, 0, 255] and first[0, -1].tolist() == [255, 128, 128]


@pytest.mark.parametrize(
    "title", [r"a$\frac$", "50% $", "脑", "a\tb\nc", b"caf\xe9".decode("utf-8", "surrogateescape")]
)
def test_any_file_name_can_be_a_title(title):
    image = np.random.default_rng(0).random((30, 30)).astype(np.float32)
    blank = np.zeros((30, 30), np.uint8)
    plain, titled = overlay(image, blank, title=""), overlay(image, blank, title=title)
    assert titled.shape == plain.shape
    different = (plain != titled).any((1, 2))
    assert different.any() and not different[plain.shape[0] // 5 :].any()  # one line at the top


def test_a_title_is_not_read_as_a_formula():
    image, blank = np.ones((30, 30), np.float32), np.zeros((30, 30), np.uint8)
    assert not np.array_equal(overlay(image, blank, title="$x$"), overlay(image, blank, title="x"))
    formula = overlay(image, blank, title="$x$") < 128
    assert formula[: formula.shape[0] // 10].any(0).sum() > (
        (overlay(image, blank, title="x") < 128)[: formula.shape[0] // 10].any(0).sum() * 2
    )
