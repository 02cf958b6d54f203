"""Depth and segmentation under attack: kills, images of odd shapes and modes, damaged models, nothing to work on."""

from __future__ import annotations

import json
from pathlib import Path

import blobs
import imageio.v3 as iio
import numpy as np
import pytest
import scenes
from kills import kill_until_done
from odd_images import by_mode, levels, png
from PIL import Image
from safetensors.torch import load_file, save_file

from ncafast import checkpoint
from ncafast.tasks import depth, segmentation

TASKS = {"depth": (depth, scenes, "depth"), "segmentation": (segmentation, blobs, "masks")}
SHAPES = ((1, 37), (37, 1), (1, 1), (2, 3), (40, 5))


@pytest.fixture(scope="module", params=TASKS)
def trained(request, tmp_path_factory):
    """A task, and a run that was trained and validated on images as thin as images can be."""
    task, helper, targets = TASKS[request.param]
    data = tmp_path_factory.mktemp(request.param) / "data"
    for name in ("images", targets):
        (data / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for number, shape in enumerate(SHAPES):
        Image.fromarray(random.integers(0, 256, (*shape, 3)).astype(np.uint8)).save(data / "images" / f"{number}.png")
        steps = random.integers(500, 4000, shape) if task is depth else 100 * random.integers(0, 3, shape)
        target = steps.astype(np.uint16 if task is depth else np.uint8)
        Image.fromarray(target).save(data / targets / f"{number}.png")
    options = {"val_fraction": 0.4, "epochs": 1, "pictures": 2, "tensorboard": True}
    return task, task.train(helper.tiny(data, data.parent / "run", **options))


@pytest.mark.parametrize("name", TASKS)
def test_a_run_that_is_killed_ends_with_the_same_weights(tmp_path, name):
    task, helper, _ = TASKS[name]
    data = helper.write_folders(tmp_path / "data", 6)
    options = {"epochs": 6, "batch_size": 2, "save_every": 1}
    assert len(list(kill_until_done(task.train, (helper.tiny(data, tmp_path / "run", **options),), most=1))) == 1
    whole = task.train(helper.tiny(data, tmp_path / "whole", **options))
    for kind in ("best", "last"):
        found, expected = (load_file(tmp_path / run / f"{kind}.safetensors") for run in ("run", "whole"))
        assert {key: tensor.numpy().tobytes() for key, tensor in found.items()} == {
            key: tensor.numpy().tobytes() for key, tensor in expected.items()
        }
    assert whole.history[-1]["epoch"] == 6


def test_images_one_pixel_wide_have_results_of_their_size(trained, tmp_path):
    task, run = trained
    data = run.folder.parent / "data"
    options = {"subset": "all", "uncertainty": True, "runs": 2, "progress": False}
    scores = task.evaluate(task.EvaluateConfig(run.folder, data=data, output=tmp_path / "e", **options))
    assert {row["image"] for row in scores.rows} == set("01234")
    assert "rank_correlation" in (tmp_path / "e" / "uncertainty.json").read_text()
    done = task.predict(task.PredictConfig(run.folder, data / "images", tmp_path / "p", runs=2, progress=False))
    assert not done.skipped
    for number, (shape, item) in enumerate(zip(SHAPES, done.written, strict=True)):
        found = iio.imread(tmp_path / "p" / f"{number}.png")
        assert found.shape == shape
        if task is depth:
            true = iio.imread(data / "depth" / f"{number}.png").astype(float)
            wanted = next(row for row in scores.rows if row["image"] == str(number))["abs_rel"]
            assert np.mean(np.abs(found - true) / true) == pytest.approx(wanted, abs=2e-3)  # of whole millimetres
        else:
            assert item.share == {"blob": np.mean(found == 100), "middle": np.mean(found == 200)}
    film = task.AnimateConfig(run.folder, data / "images" / "0.png", tmp_path / "a.gif", every=4, progress=False)
    assert len(iio.imread(task.animate(film))) == 1 + 1


def test_images_of_any_mode_are_seen_as_their_colours(trained, tmp_path):
    """A grey, deep or half transparent image has the result of the RGB image that it stands for."""
    task, run = trained
    odd, plain, images = tmp_path / "odd", tmp_path / "plain", by_mode(12, 17)
    odd.mkdir()
    plain.mkdir()
    for mode in ("L", "P", "1", "LA", "RGBA"):
        images[mode].save(odd / f"{mode}.png")
        on_white = Image.new("RGBA", images[mode].size, "white")
        on_white.alpha_composite(images[mode].convert("RGBA"))
        on_white.convert("RGB").save(plain / f"{mode}.png")
    deep = levels((12, 17, 3), 3, 65535)
    (odd / "deep.png").write_bytes(png(deep))
    Image.fromarray(np.rint(deep / 257).astype(np.uint8)).save(plain / "deep.png")
    for name, content in (("empty", b""), ("text", b"no image"), ("cut", (odd / "RGBA.png").read_bytes()[:90])):
        (odd / f"{name}.png").write_bytes(content)
    found, expected = (
        task.predict(task.PredictConfig(run.folder, source, tmp_path / f"{source.name}-out", progress=False))
        for source in (odd, plain)
    )
    assert [Path(line.split(": ")[0]).stem for line in found.skipped] == ["cut", "empty", "text"]
    for one, other in zip(found.written, expected.written, strict=True):
        ours, theirs = (iio.imread(Path(item.depth if task is depth else item.mask)) for item in (one, other))
        np.testing.assert_array_equal(ours, theirs, one.image.name)


def test_nothing_to_work_on_is_one_line(trained, tmp_path):
    task, run = trained
    nothing, empty = tmp_path / "nothing", tmp_path / "empty.png"
    nothing.mkdir()
    empty.touch()
    tiny = TASKS[task.__name__.rsplit(".", 1)[-1]][1].tiny
    cases = [
        (lambda: task.train(tiny(nothing, tmp_path / "r")), "nothing: holds no image"),
        (lambda: task.train(tiny(tmp_path / "no", tmp_path / "r")), "no: does not exist"),
        (lambda: task.evaluate(task.EvaluateConfig(run.folder, data=nothing)), "nothing: holds no image"),
        (lambda: task.evaluate(task.EvaluateConfig(nothing, data=run.folder.parent / "data")), "holds no best"),
        (lambda: task.predict(task.PredictConfig(run.folder, nothing)), "nothing: holds no image"),
        (lambda: task.predict(task.PredictConfig(run.folder, empty)), "empty.png: is an empty file"),
        (lambda: task.animate(task.AnimateConfig(run.folder, nothing)), "nothing: is a folder"),
        (lambda: task.animate(task.AnimateConfig(run.folder, empty)), "empty.png: is an empty file"),
    ]
    for attempt, said in cases:
        with pytest.raises(ValueError, match=said) as error:
            attempt()
        assert "\n" not in str(error.value)
    assert not (tmp_path / "r").exists()


def test_a_run_without_a_complete_epoch_says_which_model_is_taken(trained, tmp_path, capsys):
    task, run = trained
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "last.safetensors").write_bytes(run.last.read_bytes())
    image = run.folder.parent / "data" / "images" / "0.png"
    for folder in (run.folder, tmp_path / "cut"):
        assert task.predict(task.PredictConfig(folder, image, tmp_path / folder.name)).written
    said = f"note: {tmp_path / 'cut'} has no best.safetensors yet, as no epoch is complete; last.safetensors is taken"
    shown = capsys.readouterr().out
    assert shown.count("best.safetensors") == 1 and said in shown


