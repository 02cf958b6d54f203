"""The models that come with the package: small, listed in the docs, `--model example`, and as good as stated."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import nibabel as nib
import numpy as np
import pytest
import torch

import ncafast
from ncafast import checkpoint, cli, pretrained
from ncafast.commands import TASKS
from ncafast.losses.masks import dice
from ncafast.tasks import depth, growing, mednca, segmentation
from ncafast.tasks.base import load
from ncafast.tasks.demo import brain
from ncafast.tasks.depth.task import TASK as DEPTH
from ncafast.tasks.growing.task import TASK as GROWING
from ncafast.tasks.segmentation.task import TASK as SEGMENTATION
from ncafast.tasks.selfclassify.task import TASK as SELFCLASSIFY
from ncafast.tasks.texture.recipe import fresh, picture_of
from ncafast.tasks.texture.task import TASK as TEXTURE

FOLDER = Path(pretrained.__file__).parent
EXAMPLE = Path(pretrained.EXAMPLE)
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "pretrained.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working directory without files."""
    monkeypatch.chdir(tmp_path)


def test_every_task_has_one():
    assert {path.stem for path in FOLDER.glob("*.safetensors")} == set(TASKS)


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_help_of_every_task_offers_it(task, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    assert cli.main(["animate" if task in ("growing", "texture") else "predict", task, "--help"]) == 0
    assert "or example: the small model of this task that comes with ncafast" in capsys.readouterr().out


@pytest.mark.parametrize("task", sorted(TASKS))
def test_each_is_small_described_and_of_its_task(task):
    path = pretrained.find(task, EXAMPLE)
    assert path.stat().st_size < 100_000
    header = checkpoint.describe(path)
    assert header["task"] == task
    assert '"/' not in "".join(header.values())  # no path of the machine it was trained on
    assert f"| `{task}` |" in PAGE


def test_a_model_of_ones_own_goes_first(tmp_path):
    (tmp_path / "example").mkdir()
    assert pretrained.find("growing", EXAMPLE) == FOLDER / "growing.safetensors"  # a folder without a model
    ncafast.save(tmp_path / "example" / "last.safetensors", ncafast.NCA(channels=5))
    assert pretrained.find("growing", EXAMPLE) == Path("example/last.safetensors")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("animate growing --model nothing", "nothing: there is no such file or folder; give a checkpoint"),
        ("animate growing --model nothing", "or example for the one that comes with ncafast"),
        ("animate growing --model nothing/example", "nothing/example: there is no such file or folder"),
    ],
)
def test_what_is_not_there_says_what_is(words, said, capsys):
    assert cli.main(words.split()) == 1
    assert said in capsys.readouterr().err


def test_results_go_to_the_working_directory(tmp_path):
    words = "animate growing --model example --grow 4 --heal 2 --no-progress --device cpu"
    assert cli.main(words.split()) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["example-animation.gif"]


def test_growing_grows_its_target_keeps_it_and_heals():
    trained = load(GROWING, EXAMPLE, torch.device("cpu"))
    found = GROWING.evaluate(trained, growing.EvaluateConfig(EXAMPLE, runs=2, progress=False, device="cpu"))
    assert found.grown_loss < 0.2 * found.empty_loss
    assert found.before_cut < 0.2 * found.empty_loss  # after three times as many steps
    by_name = {course.cut: course for course in found.cuts}
    assert by_name["right"].healed_loss < 0.5 * by_name["right"].cut_loss


def test_depth_is_better_than_a_constant_and_a_linear_model_in_rooms_it_has_not_seen(tmp_path):
    depth.render(depth.RenderConfig(tmp_path / "rooms", count=8, seed=99, progress=False))
    options = depth.EvaluateConfig(EXAMPLE, data=tmp_path / "rooms", progress=False, device="cpu")
    means = DEPTH.evaluate(load(DEPTH, EXAMPLE, torch.device("cpu")), options).means
    assert means["model"]["abs_rel"] < 0.8 * min(means[name]["abs_rel"] for name in ("constant", "linear"))


