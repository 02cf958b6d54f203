"""Rows of images, and the picture of a sample for TensorBoard."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from ncafast.viz.rows import show_image_row
from ncafast.viz.views import Bars, View, class_legend, class_picture
from ncafast.viz.visual import Visual

PAGE = Path(__file__).resolve().parents[2] / "docs" / "pictures.md"


def test_a_row_shows_images_of_any_layout_in_one_range():
    axes = Figure().subplots()
    images = [
        torch.full((2, 3), 1.0, dtype=torch.bfloat16),
        np.zeros((2, 3, 1)),
        torch.rand(3, 2, 3),
        np.zeros((2, 3, 4), np.uint8),
    ]
    show_image_row(axes, images, label="state", names=range(4), colorbar=True, vmax=5)
    assert [image.get_array().shape for image in axes.images] == [(2, 3), (2, 3), (2, 3, 3), (2, 3, 4)]
    assert [image.get_clim() for image in axes.images[:2]] == [(0, 5)] * 2
    lefts = [image.get_extent()[0] for image in axes.images]
    assert lefts[0] == 0 and np.allclose(np.diff(lefts), 3 * 1.04)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1", "2", "3"]
    assert axes.get_ylabel() == "state" and len(axes.child_axes) == 1


def test_overlays_leave_out_what_is_0_and_normalize_stretches_colours():
    axes = Figure().subplots()
    mask = np.array([[0, 1], [np.nan, 2]])
    show_image_row(
        axes, [np.full((2, 2, 3), value, np.uint8) for value in (50, 100)], overlays=[mask, mask], normalize=True
    )
    image, cover = axes.images[:2]
    assert image.get_array().max() == 0 and axes.images[2].get_array().min() == 1
    assert cover.get_array().mask.tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize(
    ("images", "options", "said"),
    [
        ([], {}, "images is empty"),
        ([np.zeros((2, 2)), np.zeros((2, 3))], {}, "must have one size"),
        ([np.zeros((2, 2))], {"names": "ab"}, "1 images and 2 names"),
        ([np.zeros((2, 2))], {"overlays": [np.zeros((3, 2))]}, "must have one size"),
        ([np.zeros((5, 2, 2))], {}, r"got \[5, 2, 2\]"),
    ],
)
def test_a_row_refuses_what_it_cannot_show(images, options, said):
    with pytest.raises(ValueError, match=said):
        show_image_row(Figure().subplots(), images, **options)


def test_classes_have_the_colours_of_their_legend():
    legend = class_legend(["a", "b"])
    found = class_picture(torch.tensor([[0, 1, 2]]))
    assert [bytes(pixel).hex() for pixel in found[0, 1:]] == [colour[1:] for colour in legend.values()]
    assert (found[0, 0] == 40).all()


@pytest.mark.parametrize(("height", "width", "channels"), [(6, 5, 3), (4, 40, 20), (40, 4, 9)])
def test_nothing_is_cut_off_whatever_the_shape_and_the_names(height, width, channels):
    hidden = torch.randn(channels, height, width)
    hidden[0, 0, 0] = torch.nan
    views = [
        View("input", np.zeros((height, width, 3), np.uint8)),
        Bars("classes", ["a class of a long name $x$", "b"], [0.2, 0.8], 0),
        View("error", torch.full((height, width), torch.nan), unit="a unit"),
    ]
    legend = {f"class {number} of many": "#ff0000" for number in range(13)}
    picture = Visual("a/very/long/path" * 20, views, hidden, first=3, legend=legend, aspect=2.0).draw()
    picture[3:-3, 3:-3] = 255
    assert (picture == 255).all()


def test_the_page_on_pictures_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "nca.gif", "paper.gif", "state.png"}
