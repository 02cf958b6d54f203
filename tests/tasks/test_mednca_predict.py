"""Predicting and scoring with a trained Med-NCA, on files of every shape and orientation."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import imageio.v3 as iio
import nibabel as nib
import numpy as np
import pytest
import torch
from nifti import affine_of, blob, tiny, write, write_set
from safetensors.torch import load_file, save_file

from ncafast import checkpoint, cli, interrupt
from ncafast.tasks.base import load
from ncafast.tasks.mednca import (
    AnimateConfig,
    EvaluateConfig,
    PredictConfig,
    animate,
    evaluate,
    predict,
    prediction,
    train,
)
from ncafast.tasks.mednca.inference import groups, infer
from ncafast.tasks.mednca.task import TASK
from ncafast.utils.seeds import mix


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("data"), 5)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned a little; groups of 4 slices, so that every volume needs several."""
    out = tmp_path_factory.mktemp("run")
    train(tiny(data, out, steps=(5, 5), hidden=16, epochs=4, lr=0.01, lr_gamma=1.0, predict_batch=4))
    return out


def _predict(run: Path, source: Path, target: Path, **options: object) -> np.ndarray:
    predict(PredictConfig(run, source, target, progress=False, overlay=False, **options))  # type: ignore[arg-type]
    return np.asarray(nib.load(target).dataobj)


@pytest.mark.parametrize("axes", ["LPS", "PSR", "SAL"])
def test_a_turned_image_gets_the_turned_prediction(run, tmp_path, axes):
    image, _ = blob((9, 13, 7), seed=8)
    plain = nib.Nifti1Image(image, affine_of("RAS", (1.0, 1.5, 3.0)))
    ornt = nib.orientations.axcodes2ornt
    turn = nib.orientations.ornt_transform(ornt("RAS"), ornt(axes))
    nib.save(plain, tmp_path / "plain.nii.gz")
    nib.save(plain.as_reoriented(turn), tmp_path / "turned.nii")
    expected = _predict(run, tmp_path / "plain.nii.gz", tmp_path / "p.nii.gz")
    assert 10 < expected.sum() < expected.size / 2
    found = _predict(run, tmp_path / "turned.nii", tmp_path / "t.nii")
    np.testing.assert_array_equal(found, nib.orientations.apply_orientation(expected, turn))
    np.testing.assert_array_equal(nib.load(tmp_path / "t.nii").affine, nib.load(tmp_path / "turned.nii").affine)


def test_a_4d_image_gets_the_3d_prediction_of_the_chosen_channel(run, tmp_path):
    image, label = blob((9, 13, 7), seed=8)
    one = write(tmp_path / "one.nii.gz", image)
    four = write(tmp_path / "images" / "four.nii.gz", np.stack([-image, image, image * 0], -1))
    found = _predict(run, four, tmp_path / "f.nii.gz", channels=(1,))
    assert found.shape == image.shape
    np.testing.assert_array_equal(found, _predict(run, one, tmp_path / "o.nii.gz"))
    assert (_predict(run, four, tmp_path / "g.nii.gz", channels=(0,)) != found).any()
    single = write(tmp_path / "single.nii.gz", image[..., None])
    np.testing.assert_array_equal(found, _predict(run, single, tmp_path / "s.nii.gz"))
    said = "four.nii.gz: is 4-D with 3 channels, but .* trained on 3-D images; choose one of 0 to 2 with --channels"
    with pytest.raises(ValueError, match=said):  # nothing says which channel the model was trained on
        _predict(run, four, tmp_path / "x.nii.gz")
    with pytest.raises(ValueError, match=r"channels=\(0, 1\) is not allowed; the model takes 1, so give as many"):
        _predict(run, four, tmp_path / "x.nii.gz", channels=(0, 1))
    with pytest.raises(ValueError, match="has channels 0 to 2, but .7. is wanted"):
        _predict(run, four, tmp_path / "x.nii.gz", channels=(7,))
    assert not (tmp_path / "x.nii.gz").exists()
    write(tmp_path / "labels" / "four.nii.gz", label)
    scored = EvaluateConfig(run, tmp_path, output=tmp_path / "e", progress=False)
    with pytest.raises(ValueError, match=said):
        evaluate(scored)
    row = evaluate(dataclasses.replace(scored, channels=(1,))).rows[0]
    assert row["voxels_found"] == np.count_nonzero(found)


