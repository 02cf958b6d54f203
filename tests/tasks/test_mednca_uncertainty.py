"""Where a model is unsure: variances and the quality score against their definitions, in 2-D and 3-D."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nifti import blob, tiny, write, write_set
from scipy.stats import spearmanr

from ncafast import checkpoint
from ncafast.models import M3DNCA, MedNCA
from ncafast.tasks.mednca import EvaluateConfig, PredictConfig, evaluate, inference, pictures, predict, train
from ncafast.tasks.mednca.inference import Segmentation, groups, infer
from ncafast.tasks.mednca.model_file import metadata_of
from ncafast.tasks.mednca.slices import Recipe
from ncafast.utils.seeds import mix


def model_of(dims: int) -> MedNCA | M3DNCA:
    torch.manual_seed(3)
    if dims == 2:
        model: MedNCA | M3DNCA = MedNCA(6, 8, (3, 3), (3, 6), scale=2, classes=2)
    else:
        model = M3DNCA(6, 0.5, steps=[3, 6], hidden_size=8, output_channels=2, scale_factor=2, kernel_size=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape))
    return model


@torch.no_grad()
def by_definition(model, images, *, seed: int, batches: list[list[int]], group: int, last: int):
    """Mean, variance over runs, mean of the variances over the last steps, from all states."""
    runs = sum(map(len, batches))
    per_run = np.zeros((runs, images.shape[0], 2, *images.shape[2:]))
    history = np.zeros((last, *per_run.shape))
    dims = 2 if isinstance(model, MedNCA) else 3
    parts = groups(len(images), group) if dims == 2 else [range(len(images))]
    for number, members in enumerate(parts):
        index = list(members)
        for batch in batches:
            own = mix("predict", seed, batch[0], number)
            if dims == 2:
                _, (_, states) = model(torch.cat([images[index]] * len(batch)), seed=own, states="all")
                found = states[-last:, :, 1:3].unflatten(1, (len(batch), len(index)))
            else:
                volume = images.permute(0, 2, 3, 1)[None]
                _, (_, states) = model(torch.cat([volume] * len(batch)), seed=own, states="all")
                found = states[-last:, ..., 1:3].permute(0, 1, 2, 5, 3, 4)
            probability = found.sigmoid().double().numpy()
            for place, run in enumerate(batch):
                per_run[run, index] = probability[-1, place]
                history[:, run, index] = probability[:, place]
    return per_run.mean(0), per_run.var(0), history.var(0).mean(0)


@pytest.mark.parametrize("dims", [2, 3])
def test_means_and_variances_are_their_definitions(dims: int) -> None:
    model, images = model_of(dims), torch.rand(5, 1, 6, 8)
    found = infer(model, images, seed=9, runs=4, group=3, last_steps=3)
    expected = by_definition(model, images, seed=9, batches=[[0, 1, 2, 3]], group=3, last=3)
    own = (found.probability, found.runs_variance, found.steps_variance)
    for ours, theirs in zip(own, expected, strict=True):
        assert theirs.max() > 1e-4
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dims", [2, 3])
def test_many_runs_are_divided_into_batches(dims: int, monkeypatch) -> None:
    model, images = model_of(dims), torch.rand(4, 1, 6, 8)
    monkeypatch.setattr(inference, "_MOST_CELLS", 2 * 4 * 6 * 8 + 1)
    found = infer(model, images, seed=9, runs=5, group=4, last_steps=2)
    expected = by_definition(model, images, seed=9, batches=[[0, 1], [2, 3], [4]], group=4, last=2)
    np.testing.assert_allclose(found.runs_variance.numpy(), expected[1], rtol=1e-4, atol=1e-7)


def test_one_run_has_no_variance() -> None:
    found = infer(model_of(3), torch.rand(5, 1, 6, 8), seed=9)
    assert not found.runs_variance.any() and not found.steps_variance.any()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("data"), 3)


@pytest.fixture(scope="module", params=[2, 3])
def run(request, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    train(tiny(data, out, dims=request.param, classes=(1, 2), batch_size=2, crop=6, pictures=0, epochs=2))
    return out


def test_predict_writes_maps_and_the_report(run, tmp_path):
    for number in range(2):
        write(tmp_path / "in" / f"a{number}.nii.gz", blob((9, 12, 7), seed=number)[0])
    done = predict(PredictConfig(run, tmp_path / "in", tmp_path / "o", uncertainty=True, last_steps=3, progress=False))
    folder = tmp_path / "o" / "uncertainty"
    assert {path.name for path in folder.iterdir()} == {
        "report.json", *(f"a{n}{end}" for n in range(2) for end in (".png", "_runs.nii.gz", "_steps.nii.gz"))
    }  # fmt: skip
    report = json.loads((folder / "report.json").read_text())
    assert (report["runs"], report["last_steps"]) == (10, 3)
    *lines, last = done.lines()
    for line, item in zip(lines, done.written, strict=True):
        assert item.quality is not None
        assert line.endswith(f"(NQM label 1 {item.quality[1]:.3f}, label 2 {item.quality[2]:.3f})")
    assert last.endswith("high NQM means doubtful")
    doubts = [max(row["nqm"].values()) for row in report["images"]]
    assert doubts == sorted(doubts, reverse=True)
    for row in report["images"]:
        name = row["image"].removesuffix(".nii.gz")
        (own,) = [item for item in done.written if item.image.name == row["image"]]
        assert own.quality == {int(value): score for value, score in row["nqm"].items()}
        assert {int(value): count for value, count in row["voxels"].items()} == own.voxels
        for kind in ("runs", "steps"):
            values = np.asarray(nib.load(folder / f"{name}_{kind}.nii.gz").dataobj)
            assert values.shape == (9, 12, 7) and 0 <= values.min() <= values.max() <= 0.25
            assert values.mean(dtype=np.float64) == pytest.approx(row[f"mean_variance_{kind}"])
    # The label map is that of a prediction of as many runs without the maps.
    plain = PredictConfig(run, tmp_path / "in", tmp_path / "p", runs=10, overlay=False, progress=False)
    for item in predict(plain).written:
        same = nib.load(tmp_path / "o" / item.labels.name)
        np.testing.assert_array_equal(np.asarray(nib.load(item.labels).dataobj), np.asarray(same.dataobj))
        assert item.quality is None
    assert not (tmp_path / "p" / "uncertainty").exists()


def test_a_file_has_its_maps_beside_it_and_short_models_show_all_their_steps(run, tmp_path):
    source = write(tmp_path / "a.nii.gz", blob((9, 12, 7))[0])
    predict(PredictConfig(run, source, tmp_path / "one.nii.gz", uncertainty=True, runs=2, progress=False))
    report = json.loads((tmp_path / "one-uncertainty" / "report.json").read_text())
    assert (report["runs"], report["last_steps"]) == (2, 3)  # of 5, the model takes 3


def test_wrong_options_are_named(run, tmp_path):
    source = write(tmp_path / "a.nii.gz", blob()[0])
    for options, reason in (
        ({"runs": 1}, "runs=1 is not allowed with --uncertainty"),
        ({"last_steps": 1}, "last_steps=1 is not allowed; the model's finest level takes 3 steps"),
        ({"last_steps": 4}, "from 2 to 3"),
    ):
        with pytest.raises(ValueError, match=reason):
            predict(PredictConfig(run, source, tmp_path / "o", uncertainty=True, progress=False, **options))


def test_a_model_of_one_step_has_no_last_steps_to_differ(tmp_path):
    model = MedNCA(4, 8, (3, 3), (2, 1), scale=2)
    checkpoint.save(tmp_path / "one.safetensors", model, task="mednca", **metadata_of(Recipe("axial"), 4))
    source = write(tmp_path / "a.nii.gz", blob()[0])
    config = PredictConfig(tmp_path / "one.safetensors", source, tmp_path / "o", uncertainty=True, progress=False)
    with pytest.raises(ValueError, match=r"--uncertainty needs 2 steps .*one\.safetensors takes 1 .*train with more"):
        predict(config)


def test_scores_of_several_runs_have_the_quality(run, data, tmp_path):
    options = {"subset": "all", "output": tmp_path, "runs": 3, "progress": False}
    scores = evaluate(EvaluateConfig(run, data, uncertainty=True, **options))
    with scores.csv.open() as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["nqm"]) > 0 for row in rows[:-1])
    assert [float(row["nqm"]) for row in rows[:-1]] == [row["nqm"] for row in scores.rows]
    assert (tmp_path / "quality.png").stat().st_size > 5000
    found = json.loads((tmp_path / "uncertainty.json").read_text())
    assert found.pop("written_by") and set(found) == {"1", "2"} and scores.table().count("rank correlation") == 4
    for value, facts in found.items():
        own = [row for row in scores.rows if row["label"] == int(value)]
        expected = spearmanr([row["nqm"] for row in own], [1 - row["dice"] for row in own]).statistic
        assert facts["samples"] == 3 and facts["rank_correlation"] == pytest.approx(expected, nan_ok=True)
        assert -1 <= facts["rank_correlation_cells"] <= 1 and 0 <= facts["auroc_cells"] <= 1
    with pytest.raises(ValueError, match="runs=1 is not allowed with --uncertainty"):
        evaluate(EvaluateConfig(run, data, uncertainty=True, **options | {"runs": 1, "overwrite": True}))


@pytest.mark.parametrize("axis", ["sagittal", "coronal", "axial"])
def test_planes_are_the_canonical_ones_through_the_label(axis) -> None:
    recipe = Recipe(axis)
    volume = np.zeros((9, 11, 13), np.uint8)  # X, Y, Z
    volume[2:5, 6:9, 3:4] = 1
    slices = np.moveaxis(volume, recipe.slice_axis, 0)
    spacing = recipe.slice_spacing((1.0, 2.0, 3.0))
    chosen = pictures.choose(recipe, 3, slices, spacing)
    assert [(plane.axis, plane.index) for plane in chosen] == [("sagittal", 3), ("coronal", 7), ("axial", 3)]
    assert [plane.pixel for plane in chosen] == [(2.0, 3.0), (1.0, 3.0), (1.0, 2.0)]
    assert chosen[0].of(volume).shape == (11, 13) and chosen[2].of(volume).shape == (9, 11)
    (single,) = pictures.choose(recipe, 2, slices, spacing)
    assert single.axis == axis and single.of(volume).sum() == max(part.sum() for part in slices)
    empty = pictures.choose(recipe, 3, slices * 0, spacing)
    assert [plane.index for plane in empty] == [4, 5, 6]


def test_a_picture_shows_the_slice_with_most_labels() -> None:
    recipe = Recipe("axial", classes=(3, 5))
    slices = np.zeros((7, 9, 11), np.uint8)
    slices[1, :6] = 1  # the largest area, of one label
    slices[2, :5] = 2
    slices[4, :1], slices[4, 1:2] = 1, 2  # both
    slices[5, :1], slices[5, 1:3] = 2, 1  # both, and more of them
    (plane,) = pictures.choose(recipe, 2, slices, (3.0, 1.0, 2.0))
    assert (plane.axis, plane.index, plane.pixel) == ("axial", 5, (1.0, 2.0))
    (plane,) = pictures.choose(recipe, 2, slices[:4], (3.0, 1.0, 2.0))
    assert plane.index == 1
    (plane,) = pictures.choose(recipe, 2, slices * 0, (3.0, 1.0, 2.0))
    assert plane.index == 3


def test_pictures_show_labels_and_doubt() -> None:
    recipe = Recipe("coronal")
    image = np.full((11, 9, 13), 0.3, np.float32)
    found = np.zeros(image.shape, np.uint8)
    found[3:7, 2:6, 4:9] = 1
    segmentation = Segmentation(recipe, 3, image[:, None], found, (1, 1, 1), None)  # type: ignore[arg-type]
    nothing = dataclasses.replace(segmentation, labels=found * 0)
    plain, drawn = (pictures.draw(one, "t").astype(int) for one in (nothing, segmentation))
    both = pictures.draw(segmentation, "t", found).astype(int)
    assert _like(plain, (255, 93, 143)) < _like(drawn, (255, 93, 143))
    assert _like(drawn, (53, 208, 127)) == 0 < _like(both, (53, 208, 127))
    sure = pictures.draw_uncertainty(segmentation, {"10 runs": np.zeros(image.shape)}, "t")
    unsure = pictures.draw_uncertainty(segmentation, {"10 runs": np.full(image.shape, 0.25)}, "t")
    coloured = [(np.ptp(picture.astype(int), axis=2) > 100).sum() for picture in (sure, unsure)]
    assert coloured[1] > 5 * coloured[0]


def _like(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture - np.array(colour)).sum(-1) < 12).sum())
