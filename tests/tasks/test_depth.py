"""Depth: what it learns, its measures and losses, files in every form, its resume, and errors in one line."""

from __future__ import annotations

import dataclasses
import json
import math

import imageio.v3 as iio
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from power_cut import cut_at_every_save
from safetensors.torch import load_file
from scenes import scene, tiny, write_folders
from scipy.stats import spearmanr

from ncafast import checkpoint
from ncafast.tasks.base import load
from ncafast.tasks.depth import AnimateConfig, EvaluateConfig, PredictConfig, animate, evaluate, predict, train
from ncafast.tasks.depth.data import find_pairs, read_pair
from ncafast.tasks.depth.maps import read_depth
from ncafast.tasks.depth.metrics import depth_losses, measure, slopes
from ncafast.tasks.depth.recipe import Recipe, fitted
from ncafast.tasks.depth.task import TASK
from ncafast.tasks.images import ImageError, Reading


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that takes a few seconds."""
    folder = tmp_path_factory.mktemp("depth")
    write_folders(folder / "data", 16)
    return train(tiny(folder / "data", folder / "run", epochs=3, lr=0.02, batch_size=2, hidden=16, pictures=0, ema=0.8))


def test_it_learns_and_evaluation_finds_the_same(trained, tmp_path, capsys):
    best = trained.history[trained.best_epoch - 1]
    assert best["val_abs_rel"] == min(row["val_abs_rel"] for row in trained.history)
    config = EvaluateConfig(trained.folder, data=trained.folder.parent / "data", output=tmp_path, progress=False)
    means = evaluate(config).means
    assert means["model"]["abs_rel"] == pytest.approx(best["val_abs_rel"], rel=1e-9)
    assert means["constant"]["abs_rel"] == pytest.approx(best["val_constant"], rel=1e-9)
    assert means["model"]["abs_rel"] < 0.3 * means["constant"]["abs_rel"]
    assert means["linear"]["abs_rel"] < means["constant"]["abs_rel"]
    assert "means over 3 images" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.png", "middle.png", "scores.csv", "worst.png"]


def test_it_says_whether_it_is_unsure_where_it_is_wrong(trained, tmp_path, capsys):
    data = trained.folder.parent / "data"
    config = EvaluateConfig(trained.folder, data=data, output=tmp_path, uncertainty=True, runs=3, progress=False)
    rows = [row for row in evaluate(config).rows if row["method"] == "model"]
    estimator, spread, cells = load(TASK, trained.folder, torch.device("cpu")).spec, [], []
    for pair in (pair for pair in find_pairs(config).pairs if pair.name in {row["image"] for row in rows}):
        sample = read_pair(pair, estimator.recipe, Reading(), config)
        runs = [estimator.outputs.run(sample.pixels, seed=config.seed, run=run)[0] for run in range(3)]
        known, (deviation, mean) = np.isfinite(sample.depth), (np.std(runs, 0), np.mean(runs, 0))
        errors = abs(estimator.recipe.log_std * mean + estimator.recipe.log_mean - np.log(sample.depth))
        spread.append(deviation[known].mean())
        cells.append(spearmanr(deviation[known], errors[known]).statistic)
    facts = json.loads((tmp_path / "uncertainty.json").read_text())
    assert facts["rank_correlation"] == pytest.approx(spearmanr(spread, [row["abs_rel"] for row in rows]).statistic)
    assert facts["rank_correlation_cells"] == pytest.approx(np.mean(cells), abs=1e-3)  # float32 numbers tie
    assert "deviation and |error| / depth of 3 samples: rank correlation" in capsys.readouterr().out


def test_predicted_depth_can_be_read_again(trained, tmp_path):
    image, _ = scene(40)
    Image.fromarray(image).save(tmp_path / "a.png")
    (one,) = predict(PredictConfig(trained.folder, tmp_path / "a.png", tmp_path / "out", progress=False)).written
    depth = read_depth(one.depth, Reading())
    assert depth.shape == image.shape[:2] and one.picture.is_file()
    assert (depth.min(), depth.max()) == pytest.approx((one.nearest, one.farthest), abs=6e-4)
    films = AnimateConfig(trained.folder, tmp_path / "a.png", tmp_path / "a.gif", every=4, progress=False)
    animate(films)
    assert len(iio.imread(films.output)) == 1 + 1


def test_a_run_that_is_cut_off_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    config = tiny(write_folders(tmp_path / "data"), tmp_path / "cut", save_every=1, epochs=1)
    done = cut_at_every_save(train, config, 2, monkeypatch)
    whole = train(dataclasses.replace(config, output=tmp_path / "whole"))
    for name, tensor in load_file(whole.last).items():
        assert torch.equal(load_file(done.last)[name], tensor)


def test_filters_may_be_fixed_with_zeros_beyond_the_border(tmp_path):
    """As DepthNCAModel(num_learned_filters=0) of NCALab."""
    done = train(tiny(write_folders(tmp_path / "data", 4), tmp_path / "run", epochs=1, filters="sobel"))
    cell = checkpoint.load(done.best).levels[0]
    assert cell.rule.padding == "zeros" and "perceive.weight" not in dict(cell.named_parameters())
    slope = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([-1.0, 0.0, 1.0])) / 8
    state = torch.randn(1, 8, 6, 7)
    for number, kernel in enumerate((slope, slope.T)):
        expected = F.conv2d(state, kernel.expand(8, 1, 3, 3), padding=1, groups=8)
        torch.testing.assert_close(cell.perception(state)[:, 8 * (1 + number) : 8 * (2 + number)], expected)


def test_measures_by_hand():
    true = np.array([[1.0, 2.0, np.nan], [4.0, 8.0, np.nan]])
    found = np.array([[1.2, 2.0, 7.0], [6.0, 2.0, 9.0]])
    have = measure(found, true)
    assert have["abs_rel"] == pytest.approx((0.2 + 0 + 0.5 + 0.75) / 4)
    assert have["rmse"] == pytest.approx(math.sqrt((0.04 + 4 + 36) / 4))
    assert [have[f"delta{k}"] for k in (1, 2, 3)] == [0.5, 0.75, 0.75]


@pytest.mark.parametrize("kind", ["l1", "mse"])
def test_what_is_unknown_changes_no_loss_and_gets_no_gradient_of_it(kind):
    torch.manual_seed(1)
    found, target = torch.randn(2, 1, 12, 13, requires_grad=True), torch.randn(2, 1, 12, 13)
    known, image = (torch.rand(2, 1, 12, 13) < 0.7).float(), torch.randn(2, 3, 12, 13)
    other = torch.where(known > 0, target, torch.full_like(target, 9.0))
    each = [depth_losses(kind, found, values, known, image, 0.5, 0.0) for values in (target, other)]
    for name in ("depth_loss", "ssim_loss"):
        torch.testing.assert_close(each[0][name], each[1][name])
    away = (found - target)[known > 0]
    torch.testing.assert_close(each[0]["depth_loss"], (away.abs() if kind == "l1" else away.square()).mean())
    (gradient,) = torch.autograd.grad(each[0]["depth_loss"], found)
    assert not gradient[known == 0].any()
    assert depth_losses(kind, target, target, known, image, 1.0, 0.0)["ssim_loss"] < 1e-5


def test_slopes_count_less_at_edges_of_the_image():
    step = torch.cat((torch.zeros(1, 1, 6, 4), torch.ones(1, 1, 6, 4)), 3)
    flat, edge = torch.zeros(1, 3, 6, 8), step.expand(-1, 3, -1, -1)
    assert slopes(step, flat) == pytest.approx(6 / 42) and slopes(step, edge) == pytest.approx(6 / 42 * math.exp(-1))
    assert slopes(torch.full((1, 1, 6, 8), 3.0), edge) == 0


def test_the_linear_model_is_least_squares():
    images, depths = zip(*(scene(seed) for seed in range(3)), strict=True)
    depths = [np.where(depth > 4.5, np.nan, depth).astype(np.float32) for depth in depths]
    recipe = dataclasses.replace(Recipe(), **fitted(Recipe(), images, depths))
    features = np.concatenate([recipe.features(i)[:, np.isfinite(d)] for i, d in zip(images, depths, strict=True)], 1)
    wanted = np.concatenate([recipe.scaled_log(depth)[np.isfinite(depth)] for depth in depths])
    assert abs(wanted.mean()) < 1e-4 and wanted.std() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(recipe.linear, np.linalg.lstsq(features.T, wanted, rcond=None)[0], atol=1e-4)
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_depth_in_every_form(tmp_path):
    metres = np.array([[0.5, 1.25, 0], [2, 3, 40]], np.float32)
    wanted = np.where((metres > 0) & (metres < 10), metres, np.nan)
    Image.fromarray((1000 * metres).astype(np.uint16)).save(tmp_path / "mm.png")
    Image.fromarray((100 * metres).astype(np.uint16)).save(tmp_path / "cm.png")
    np.save(tmp_path / "a.npy", np.where(metres == 0, np.inf, metres))
    np.savez(tmp_path / "a.npz", depth=metres[None].astype(np.float64))
    np.save(tmp_path / "mm.npy", (1000 * metres).astype(np.int32))
    np.save(tmp_path / "far.npy", np.where(metres == 0, 1e300, metres.astype(np.float64)))
    Image.fromarray(metres).save(tmp_path / "a.tif")
    for name in ("mm.png", "a.npy", "a.npz", "mm.npy", "far.npy", "a.tif"):
        np.testing.assert_allclose(read_depth(tmp_path / name, Reading(), None, 10.0), wanted, rtol=1e-6)
    np.testing.assert_allclose(read_depth(tmp_path / "cm.png", Reading(), 0.01, 10.0), wanted, rtol=1e-6)
    assert np.isnan(read_depth(tmp_path / "a.npy", Reading(), 1e300)).all()
    for thin in (metres[:1], metres[:, :1], metres[:1, 1:2]):
        np.save(tmp_path / "thin.npy", thin)
        assert read_depth(tmp_path / "thin.npy", Reading()).shape == thin.shape
    grey = np.array([[1, 200]], np.uint8)
    Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "grey.png")
    np.testing.assert_allclose(read_depth(tmp_path / "grey.png", Reading()), [[0.001, 0.2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "image", "said"),
    [
        ("a.jpg", Image.new("L", (9, 8), 90), "a JPEG's values are not exact; save the depth map as PNG"),
        ("a.png", Image.new("RGB", (9, 8), (1, 2, 3)), "holds colours, which are no depth"),
        ("b.png", Image.new("RGB", (9, 8), (1, 2, 3)).quantize(2), "is of mode P, which holds no depth"),
        ("c.png", Image.new("1", (9, 8)), "is of mode 1, which holds no depth"),
    ],
)
def test_images_that_are_no_depth_are_named(tmp_path, name, image, said):
    image.save(tmp_path / name)
    with pytest.raises(ImageError, match=f"{name}: {said}") as error:
        read_depth(tmp_path / name, Reading())
    assert "\n" not in str(error.value)


def test_bad_depth_is_one_line(tmp_path):
    write_folders(tmp_path, 8)
    for number, content in enumerate((b"", b"\x93NUMPY\x01\x00v", b"PK\x03\x04 no zip")):
        (tmp_path / "depth" / f"{number}.png").unlink()
        (tmp_path / "depth" / f"{number}.{'npz' if number == 2 else 'npy'}").write_bytes(content)
    Image.fromarray(np.zeros((20, 23), np.uint16)).save(tmp_path / "depth" / "3.png")
    np.savez(tmp_path / "two.npz", a=np.ones((2, 2)), b=np.ones((2, 2)))
    with pytest.raises(ImageError, match=r"two.npz: holds float64 \[2, 2\], float64 \[2, 2\], and one array"):
        read_depth(tmp_path / "two.npz", Reading())
    Image.fromarray(np.ones((5, 7), np.uint16)).save(tmp_path / "depth" / "6.png")
    (tmp_path / "depth" / "7.png").unlink()
    done = train(tiny(tmp_path, tmp_path.parent / "depth-run", epochs=1, val_fraction=0.0))
    assert len(done.skipped) == 6 and done.train == ("4", "5")
    said = " ".join(done.skipped)
    assert said.count("is no readable array") == 3 and "3.png: has no pixel of known depth" in said
    assert "6.png: has 7 x 5 pixels, and its image 24 x 20; give a map of the image's size" in said
    assert "7.png: has no depth map of the same name" in said
    options = EvaluateConfig(done.folder, data=tmp_path, output=tmp_path.parent / "e", subset="all", progress=False)
    assert len(evaluate(options).rows) == 2 * 3 and len(evaluate(options).skipped) == 6
    (tmp_path / "list.csv").write_text("image,depth\nrgb/4.png,depth/none.png\nrgb/3.png,depth/3.png\n")
    with pytest.raises(ValueError, match="none of the 2 images can be used"):
        train(tiny(tmp_path / "list.csv", tmp_path.parent / "none", epochs=1))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": None}, "give either --data, or --images and --depth"),
        ({"depth_scale": 0.0}, "depth_scale=0.0 is not allowed"),
        ({"ssim": -1.0}, "ssim=-1.0 is not allowed"),
        ({"max_depth": 1e-4}, "none of the 10 images can be used"),
    ],
)
def test_bad_options_are_one_line(tmp_path, changes, said):
    config = dataclasses.replace(tiny(write_folders(tmp_path / "data"), tmp_path / "run"), **changes)
    with pytest.raises(ValueError, match=said) as error:
        train(config)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()