def test_a_damaged_model_is_named(trained, tmp_path):
    task, run = trained
    described = checkpoint.describe(run.best)
    recipe, image = json.loads(described["recipe"]), run.folder.parent / "data" / "images" / "0.png"
    path = tmp_path / "m.safetensors"
    wider = {"linear": [1.0]} if task is depth else {"names": list("abcdef"), "values": list("123456")}
    for changes, said in (
        ({"task": "mednca"}, "was written by ncafast train mednca"),
        ({"recipe": None}, "is corrupt"),
        ({"recipe": "x"}, "is corrupt"),
        ({"recipe": json.dumps(recipe | {"size": 0})}, "is corrupt .size=0"),
        ({"recipe": json.dumps(recipe | {"std": [0, 1, 1]})}, "is corrupt .*std"),
        ({"recipe": json.dumps(recipe | wider)}, "is corrupt .*(linear|is not one of 6 outputs)"),
    ):
        save_file(load_file(run.best), path, {k: v for k, v in (described | changes).items() if v is not None})
        with pytest.raises(ValueError, match=f"{path}: {said}") as error:
            task.predict(task.PredictConfig(path, image, tmp_path / "out"))
        assert "\n" not in str(error.value)
    path.write_bytes(run.best.read_bytes()[:300])
    with pytest.raises(ValueError, match=f"{path} is corrupt"):
        task.predict(task.PredictConfig(path, image, tmp_path / "out"))


def test_an_image_of_another_kind_than_those_of_training_is_noted_once(tmp_path, capsys):
    data = blobs.write_folders(tmp_path / "colour", 4)
    grey = tmp_path / "grey"
    for name in ("images", "masks"):
        (grey / name).mkdir(parents=True)
        for file in (data / name).iterdir():
            Image.open(file).convert("L").save(grey / name / file.name)
    configs = {kind: blobs.tiny(tmp_path / kind, tmp_path / f"{kind}-run") for kind in ("colour", "grey")}
    runs = {kind: segmentation.train(config) for kind, config in configs.items()}
    for model in runs:
        for images in runs:
            capsys.readouterr()
            places = tmp_path / images / "images", tmp_path / f"{model}-{images}"
            segmentation.predict(segmentation.PredictConfig(runs[model].folder, *places, overlay=False, progress=False))
            said = [line for line in capsys.readouterr().out.splitlines() if "is it the right model" in line]
            assert len(said) == (model != images), said
            if said:
                what = "grey, but the model was trained on images in colour" if images == "grey" else "in colour, but"
                assert "0.png and 3 more: " in said[0] and what in said[0]
