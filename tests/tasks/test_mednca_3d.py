"""Med-NCA in 3-D, from volumes on disk to segmentations: training, prediction, bad input."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from kills import kill_until_done
from nifti import affine_of, blob, tiny, write, write_set
from safetensors.torch import load_file

from ncafast import backends, checkpoint
from ncafast.models import M3DNCA
from ncafast.tasks.mednca import EvaluateConfig, PredictConfig, TrainConfig, evaluate, predict, train
from ncafast.tasks.mednca.batches import TrainingData
from ncafast.tasks.mednca.cache import prepare
from ncafast.tasks.mednca.data import load_volumes
from ncafast.tasks.mednca.model_file import least_sides
from ncafast.tasks.mednca.pairs import find_pairs
from ncafast.tasks.mednca.slices import Recipe
from ncafast.volume import cut


def tiny3(data: Path, out: Path, **options: object) -> TrainConfig:
    return tiny(data, out, **({"dims": 3, "crop": 6, "batch_size": 2} | options))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("data"), 5)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned a little."""
    out = tmp_path_factory.mktemp("run")
    options = {"state_channels": 8, "hidden": 16, "steps": (4, 4), "batch_size": 1, "epochs": 8, "lr": 0.02}
    result = train(tiny3(data, out, **options, lr_gamma=0.9, ema=0.5))
    assert result.best_dice is not None and result.best_dice > 0.8
    return out


def weights(folder: Path) -> dict[str, bytes]:
    return {
        f"{name} {key}": tensor.numpy().tobytes()
        for name in ("best", "last")
        for key, tensor in load_file(folder / f"{name}.safetensors").items()
    }


def test_what_a_run_leaves(run, data):
    model = checkpoint.load(run / "best.safetensors")
    assert isinstance(model, M3DNCA)
    assert (model.levels, model.scale_factor, model.kernel_size, model.steps) == (2, 2, (3, 3), (4, 4))
    assert checkpoint.describe(run / "best.safetensors")["task"] == "mednca"
    split = json.loads((run / "split.json").read_text())
    assert sorted([*split["train"], *split["held_out"]]) == [f"case_{n}" for n in range(5)]
    assert [path.stem for path in (run / "pictures").iterdir()] == list(split["held_out"])
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    scores = evaluate(EvaluateConfig(run, data, output=run / "e", progress=False))
    assert scores.mean["dice"] == pytest.approx(max(float(row["val_dice"]) for row in rows))
    assert "nqm" not in scores.rows[0]


def test_whole_volumes_train_in_tiles_with_spilled_states_as_at_once(data, tmp_path, monkeypatch):
    """--crop larger than the volumes makes the windows whole ones; the budget makes tiles of them."""
    options = {"crop": 512, "batch_size": 1, "epochs": 2, "state_channels": 8, "ema": 0.0}
    at_once = train(tiny3(data, tmp_path / "once", **options)).history
    monkeypatch.setattr("ncafast.volume.cut.usable_bytes", lambda limit, device: 2_500_000)
    monkeypatch.setattr("ncafast.volume.cut.SWEEP", 10**5)
    counts = []
    tiles = cut.tiles
    monkeypatch.setattr("ncafast.volume.cut.tiles", lambda *sizes: [counts.append(found := tiles(*sizes)), found][1])
    (tmp_path / "spill").mkdir()
    spilled = train(tiny3(data, tmp_path / "spilled", **options, spill=str(tmp_path / "spill"))).history
    assert max(map(len, counts)) > 1
    for ours, theirs in zip(spilled, at_once, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
    assert not list((tmp_path / "spill").iterdir())


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("threshold", "empty"), [(1e9, True), (-1e9, False)])
def test_a_run_that_finds_nothing_yet_says_so(data, tmp_path, monkeypatch, capsys, dims, threshold, empty):
    """Where no voxel of any held-out volume is labelled; a Dice of 0.0000 may also be a segmentation elsewhere."""
    monkeypatch.setattr(
        "ncafast.tasks.mednca.inference.decide", lambda found: (found.amax(1) > threshold).to(torch.uint8)
    )
    train((tiny3 if dims == 3 else tiny)(data, tmp_path, epochs=2, pictures=0))
    lines = [line for line in capsys.readouterr().out.splitlines() if "held-out Dice" in line]
    assert len(lines) == 2
    assert all((", no voxel of them is labelled yet" in line) == empty for line in lines)


def test_the_options_left_out_depend_on_the_dimensions(data, tmp_path):
    free = {"kernel_sizes": None, "steps": None, "batch_size": None, "crop": None, "epochs": 1}
    train(tiny3(data, tmp_path / "a", **free, pictures=0))
    settled = json.loads((tmp_path / "a" / "config.json").read_text())
    assert [settled[name] for name in ("kernel_sizes", "steps", "batch_size", "crop")] == [[7, 3], [10, 10], 4, 32]
    train(tiny(data, tmp_path / "b", **free, pictures=0))
    settled = json.loads((tmp_path / "b" / "config.json").read_text())
    assert [settled[name] for name in ("kernel_sizes", "steps", "batch_size", "crop")] == [[7, 3], [20, 20], 8, None]