def test_a_model_of_4d_images_takes_the_channel_it_was_trained_on(tmp_path, capsys):
    data = write_set(tmp_path / "data", 4)
    for path in (data / "imagesTr").iterdir():
        image = np.asarray(nib.load(path).dataobj)
        write(path, np.stack([image * 0, image], -1))
    train(tiny(data, tmp_path / "run", channels=(1,), epochs=1))
    assert "of the images' channels these are used: 1 (--channels)" in capsys.readouterr().out
    image = np.asarray(nib.load(data / "imagesTr" / "case_0.nii.gz").dataobj)[..., 1]
    again = write(tmp_path / "again.nii.gz", np.stack([-image, image, -image], -1))
    alone = write(tmp_path / "alone.nii.gz", image)
    found = _predict(tmp_path / "run", again, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(found, _predict(tmp_path / "run", alone, tmp_path / "b.nii.gz", channels=(0,)))
    with pytest.raises(ValueError, match="has channel 0 only, but .1. is wanted"):
        _predict(tmp_path / "run", alone, tmp_path / "c.nii.gz")


def test_a_film_shows_the_slice_with_most_of_the_label(run, tmp_path):
    image, _ = blob((9, 13, 7), seed=8)
    source, both = write(tmp_path / "a.nii.gz", image), tmp_path / "both"
    both.mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        write(both / name, image)
    config = AnimateConfig(run, source, tmp_path / "a.gif", progress=False)
    assert animate(config) == config.output
    found = _predict(run, source, tmp_path / "p.nii.gz")
    fullest = int(found.sum((0, 1)).argmax())
    animate(dataclasses.replace(config, output=tmp_path / "b.gif", slice=fullest))
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    frames = iio.imread(config.output)
    assert len(frames) == 10  # 5 steps on either level
    plain = {"step_label": False, "step_bar": False}
    animate(dataclasses.replace(config, output=tmp_path / "c.gif", show="channels", every=5, zoom=2, **plain))
    tiles = iio.imread(tmp_path / "c.gif")
    assert tiles.shape == (2, 2 * (2 * 13 + 1), 2 * (2 * 9 + 1), 3)
    for options, said in (
        ({"slice": 7}, "slice=7 is not allowed; .* has 7 slices; give one from 0 to 6"),
        ({"label": 3}, "label=3 is not allowed; the model knows 1"),
        ({"every": 6}, "every=6 is not allowed; a level of the model takes 5 steps"),
        ({"output": tmp_path / "a.avi"}, "must end in .gif or .mp4"),
        ({"input": tmp_path / "none.nii"}, "there is no such file"),
        ({"input": both}, "both' is not allowed; it holds 2 images; give one of them"),
    ):
        with pytest.raises(ValueError, match=said):
            animate(dataclasses.replace(config, **options))


def test_a_flat_image_keeps_its_shape(run, tmp_path):
    image, _ = blob((9, 13, 7), seed=8)
    flat = write(tmp_path / "flat.nii.gz", image[:, :, 3])
    assert _predict(run, flat, tmp_path / "f.nii.gz").shape == (9, 13)


def test_a_folder_is_predicted_file_by_file(run, data, tmp_path, capsys):
    inputs = tmp_path / "in"
    for number in (0, 3):
        name = f"case_{number}.nii.gz"
        (inputs / name).parent.mkdir(exist_ok=True)
        (inputs / name).write_bytes((data / "imagesTr" / name).read_bytes())
    (inputs / "bad.nii.gz").write_bytes(b"\x1f\x8bjunk")
    done = predict(PredictConfig(run, inputs, tmp_path / "out", progress=False))
    assert [item.labels.name for item in done.written] == ["case_0.nii.gz", "case_3.nii.gz"]
    assert "bad.nii.gz" in capsys.readouterr().out
    assert [item.path.name for item in done.skipped] == ["bad.nii.gz"]
    for item in done.written:
        alone = _predict(run, item.image, tmp_path / "alone.nii.gz")
        found = np.asarray(nib.load(item.labels).dataobj)
        np.testing.assert_array_equal(found, alone)
        assert item.voxels == {1: int(found.sum())}
        assert item.overlay == item.labels.with_name(item.labels.name.replace(".nii.gz", ".png"))
        assert item.overlay.stat().st_size > 5000


@pytest.mark.parametrize("value", [0, 7])
def test_an_image_without_contrast_is_skipped(run, data, tmp_path, capsys, value):
    inputs = tmp_path / "in"
    write(inputs / "flat.nii.gz", np.full((9, 13, 7), value, np.int16))
    (inputs / "good.nii.gz").write_bytes((data / "imagesTr" / "case_0.nii.gz").read_bytes())
    done = predict(PredictConfig(run, inputs, tmp_path / "out", progress=False, overlay=False))
    assert [item.path.name for item in done.skipped] == ["flat.nii.gz"]
    assert not (tmp_path / "out" / "flat.nii.gz").exists()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "flat.nii.gz" in line]
    assert line.startswith("skipped: ") and "has no contrast" in line
    with pytest.raises(ValueError, match=r"flat\.nii\.gz: has no contrast"):
        _predict(run, inputs / "flat.nii.gz", tmp_path / "x.nii.gz")


