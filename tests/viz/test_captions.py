"""What stands around the pictures of an animation: colours of the page, the step, a progress bar."""

from __future__ import annotations

from dataclasses import replace

import imageio.v3 as iio
import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from ncafast import NCA
from ncafast.models import GrowingNCA
from ncafast.viz import ANIMATION_STYLES, AnimationStyle, animate, mosaic, rgb
from ncafast.viz.captions import Frame, captioned, in_style
from ncafast.viz.figures import pixels_of

DARK = ANIMATION_STYLES["dark"]
GREY = np.full((30, 200, 3), 90, np.uint8)


def framed(frame, style=DARK, **options):
    (whole,) = captioned([frame], style, **options)
    return whole


@pytest.mark.parametrize("done", [0.0, 0.25, 1.0])
def test_the_bar_is_as_long_as_what_is_done(done):
    whole = framed(Frame(GREY, "", done), label=False)
    assert whole.shape == (34, 200, 3) and (whole[:30] == GREY).all()
    edge = round(200 * done)
    assert (whole[30:, :edge] == DARK.rgb("bar")).all() and (whole[30:, edge:] == DARK.rgb("track")).all()


@pytest.mark.parametrize("label", ["step 3", "a level of a long name, step 100 of 20000", "w" * 200])
@pytest.mark.parametrize("width", [20, 200, 900])
def test_a_label_is_written_whole_between_margins(width, label):
    whole = framed(Frame(GREY[:, :1].repeat(width, 1), label, 0.5), bar=False)
    height, wide = whole.shape[:2]
    assert wide == max(width, 160) and height > 30
    left = (wide - width) // 2
    assert (whole[:30, left : left + width] == 90).all()
    strip = whole[30:] != DARK.rgb("background")
    assert strip.any() and not strip[[0, -1]].any() and not strip[:, [0, 1, -2, -1]].any()


def test_without_label_and_bar_a_picture_is_as_it_was():
    assert framed(Frame(GREY, "step 1", 0.5), label=False, bar=False) is GREY


def test_figures_have_the_colours_of_the_style_and_no_others_outside():
    def drawn():
        for step in range(2):
            figure = Figure(figsize=(1, 1))
            figure.subplots().set_title("title")
            yield Frame.at(pixels_of(figure), step, 1)

    before = matplotlib.rcParams["figure.facecolor"]
    for frame in in_style(drawn(), DARK):
        assert matplotlib.rcParams["figure.facecolor"] == before
        assert frame.picture[0, 0].tolist() == list(DARK.rgb("background"))
        assert (frame.picture.max((0, 1)) >= np.array(DARK.rgb("text")) - 40).all()
    assert (frame.label, frame.done) == ("step 1 of 1", 1.0)


def test_a_style_says_whether_it_is_dark():
    assert DARK.is_dark and not ANIMATION_STYLES["light"].is_dark
    for name, value in (("text", "white"), ("bar", "#12345"), ("bar_height", 0)):
        with pytest.raises(ValueError, match=f"{name}={value!r} is not allowed"):
            replace(DARK, **{name: value})


def test_a_dark_mosaic_has_black_where_a_light_one_is_white():
    state = torch.zeros(3, 2, 2)
    state[0, 0, 0], state[1, 0, 0] = 2.0, -2.0
    found = mosaic(state, columns=3, gap=0, dark=True)
    assert found[0, [0, 2, 4]].tolist() == [[255, 102, 0], [0, 102, 255], [0, 0, 0]]


def test_an_automaton_whose_channels_are_last_is_animated(tmp_path):
    seen = []
    model, x = GrowingNCA(4, hidden_size=8, device="cpu"), torch.rand(1, 6, 7, 4)
    animate(model, x, tmp_path / "a.gif", steps=2, draw=lambda state: seen.append(state) or rgb(state))
    assert [state.shape for state in seen] == [(1, 4, 6, 7)] * 3 and torch.equal(seen[0].movedim(1, -1), x)


def test_an_automaton_is_animated_in_one_call(tmp_path):
    nca, x = NCA(4, 8, zero_init=False), torch.rand(1, 4, 5, 40)
    own = AnimationStyle("#102030", "#f0f0f0", "#00ff00", "#404040", bar_height=3)
    path = animate(nca, x, tmp_path / "a.gif", steps=7, every=3, zoom=4, style=own, seed=3)
    found = iio.imread(path)
    assert found.shape == (3, 20 + 24 + 3, 160, 3)  # after 0, 3 and 6 steps
    start = rgb(x).repeat(4, 0).repeat(4, 1).astype(int)
    assert abs(found[0, :20] - start).mean() < 12  # a GIF has 256 colours
    for wrong, said in (({"style": "blue"}, "style='blue' is not allowed; give light, dark"),
                        ({"every": 9}, "every=9 is not allowed; with steps=7"), ({"zoom": 0}, "zoom=0")):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            animate(nca, x, tmp_path / "b.gif", **({"steps": 7} | wrong))
