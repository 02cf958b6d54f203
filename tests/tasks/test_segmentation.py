"""Segmentation: what it learns, its resume, what its commands write, and errors in one line."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from blobs import blob, tiny, write_folders
from PIL import Image
from power_cut import cut_at_every_save
from safetensors.torch import load_file
from scipy.stats import spearmanr

from ncafast import checkpoint, cli
from ncafast.tasks.base import load
from ncafast.tasks.planes import Planes, collate
from ncafast.tasks.segmentation import (
    AnimateConfig,
    EvaluateConfig,
    PredictConfig,
    animate,
    evaluate,
    pictures,
    predict,
    train,
)
from ncafast.tasks.segmentation.job import segmentation_losses
from ncafast.tasks.segmentation.task import TASK
from ncafast.utils.seeds import mix


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that takes a few seconds."""
    folder = tmp_path_factory.mktemp("segmentation")
    write_folders(folder / "data", 16)
    options = {"epochs": 3, "batch_size": 2, "lr": 0.02, "hidden": 16, "pictures": 1, "ema": 0.8}
    return train(tiny(folder / "data", folder / "run", **options))


def weights(path: Path) -> dict[str, bytes]:
    described = {"recipe": checkpoint.describe(path)["recipe"].encode()}
    return described | {key: tensor.numpy().tobytes() for key, tensor in load_file(path).items()}


def test_it_learns_and_evaluation_finds_the_same(trained, tmp_path, capsys):
    assert trained.best_dice > 0.85 and trained.history[-1]["loss"] < 0.4 * trained.history[0]["loss"]
    assert {"val_dice_blob", "val_dice_middle"} <= trained.history[0].keys()
    config = EvaluateConfig(trained.folder, data=trained.folder.parent / "data", output=tmp_path, progress=False)
    scores = evaluate(config)
    held_out = json.loads((trained.folder / "split.json").read_text())["held_out"]
    assert [row["image"] for row in scores.rows[::2]] == sorted(held_out)
    assert scores.mean["dice"] == pytest.approx(trained.best_dice, abs=1e-12)
    assert "scoring the held-out images: 3 of 16, as the names say; --subset all scores all" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.png", "middle.png", "scores.csv", "worst.png"]
    assert len(evaluate(dataclasses.replace(config, subset="all")).rows) == 32
    assert len(list((trained.folder / "pictures").iterdir())) == 1


def test_it_says_whether_it_is_unsure_where_it_is_wrong(trained, tmp_path, capsys):
    data = trained.folder.parent / "data"
    config = EvaluateConfig(trained.folder, data=data, output=tmp_path, uncertainty=True, runs=3, progress=False)
    scores = evaluate(config)
    spec = load(TASK, trained.folder, torch.device("cpu")).spec
    for outer, inner in zip(scores.rows[::2], scores.rows[1::2], strict=True):
        pixels = spec.recipe.read_image(next((data / "images").glob(f"{Path(outer['image']).stem}.*")), None)
        runs = torch.stack([spec.outputs.run(pixels, seed=config.seed, run=run).sigmoid() for run in range(3)]).double()
        spread, mean = (each.flatten(1).sum(1) for each in (runs.std(0, correction=0), runs.mean(0)))
        assert [outer["nqm"], inner["nqm"]] == pytest.approx((spread / mean).tolist(), rel=1e-5)
    facts = json.loads((tmp_path / "uncertainty.json").read_text())
    assert facts.keys() == {"written_by", "blob", "middle"}
    for name, rows in (("blob", scores.rows[::2]), ("middle", scores.rows[1::2])):
        want = spearmanr([row["nqm"] for row in rows], [1 - row["dice"] for row in rows]).statistic
        assert facts[name]["rank_correlation"] == pytest.approx(want)
        assert facts[name]["rank_correlation_cells"] > 0.3  # both are large at the edges
    assert "middle: NQM and 1 - Dice of 3 samples: rank correlation" in capsys.readouterr().out
    with pytest.raises(ValueError, match="runs=1 is not allowed with --uncertainty"):
        evaluate(dataclasses.replace(config, runs=1, overwrite=True))


def test_predicted_masks_have_the_values_of_training_and_the_size_of_the_image(trained, tmp_path):
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    image, labels = blob(40)
    for name, array in (("a.png", image), ("deep/a.jpg", image), ("large.png", image.repeat(20, 0).repeat(20, 1))):
        Image.fromarray(array).save(source / name)
    Image.fromarray(image[:1, :1]).save(source / "dot.png")
    (source / "bad.png").write_bytes((source / "a.png").read_bytes()[:99])
    options = {"overlay": False, "progress": False}
    done = predict(PredictConfig(trained.folder, source, tmp_path / "out", **options))
    assert len(done.written) == 4 and "bad.png: is corrupt" in done.skipped[0]
    for item in done.written:
        mask = np.asarray(Image.open(item.mask))
        assert mask.shape == np.asarray(Image.open(item.image)).shape[:2] and set(np.unique(mask)) <= {0, 100, 200}
    mask = np.asarray(Image.open(tmp_path / "out" / "a.png")) // 100
    assert np.mean(mask == labels) > 0.9
    (one,) = predict(PredictConfig(trained.folder, source / "a.png", tmp_path / "one", progress=False)).written
    assert np.array_equal(np.asarray(Image.open(one.mask)), 100 * mask) and one.overlay.is_file()
    assert one.share == {"blob": np.mean(mask == 1), "middle": np.mean(mask == 2)}
    large = np.asarray(Image.open(tmp_path / "out" / "large.png")) // 100  # seen at 256 pixels
    assert np.mean(large == labels.repeat(20, 0).repeat(20, 1)) > 0.7