def test_killing_at_any_moment_changes_nothing(data, tmp_path):
    """Three levels, mirrored volumes."""
    options = {"levels": 3, "kernel_sizes": (3, 3, 3), "steps": (2, 2, 2), "flip": True, "epochs": 6, "crop": 4}
    options["pictures"] = 0
    config = tiny3(data, tmp_path / "run", save_every=1, **options)
    assert len(list(kill_until_done(train, (config,), most=4, early=True))) == 4
    train(tiny3(data, tmp_path / "whole", **options))
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


@pytest.mark.parametrize("dims", [2, 3])
def test_the_fused_and_the_reference_backend_train_alike(data, tmp_path, dims):
    if len(backends.available()) < 2:
        pytest.skip("there is no fused backend here")
    options = {"epochs": 2} if dims == 2 else {"epochs": 4, "dims": 3, "crop": 6, "batch_size": 2}
    curves = []
    for name in ("cpu", "reference"):
        with backends.use(name):
            history = train(tiny(data, tmp_path / name, pictures=0, **options)).history
        curves.append([row["loss"] for row in history])
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)
    assert len(set(curves[0])) == len(curves[0])


def test_batches_hold_what_their_windows_show(data, tmp_path):
    """Every label and every real voxel is where the padded volume has it; padding repeats the volume's end."""
    recipe = Recipe("axial", classes=(1, 2))
    pairs, _ = find_pairs(data / "imagesTr", data / "labelsTr")
    volumes = [prepare(pair, recipe, tmp_path) for pair in pairs]
    training = TrainingData(volumes, TrainConfig(dims=3, scale=2, levels=2, crop=5, seed=1), classes=2)
    batch = training.batch(0, 0, [3, 0, 1])
    assert batch.image.shape == (3, 10, 12, 14, 1)  # of slices 9, rows 10 to 11, columns 12 to 13
    for sample, number in enumerate([3, 0, 1]):
        images, label = volumes[number].read(slice(None))
        s, h, w = label.shape
        assert torch.equal(batch.image[sample, :s, :h, :w, 0], images[:, 0])
        assert torch.equal(batch.image[sample, s:, :h, :w, 0], images[-1:, 0].expand(10 - s, -1, -1))
        start, size = batch.windows.starts[0][sample], batch.windows.sizes[0]
        where = tuple(slice(first, first + cells) for first, cells in zip(start, size, strict=True))
        full = torch.zeros(10, 12, 14, dtype=torch.uint8)
        full[:s, :h, :w] = label
        for k in (1, 2):
            assert torch.equal(batch.target[sample, k - 1], (full[where] == k).float())
        assert batch.valid[sample].all()  # windows keep off the padding
    again = training.batch(0, 1, [0])
    assert torch.equal(again.target[0], batch.target[1])  # of the place in the epoch alone


def _predict(run: Path, source: Path, target: Path, **options: object) -> np.ndarray:
    predict(PredictConfig(run, source, target, progress=False, overlay=False, **options))  # type: ignore[arg-type]
    return np.asarray(nib.load(target).dataobj)


@pytest.mark.parametrize("axes", ["LPS", "SAL"])
def test_a_turned_image_gets_the_turned_prediction_and_maps(run, tmp_path, axes):
    image, _ = blob((9, 13, 7), seed=8)
    plain = nib.Nifti1Image(image, affine_of("RAS", (1.0, 1.5, 3.0)))
    ornt = nib.orientations.axcodes2ornt
    turn = nib.orientations.ornt_transform(ornt("RAS"), ornt(axes))
    nib.save(plain, tmp_path / "plain.nii.gz")
    nib.save(plain.as_reoriented(turn), tmp_path / "turned.nii")
    options = {"uncertainty": True, "runs": 3, "last_steps": 2}
    expected = _predict(run, tmp_path / "plain.nii.gz", tmp_path / "p" / "p.nii.gz", **options)
    assert 10 < expected.sum() < expected.size / 2
    found = _predict(run, tmp_path / "turned.nii", tmp_path / "t" / "t.nii", **options)
    np.testing.assert_array_equal(found, nib.orientations.apply_orientation(expected, turn))
    for kind in ("runs", "steps"):
        one = nib.load(tmp_path / "p" / "p-uncertainty" / f"p_{kind}.nii.gz")
        other = nib.load(tmp_path / "t" / "t-uncertainty" / f"t_{kind}.nii.gz")
        turned = nib.orientations.apply_orientation(np.asarray(one.dataobj), turn)
        assert turned.max() > 1e-4
        np.testing.assert_array_equal(np.asarray(other.dataobj), turned)
        np.testing.assert_array_equal(other.affine, nib.load(tmp_path / "turned.nii").affine)
        assert other.get_data_dtype() == np.float32