STRANGE = (r"a$\frac$", "50% $", "脑", "a\tb\nc", b"caf\xe9".decode("utf-8", "surrogateescape"))


def test_any_file_name_is_segmented_and_scored(run, tmp_path, capsys):
    image, label = blob((9, 13, 7), seed=8)
    plain = write(tmp_path / "plain.nii.gz", image)
    data = tmp_path / "data"
    for name in STRANGE:
        write(data / "images" / f"{name}.nii.gz", image)
        write(data / "labels" / f"{name}.nii.gz", label)
    (data / "images" / "no\nimage.nii").write_bytes(b"junk")
    done = predict(PredictConfig(run, data / "images", tmp_path / "out", progress=False))
    assert "/no image.nii: " in capsys.readouterr().out  # one line
    expected = _predict(run, plain, tmp_path / "p.nii.gz")
    assert {item.image.name.removesuffix(".nii.gz") for item in done.written} == set(STRANGE)
    for item in done.written:
        np.testing.assert_array_equal(np.asarray(nib.load(item.labels).dataobj), expected)
        assert item.overlay.name == item.image.name.replace(".nii.gz", ".png") and item.overlay.is_file()

    scores = evaluate(EvaluateConfig(run, data, output=tmp_path / "e", progress=False))
    assert {row["volume"] for row in scores.rows} == set(STRANGE)
    names = {r"a$\frac$", "50% $", "脑", "a b c", "caf?", "mean"}
    with scores.csv.open(encoding="utf-8") as file:
        assert {row["volume"] for row in csv.DictReader(file)} == names
    said = capsys.readouterr().out.splitlines()
    assert all(any(line.startswith(name) for line in said) for name in names)