def test_a_film_ends_with_what_prediction_finds(trained, tmp_path, monkeypatch):
    source, seen = trained.folder.parent / "data" / "images" / "3.png", []
    real = pictures.film

    def watched(pixels, levels, label, recipe, **options):
        seen.append(levels)
        return real(pixels, levels, label, recipe, **options)

    monkeypatch.setattr(pictures, "film", watched)
    config = AnimateConfig(trained.folder, source, tmp_path / "a.gif", label="middle", progress=False)
    animate(config)
    assert len(iio.imread(config.output)) == 5 + 4
    spec = load(TASK, trained.folder, torch.device("cpu")).spec
    pixels = spec.recipe.read_image(source, None)
    height, width = pixels.shape[:2]
    (levels,) = seen
    assert torch.equal(levels[-1][-1][:, :height, :width], spec.outputs.run(pixels, seed=config.seed))
    with pytest.raises(ValueError, match="label='cell' is not allowed; the model knows blob, middle"):
        animate(dataclasses.replace(config, label="cell"))
    with pytest.raises(ValueError, match="every=6 is not allowed"):
        animate(dataclasses.replace(config, every=6))


def test_a_run_that_is_cut_off_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    begin = {"time_code": "linear", "pad_noise": True}
    config = tiny(write_folders(tmp_path / "data"), tmp_path / "cut", save_every=1, shared=False, **begin)
    done = cut_at_every_save(train, config, 4, monkeypatch)
    whole = train(dataclasses.replace(config, output=tmp_path / "whole"))
    for kind in ("best", "last"):
        assert weights(getattr(done, kind)) == weights(getattr(whole, kind))
    image, labels = blob(50)
    Image.fromarray(100 * np.roll(labels, 1)).save(tmp_path / "data" / "masks" / "0.png")
    with pytest.raises(ValueError, match="run on other images"):
        train(config)


def test_parts_of_a_batch_learn_as_the_whole(tmp_path):
    """Also the steps of the levels, which every part draws."""
    data, found = write_folders(tmp_path / "data"), []
    for number, (size, parts) in enumerate(((4, 1), (2, 2))):
        config = tiny(data, tmp_path / str(number), batch_size=size, accumulate=parts, loss="bce", epochs=1, crop=16)
        found.append(load_file(train(config).last))
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-4, atol=1e-5)


def test_the_steps_of_a_level_vary_by_a_fifth(tmp_path, monkeypatch):
    from ncafast.models import CascadeNCA

    seen, real = [], CascadeNCA._levels_output

    def watched(self, x, steps, **options):
        seen.append((steps, int(options["seed"])))
        return real(self, x, steps, **options)

    monkeypatch.setattr(CascadeNCA, "_levels_output", watched)
    config = tiny(write_folders(tmp_path / "data"), tmp_path / "run", steps=(5, 1), epochs=1, batch_size=1)
    train(config)
    held_out = mix("predict", config.seed, 0)
    drawn = {steps for steps, seed in seen if seed != held_out}
    assert drawn == {(4, 1), (5, 1), (6, 1)} and {steps for steps, seed in seen if seed == held_out} == {(5, 1)}