def test_a_volume_too_thin_is_named(run, data, tmp_path, capsys):
    thin, label = blob((9, 12, 2), seed=8)
    write(tmp_path / "in" / "thin.nii.gz", thin)
    write(tmp_path / "in" / "good.nii.gz", blob((9, 12, 9), seed=8)[0])
    done = predict(PredictConfig(run, tmp_path / "in", tmp_path / "o", progress=False))
    (skipped,) = done.skipped
    assert "thin.nii.gz: has 9x12x2 voxels, and this 3-D model needs 3 along each side" in skipped.reason
    assert [item.image.name for item in done.written] == ["good.nii.gz"]
    with pytest.raises(ValueError, match="needs 3 along each side"):
        predict(PredictConfig(run, tmp_path / "in" / "thin.nii.gz", tmp_path / "o", progress=False))

    for number in range(2):
        image, truth = blob((9, 10, 9), seed=number)
        write(tmp_path / "d" / f"c{number}_image.nii.gz", image)
        write(tmp_path / "d" / f"c{number}_seg.nii.gz", truth)
    write(tmp_path / "d" / "thin_image.nii.gz", thin)
    write(tmp_path / "d" / "thin_seg.nii.gz", label)
    result = train(tiny3(tmp_path / "d", tmp_path / "run", epochs=1, pictures=0))
    assert [item.path.name for item in result.skipped] == ["thin_image.nii.gz"]
    assert "skipped:" in capsys.readouterr().out


def test_least_sides_is_the_least_that_runs():
    for arguments in (
        {"kernel_size": 7},
        {"levels": 3, "kernel_size": 5},
        {"kernel_size": [3, 7]},
        {"scale_factor": 3},
    ):
        options = {"steps": 1, "hidden_size": 4, "scale_factor": 2, "channel_n": 3}
        model = M3DNCA(**(options | arguments))
        least = least_sides(model)
        model(torch.rand(1, least, 20, 20, 1))
        with pytest.raises(ValueError, match="spatial axis 0"):
            model(torch.rand(1, least - 1, 20, 20, 1))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dims": 4}, "dims=4 is not allowed; choose from 2, 3"),
        ({"levels": 0}, "levels=0 is not allowed"),
        ({"dims": 2, "levels": 3}, "levels=3 is not allowed with dims=2"),
        ({"levels": 30}, "levels=30 is not allowed"),
        ({"levels": 7, "scale": 4}, "scale=4 with levels=7 is not allowed"),
        (
            {"kernel_sizes": (3, 3, 3)},
            r"kernel_sizes=\(3, 3, 3\) is not allowed; give 2 numbers, one per level, the coarsest first",
        ),
        ({"kernel_sizes": (4, 3)}, "kernel_size=4 is even"),
        ({"steps": (3,)}, r"steps=\(3,\) is not allowed; give 2 numbers, one per level, the coarsest first"),
        ({"crop": 0}, "crop=0"),
        ({"crop": 1}, "crop=1 is not allowed; kernels of 3 need cubes with a side from 2"),
        ({"crop": 2, "kernel_sizes": (3, 5)}, "crop=2 is not allowed; kernels of 5 need cubes with a side from 3"),
        ({"fire_rate": 1.5}, "fire_rate=1.5 is not allowed"),
        ({"classes": (9,)}, "the value 9"),
    ],
)
def test_wrong_options_are_refused(data, tmp_path, options, reason):
    with pytest.raises(ValueError, match=reason) as error:
        train(tiny3(data, tmp_path / "run", **options))
    assert "\n" not in str(error.value)


def test_unusable_files_are_skipped_as_in_2d(tmp_path):
    data = write_set(tmp_path / "data", 5)
    (data / "imagesTr" / "case_1.nii.gz").write_bytes(b"\x1f\x8bjunk")
    image, label = blob(seed=2)
    write(data / "labelsTr" / "case_2.nii.gz", np.stack([label, label], -1))
    write(data / "imagesTr" / "case_3.nii.gz", np.full((11, 12, 9), np.nan, np.float32))
    pairs, _ = find_pairs(data / "imagesTr", data / "labelsTr")
    volumes, skipped = load_volumes(
        pairs, Recipe("axial"), TrainConfig(cache=tmp_path / "cache", progress=False), least=7
    )
    assert [volume.name for volume in volumes] == ["case_0", "case_4"]
    for item, part in zip(skipped, ("truncated or corrupt", "must be one 3-D volume", "NaN"), strict=True):
        assert part in item.reason