def test_two_files_of_one_stem_get_two_overlays(run, tmp_path):
    image, _ = blob((9, 13, 7), seed=8)
    for name in ("a.nii", "a.nii.gz", "b.nii"):
        write(tmp_path / "in" / name, image)
    done = predict(PredictConfig(run, tmp_path / "in", tmp_path / "out", progress=False))
    overlays = {item.image.name: item.overlay.name for item in done.written}
    assert overlays == {"a.nii": "a.nii.png", "a.nii.gz": "a.nii.gz.png", "b.nii": "b.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*overlays, *overlays.values()}


def damaged(run: Path, folder: Path, tensors: dict[str, torch.Tensor] | None = None, **changes: str | None) -> Path:
    """The run's best checkpoint with other tensors or metadata; None leaves an entry out."""
    path = folder / "damaged.safetensors"
    header = checkpoint.describe(run / "best.safetensors") | changes
    content = load_file(run / "best.safetensors") | (tensors or {})
    save_file(content, path, {key: value for key, value in header.items() if value is not None})
    return path


def config_of(run: Path, **changes: object) -> str:
    return json.dumps(json.loads(checkpoint.describe(run / "best.safetensors")["config"]) | changes)


def recipe_of(run: Path, **changes: object) -> str:
    return json.dumps(json.loads(checkpoint.describe(run / "best.safetensors")["recipe"]) | changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(run, tmp_path, value):
    name, weight = next(iter(load_file(run / "best.safetensors").items()))
    weight.view(-1)[-1] = value
    path = damaged(run, tmp_path, {name: weight})
    with pytest.raises(ValueError, match=f"damaged.safetensors: is corrupt \\({name} holds NaN or infinite"):
        load(TASK, path, torch.device("cpu"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"group": "-5"}, "group=-5 is not allowed: a whole number from 1"),
        ({"group": "0"}, "group=0 is not allowed"),
        ({"group": "x"}, "'x'"),
        ({"group": None}, "'group' is missing"),
        ({"recipe": None}, "'recipe' is missing"),
        ({"recipe": "{"}, "is corrupt"),
        ({"recipe": "[1]"}, "is no JSON object"),
        ({"recipe": "null"}, "is no JSON object"),
        ({"recipe": '{"foo": 1}'}, "foo"),
        ({"recipe": '{"percentiles": [1]}'}, "is corrupt"),
        ({"recipe": '{"channels": "ab"}'}, "channels"),
        ({"recipe": {"classes": [1, 2, 3]}}, "the model has classes=1, but its recipe names [1, 2, 3]"),
        ({"recipe": {"channels": [0, 1]}}, "the model has image_channels=1, but its recipe names [0, 1]"),
        ({"recipe": {"channels": [0.5]}}, "channels=(0.5,) is not allowed"),
        ({"recipe": {"classes": [1.5]}}, "classes=(1.5,) is not allowed"),
        ({"config": {"steps": [5]}}, "steps must be"),
        ({"config": {"steps": ["a", "b"]}}, "steps must be"),
        ({"config": {"scale": 1e9}}, "scale must be"),
        ({"config": {"scale": 10**9}}, "scale=1000000000 is not allowed"),
        ({"config": {"classes": 1.0}}, "classes must be"),
        ({"config": "{"}, "does not fit its own description"),
        ({"config": None}, "its metadata has no config"),
    ],
)
def test_damaged_metadata_is_one_line_that_names_the_file(run, tmp_path, changes, said):
    make = {"config": config_of, "recipe": recipe_of}
    changes = {key: make[key](run, **value) if isinstance(value, dict) else value for key, value in changes.items()}
    path = damaged(run, tmp_path, **changes)
    with pytest.raises(ValueError) as error:
        load(TASK, path, torch.device("cpu"))
    text = str(error.value)
    assert str(path) in text and said in text and "\n" not in text


def test_weights_stored_as_whole_numbers_are_refused(run, tmp_path):
    name, weight = next(iter(load_file(run / "best.safetensors").items()))
    with pytest.raises(ValueError, match=f"damaged.safetensors .* {name} holds torch.int32"):
        load(TASK, damaged(run, tmp_path, {name: weight.int()}), torch.device("cpu"))


def test_a_model_of_another_dtype_works_in_float32(run, tmp_path):
    doubled = {key: value.double() for key, value in load_file(run / "best.safetensors").items()}
    model = load(TASK, damaged(run, tmp_path, doubled), torch.device("cpu")).model
    for key, value in load(TASK, run, torch.device("cpu")).model.state_dict().items():
        assert torch.equal(model.state_dict()[key], value) and value.dtype == torch.float32


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"train": 3, "held_out": {}}', '{"train": {}, "held_out": null}'])
def test_a_damaged_split_is_one_line_and_not_needed_for_all(run, data, tmp_path, text):
    (tmp_path / "best.safetensors").write_bytes((run / "best.safetensors").read_bytes())
    (tmp_path / "split.json").write_text(text)
    for subset in ("auto", "train", "val"):
        with pytest.raises(ValueError, match=r"split\.json: is corrupt.*; use --subset all"):
            evaluate(EvaluateConfig(tmp_path, data, subset=subset, output=tmp_path / "e", progress=False))
    scores = evaluate(EvaluateConfig(tmp_path, data, subset="all", output=tmp_path / "e", progress=False))
    assert len(scores.rows) == 5