@pytest.mark.parametrize("kind", ["dice-bce", "dice", "bce", "focal", "dice-focal"])
def test_padding_changes_no_loss(kind):
    torch.manual_seed(2)
    labels = torch.randint(0, 3, (5, 6), dtype=torch.uint8)
    exact, wide = (collate([(torch.zeros(3, 5, 6), labels)], 2, multiple) for multiple in (1, 4))
    logits = torch.randn(1, 2, 8, 8)
    plain = segmentation_losses(kind, logits[..., :5, :6], exact)
    padded = segmentation_losses(kind, logits, wide)
    assert plain.keys() == padded.keys() and len(plain) == 1 + kind.startswith("dice-")
    for name in plain:
        torch.testing.assert_close(padded[name], plain[name])
    sure = Planes(exact.image, exact.target, exact.valid)
    assert sum(segmentation_losses(kind, 40 * (2 * exact.target - 1), sure).values()) < 1e-4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": None}, "give either --data, or --images and --masks"),
        ({"images": Path("a")}, "--images and --masks belong together; --masks is missing"),
        ({"images": Path("a"), "masks": Path("b")}, "not both"),
        ({"classes": ("a=1", "b=#00ff00")}, "give either numbers or colours"),
        ({"classes": ("a=1", "a=2")}, "a name and a value of its own"),
        ({"classes": ("0",)}, "'0' is no number from 1 to 65535"),
        ({"classes": ("a=red",)}, "'red' is no number"),
        ({"classes": ("a=100", "b=7")}, r"no training mask holds 7 \(b\); beside the other classes they hold 200"),
        ({"scales": (1, 2)}, "give numbers that fall to 1"),
        ({"steps": (3,)}, "give 2 numbers, one for each of --scales"),
        ({"state_channels": 5}, "3 colours and the classes need 6 or more"),
        ({"step_jitter": 1.0}, "step_jitter=1.0 is not allowed"),
        ({"crop": 0}, "crop=0 is not allowed"),
    ],
)
def test_bad_options_are_one_line(tmp_path, changes, said):
    config = dataclasses.replace(tiny(write_folders(tmp_path / "data"), tmp_path / "run"), **changes)
    with pytest.raises(ValueError, match=said) as error:
        train(config)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_all_commands_are_there(trained, tmp_path, capsys):
    data = ["--data", str(trained.folder.parent / "data")]
    options = ["--classes", "blob=100", "--epochs", "1", "--steps", "1", "1", "1", "--hidden", "8", "--pictures", "0"]
    options += ["--no-progress", "--no-tensorboard", "--threads", "1", "--output", str(tmp_path / "o")]
    assert cli.main(["crossvalidate", "segmentation", *data, *options, "--folds", "2"]) == 0
    assert "val_dice" in (tmp_path / "o" / "results.csv").read_text()
    options[-1] = str(tmp_path / "s")
    assert cli.main(["search", "segmentation", *data, *options, "--over", "lr=0.01"]) == 0
    model = ["--model", str(trained.folder)]
    assert cli.main(["evaluate", "segmentation", *model, *data, "--subset", "test"]) == 1
    assert "has no test images" in capsys.readouterr().err


def test_an_image_stops_where_it_has_converged_and_the_steps_are_written(trained, tmp_path):
    source, options = trained.folder.parent / "data" / "images", {"overlay": False, "progress": False}
    plain = predict(PredictConfig(trained.folder, source, tmp_path / "plain", **options))
    assert plain.steps is None
    late = {"until_converged": True, "tolerance": 0.0}
    same = predict(PredictConfig(trained.folder, source, tmp_path / "late", **late, **options))
    for one, other in zip(plain.written, same.written, strict=True):
        assert one.mask.read_bytes() == other.mask.read_bytes() and one.share == other.share
    rows = list(csv.DictReader(same.steps.read_text().splitlines()))
    assert [row["image"] for row in rows] == [item.image.name for item in same.written] and len(rows) == 16
    assert {tuple(row.values())[1:] for row in rows} == {("1", "9", "5", "4", "no")}
    soon = {"until_converged": True, "tolerance": 9.0, "plateau": 2, "max_steps": 30, "runs": 2}
    found = predict(PredictConfig(trained.folder, source / "3.png", tmp_path / "soon", **soon, **options))
    assert found.steps.read_text().splitlines() == [
        "image,run,steps,level_1,level_2,converged",
        "3.png,1,4,2,2,yes",
        "3.png,2,4,2,2,yes",
    ]
    assert next(found.lines()).endswith("; 4 steps")
    long = {"until_converged": True, "tolerance": 0.0, "max_steps": 30}
    found = predict(PredictConfig(trained.folder, source / "3.png", tmp_path / "long", **long, **options))
    assert next(found.lines()).endswith("; 60 steps, not converged")
    with pytest.raises(ValueError, match=r"max_steps=9 is not allowed; give it with --until-converged only"):
        predict(PredictConfig(trained.folder, source, tmp_path / "new", max_steps=9))
    with pytest.raises(ValueError, match=r"max_steps=9 is not allowed; give no fewer than --min-steps"):
        predict(
            PredictConfig(trained.folder, source, tmp_path / "new", until_converged=True, max_steps=9, min_steps=10)
        )
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "steps.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"steps\.csv"):
        predict(PredictConfig(trained.folder, source, tmp_path / "new", until_converged=True))


def test_cells_may_see_the_time_and_start_from_noise(tmp_path):
    config = tiny(write_folders(tmp_path / "data"), tmp_path / "run", epochs=1, time_code="sincos", pad_noise=True)
    done = train(config)
    model = checkpoint.load(done.best)
    config = model.levels[0].config()
    assert (config["time_code"], config["max_steps"], config["pad_noise"], config["outputs"]) == ("sincos", 9, True, 2)
    image = torch.rand(1, 3, 12, 10)
    found = model.predict(image, seed=1)
    assert found.output_channels.shape == (1, 2, 12, 10) and not torch.equal(found.state, model.predict(image).state)
    assert torch.equal(found.state, model(image, seed=1))
    options = {"overlay": False, "progress": False}
    source = tmp_path / "data" / "images" / "0.png"
    first, second = (predict(PredictConfig(done.folder, source, tmp_path / name, **options)).written for name in "ab")
    assert first[0].mask.read_bytes() == second[0].mask.read_bytes()