def test_most_cells_of_plain_digits_say_what_these_are():
    """An ellipse and a bar, which are no digits of MNIST."""
    x, y = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="xy")
    ring = ((x - 13.5).square() / 36 + (y - 13.5).square() / 81).sqrt()
    drawn = torch.stack([(ring - 1).abs() < 0.22, ((x - 13.5).abs() < 1.6) & ((y - 13.5).abs() < 9.5)])
    begin = torch.cat([torch.zeros(2, 28, 28, 19), drawn[..., None]], -1)
    with torch.no_grad():
        state = load(SELFCLASSIFY, EXAMPLE, torch.device("cpu")).model(begin, 30, seed=1)
    said = state[..., :10].argmax(-1)
    for number, (digit, cells) in enumerate(zip(said, drawn, strict=True)):
        assert (digit[cells] == number).float().mean() > 0.7


def test_texture_forms_and_stays():
    model = load(TEXTURE, EXAMPLE, torch.device("cpu")).model
    with torch.no_grad():
        early = model(fresh(1, 12, (48, 64)), 200, seed=1)
        late = model(early, 400, seed=2)
    early, late = picture_of(early), picture_of(late)
    for picture in (early, late):
        assert 0.05 < picture.mean(1).std() < 0.3  # light and dark, neither flat nor saturated
    assert (early.mean((0, 2, 3)) - late.mean((0, 2, 3))).abs().max() < 0.05
    assert late.std() == pytest.approx(early.std().item(), rel=0.2)


def test_segmentation_finds_balls_in_rooms_it_has_not_seen(tmp_path):
    depth.render(depth.RenderConfig(tmp_path / "rooms", count=8, seed=99, progress=False))
    options = segmentation.EvaluateConfig(EXAMPLE, data=tmp_path / "rooms", progress=False, device="cpu")
    scores = SEGMENTATION.evaluate(load(SEGMENTATION, EXAMPLE, torch.device("cpu")), options)
    assert np.mean([row["dice"] for row in scores.rows]) > 0.8
    assert {row["label"] for row in scores.rows} == {"ball"}


def drawn_cell(kind: str) -> np.ndarray:
    """A blood cell as a textbook sketches it, 64 x 64 pixels."""
    y, x = np.mgrid[:64, :64] - 31.5
    pixels = np.full((64, 64, 3), (236, 214, 206), float)

    def disc(radius: float, colour: tuple[int, int, int], across: float = 0.0) -> None:
        pixels[np.hypot(x - across, y) < radius] = colour

    if kind == "platelet":
        disc(6, (150, 110, 160))
    elif kind == "lymphocyte":  # hardly more than a round nucleus
        disc(17, (190, 190, 225))
        disc(14, (110, 60, 130))
    elif kind == "eosinophil":  # red, with a nucleus of two lobes
        disc(20, (225, 150, 140))
        disc(8, (110, 60, 140), -7)
        disc(8, (110, 60, 140), 7)
    else:  # an erythroblast: a small dark nucleus
        disc(16, (190, 180, 205))
        disc(8, (60, 30, 80))
    return np.clip(pixels + np.random.default_rng(0).normal(0, 3, pixels.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["platelet", "lymphocyte", "eosinophil", "erythroblast"])
def test_classification_tells_cells_as_a_textbook_draws_them(kind, tmp_path):
    iio.imwrite(tmp_path / "cell.png", drawn_cell(kind))
    words = "predict classification --model example --input cell.png --output found --device cpu --no-progress"
    assert cli.main(words.split()) == 0
    rows = (tmp_path / "found" / "predictions.csv").read_text().splitlines()
    assert rows[1].split(",")[:2] == ["cell.png", kind]


def test_mednca_finds_white_matter_in_slices_drawn_anew(tmp_path):
    data = brain.load(seed=99, quick=True)
    brain.write_volumes(data, tmp_path)
    image, found = tmp_path / "imagesTs" / f"{brain.HELD_OUT}.nii.gz", tmp_path / "found.nii.gz"
    mednca.predict(mednca.PredictConfig(EXAMPLE, image, found, overlay=False, runs=3, progress=False, device="cpu"))
    mask = np.asarray(nib.load(found).dataobj) > 0
    assert dice(mask, data.held_out.white) > 0.85