def test_an_output_that_cannot_be_is_said_before_any_work(run, data, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.nii.gz").mkdir()
    source = data / "imagesTr" / "case_0.nii.gz"
    for output, reason in (("file", "file is not a folder"), ("file/a.nii", "file is not a folder"),
                           ("folder.nii.gz", "folder.nii.gz is a folder")):  # fmt: skip
        with pytest.raises(ValueError, match=f"^--output:? .*{reason}"):
            predict(PredictConfig(tmp_path / "no model", source, tmp_path / output))
    with pytest.raises(ValueError, match="^--output .*file is not a folder"):
        evaluate(EvaluateConfig(tmp_path / "no model", data, output=tmp_path / "file"))


def test_what_predict_refuses(run, tmp_path):
    source = write(tmp_path / "in" / "a.nii.gz", blob()[0])
    for options, reason in (
        ((run, source, tmp_path / "in"), "would overwrite the image itself"),
        ((run, tmp_path / "in", tmp_path / "o.nii.gz"), "--output must be a folder"),
        ((run, tmp_path / "no.nii.gz", tmp_path / "o"), "there is no such file"),
        ((tmp_path, source, tmp_path / "o"), "holds no best.safetensors"),
        ((source, source, tmp_path / "o"), "a.nii.gz"),
    ):
        with pytest.raises(ValueError, match=reason):
            predict(PredictConfig(*options, progress=False))
    with pytest.raises(ValueError, match="runs=0"):
        predict(PredictConfig(run, source, tmp_path / "o", runs=0))


def test_probabilities_average_runs_and_depend_on_the_volume_alone(run):
    trained = load(TASK, run, torch.device("cpu"))
    images = torch.rand(6, 1, 9, 11)
    model, size = trained.model, 4
    expected = torch.zeros(6, 1, 9, 11)
    with torch.no_grad():
        for number, members in enumerate(groups(6, size)):
            padded = torch.nn.functional.pad(images[list(members)], (0, 1, 0, 1))
            logits = model(torch.cat([padded] * 3), seed=mix("predict", 5, 0, number))
            expected[list(members)] = logits[..., :9, :11].sigmoid().unflatten(0, (3, len(members))).mean(0)
    found = infer(model, images, seed=5, runs=3, group=size).probability
    torch.testing.assert_close(found, expected)
    assert not torch.equal(found, infer(model, images, seed=6, runs=3, group=size).probability)


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_scores_are_those_of_the_written_predictions(run, data, tmp_path, capsys):
    scores = evaluate(EvaluateConfig(run, data, subset="all", output=tmp_path / "e", progress=False))
    assert [row["volume"] for row in scores.rows] == [f"case_{n}" for n in range(5)]
    for row in scores.rows:
        name = f"{row['volume']}.nii.gz"
        found = _predict(run, data / "imagesTr" / name, tmp_path / name) > 0
        truth = np.asarray(nib.load(data / "labelsTr" / name).dataobj) > 0
        assert row["dice"] == pytest.approx(_dice(found, truth))
        assert row["iou"] == pytest.approx((found & truth).sum() / (found | truth).sum())
        assert (row["voxels_found"], row["voxels_true"]) == (found.sum(), truth.sum())
        assert 0 <= row["hd95_mm"] < 20
    with scores.csv.open() as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["volume"] == "mean"
    for key in ("dice", "iou", "hd95_mm"):
        mean = np.mean([row[key] for row in scores.rows])
        assert scores.mean[key] == pytest.approx(mean)
        assert float(rows[-1][key]) == scores.mean[key]
    said = capsys.readouterr().out
    assert f"{scores.mean['dice']:.4f}" in said
    assert all(f"case_{n}" in said for n in range(5))
    assert {path.name for path in (tmp_path / "e").iterdir()} == {
        "scores.csv", "worst.png", "middle.png", "best.png"
    }  # fmt: skip


def test_held_out_scores_repeat_the_training_log(run, data, tmp_path):
    scores = evaluate(EvaluateConfig(run, data, output=tmp_path, progress=False))
    with (run / "history.csv").open() as file:
        best = max(float(row["val_dice"]) for row in csv.DictReader(file))
    assert len(scores.rows) == 1
    assert scores.mean["dice"] == pytest.approx(best)


def test_subsets(run, data, tmp_path):
    def names(**options: object) -> list[str]:
        config = EvaluateConfig(run, output=tmp_path / "e", progress=False, **options)  # type: ignore[arg-type]
        return [row["volume"] for row in evaluate(config).rows]

    held_out, trained = names(data=data), names(data=data, subset="train")
    assert sorted(held_out + trained) == [f"case_{n}" for n in range(5)]
    other = tmp_path / "other"
    image, label = blob(seed=50)
    write(other / "new_image.nii.gz", image)
    write(other / "new_mask.nii.gz", label)
    assert names(data=other) == ["new"]
    with pytest.raises(ValueError, match="none of the model's 1 held-out volumes is in this data"):
        names(data=other, subset="val")
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((run / "best.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"has no split\.json beside it"):
        evaluate(EvaluateConfig(alone, data, subset="train", output=tmp_path / "e"))


def test_scoring_skips_what_cannot_be_scored(run, tmp_path, capsys):
    data = write_set(tmp_path / "data", 2)
    write(data / "labelsTr" / "case_1.nii.gz", blob((4, 4, 4))[1])
    scores = evaluate(EvaluateConfig(run, data, subset="all", output=tmp_path / "e", progress=False))
    assert [row["volume"] for row in scores.rows] == ["case_0"]
    assert "4x4x4 voxels but its image case_1.nii.gz has 11x13x9" in capsys.readouterr().out


def test_groups_of_slices_stop_where_they_have_converged(run, data, tmp_path):
    source, options = sorted((data / "imagesTr").iterdir())[0], {"overlay": False, "progress": False}
    plain = _predict(run, source, tmp_path / "plain.nii.gz")
    found = _predict(run, source, tmp_path / "late.nii.gz", until_converged=True, tolerance=0.0)
    np.testing.assert_array_equal(found, plain)
    rows = list(csv.DictReader((tmp_path / "late-steps.csv").read_text().splitlines()))
    assert {tuple(row.values())[2:] for row in rows} == {("10", "5", "5", "no")} and rows[0]["image"] == source.name
    assert len(rows) == len(groups(nib.load(source).shape[2], 4))
    soon = {"until_converged": True, "tolerance": 1e9, "plateau": 2, "runs": 2}
    done = predict(PredictConfig(run, data / "imagesTr", tmp_path / "out", **soon, **options))
    assert {line.rpartition("; ")[2] for line in done.lines()} == {"4 steps"}
    assert len((tmp_path / "out" / "steps.csv").read_text().splitlines()) > 2 * 5
    with pytest.raises(ValueError, match="--until-converged does not go with --uncertainty"):
        predict(PredictConfig(run, source, tmp_path / "no", until_converged=True, uncertainty=True))
    with pytest.raises(ValueError, match=r"--until-converged is for NIfTI images, not for a\.zarr"):
        predict(PredictConfig(run, Path("a.zarr"), tmp_path / "no", until_converged=True))


def test_ctrl_c_says_how_many_results_are_written(run, data, tmp_path, monkeypatch, capsys):
    written = []

    def stop(path, picture):
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "write_png", stop)
    monkeypatch.setattr(interrupt, "_said", False)  # it is said once per process
    words = ["predict", "mednca", "--model", run, "--input", data / "imagesTr", "--output", tmp_path / "out"]
    assert cli.main([str(word) for word in words]) == 130
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == (
        f"ncafast: stopped; 2 of 5 results are in {tmp_path / 'out'}; the same command begins with the first again"
    )
    assert cli.main([str(word) for word in words]) == 0  # what is there is replaced
