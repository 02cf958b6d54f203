"""The demo: its comparison is fair, its baselines are right, and a quick run leaves every file it promises."""

from __future__ import annotations

import contextlib
import io
import json

import imageio.v3 as iio
import nibabel as nib
import numpy as np
import pytest
import torch
from nilearn import datasets

import ncafast
from ncafast import backends, cli
from ncafast.models import MedNCA
from ncafast.tasks.demo import baselines, brain, summary
from ncafast.tasks.demo.brain import HELD_OUT


def synthetic(seed: int = 0) -> brain.Brain:
    """Noise with brighter white matter, in the template's shape and grey levels."""
    rng = np.random.default_rng(seed)
    white = rng.random((197, 233, 189)) < 0.3
    levels = (rng.integers(0, 200, white.shape) + 50 * white).astype(np.float32) / 255
    return brain.Brain(nib.Nifti1Image(levels, np.eye(4)), white, brain.QUICK_BLOCKS)


def test_best_threshold_is_the_best_of_all_and_chosen_on_training_slices():
    data = synthetic()
    found = baselines.best_threshold(data)
    image = np.concatenate([data.intensities(name).ravel() for name in data.training])
    white = np.concatenate([data.truth(name).ravel() for name in data.training])

    def dice(threshold):
        above = image > threshold
        return 2 * (above & white).sum() / (above.sum() + white.sum())

    assert dice(found) == max(dice((level + 0.5) / 255) for level in range(250))
    held_out = data.intensities(HELD_OUT) > found
    truth = data.truth(HELD_OUT)
    expected = 2 * (held_out & truth).sum() / (held_out.sum() + truth.sum())
    assert baselines.threshold_dice(data, found) == pytest.approx(expected, abs=1e-6)


def test_copying_neighbours_takes_the_nearest_training_slice():
    data = synthetic()
    start, stop = data.blocks[HELD_OUT]
    back, front = data.blocks["back"][1] - 1, data.blocks["front"][0]
    assert baselines.copy_dice(data) < 0.5  # noise: neighbours know nothing
    for y in range(start, stop):
        data.white[:, y] = data.white[:, back if y - back <= front - y else front]
    assert baselines.copy_dice(data) == 1.0


@pytest.mark.parametrize("blocks", [brain.BLOCKS, brain.QUICK_BLOCKS])
def test_no_training_slice_is_near_a_held_out_one(blocks):
    start, stop = blocks[HELD_OUT]
    for name, (first, last) in blocks.items():
        assert last > first
        if name != HELD_OUT:
            assert last <= start - brain.GAP or first >= stop + brain.GAP


def test_volumes_lie_where_the_template_has_them(tmp_path):
    data = brain.load(quick=True)
    assert brain.write_volumes(data, tmp_path).read_text().split() == [brain.WATCHED]
    in_training = {path.name for path in (tmp_path / "imagesTr").iterdir()}
    assert in_training == {f"{name}.nii.gz" for name in (*data.training, brain.WATCHED)}
    template = datasets.load_mni152_template(resolution=1)
    white = datasets.load_mni152_wm_template(resolution=1).get_fdata() > 0.5
    outside = template.get_fdata() > 0
    for name in data.blocks:
        part = "Ts" if name == HELD_OUT else "Tr"
        image = nib.load(tmp_path / f"images{part}" / f"{name}.nii.gz")
        label = nib.load(tmp_path / f"labels{part}" / f"{name}.nii.gz")
        corner = np.linalg.inv(template.affine) @ image.affine @ [0, 0, 0, 1]
        x, y, z = corner[:3].round().astype(int)
        where = tuple(slice(o, o + n) for o, n in zip((x, y, z), image.shape, strict=True))
        np.testing.assert_allclose(image.get_fdata(), template.get_fdata()[where], atol=1e-6)
        assert np.array_equal(label.get_fdata() > 0, white[where])
        assert np.array_equal(label.affine, image.affine)
        outside[:, slice(*data.blocks[name])][x : x + image.shape[0], :, z : z + image.shape[2]] = False
        assert not outside[:, slice(*data.blocks[name])].any()  # no brain is cut off


def test_epochs_below_one_are_refused(tmp_path, capsys):
    assert cli.main(["demo", "--epochs", "0", "--output", str(tmp_path / "out")]) == 1
    assert "epochs=0 is not allowed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("precious")
    assert cli.main(["demo", "--quick", "--output", str(tmp_path)]) == 1
    assert "not from this demo" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "mine.txt"]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Folder and printed text of a quick demo, run over the leavings of an earlier one."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    (folder / "training").mkdir(parents=True)
    (folder / "training" / "last.safetensors").write_text("from an earlier demo")
    (folder / "data" / "imagesTr").mkdir(parents=True)
    (folder / "data" / "imagesTr" / "old.nii.gz").write_text("from an earlier demo")
    (folder / "training" / "evaluation").mkdir()
    (folder / "training" / "evaluation" / "scores.csv").write_text("of the earlier model")
    (folder / ".ncafast-demo").touch()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = cli.main(["demo", "--quick", "--no-progress", "--seed", "5", "--output", str(folder)])
    assert code == 0
    return folder, printed.getvalue()


def test_quick_demo_leaves_the_promised_files(quick):
    folder, _ = quick
    assert set(summary.FILES) <= {path.name for path in folder.iterdir()}
    assert not list(folder.rglob("old.nii.gz"))
    assert (folder / "training" / "evaluation" / "scores.csv").read_text() == "of the earlier model"
    assert "epoch 2: loss" in (folder / "training" / "log.txt").read_text()


def test_quick_demo_segmentation_is_in_the_templates_space(quick):
    folder, _ = quick
    facts = json.loads((folder / "summary.json").read_text())
    found = nib.load(folder / "white-matter.nii.gz")
    template = datasets.load_mni152_template(resolution=1)
    assert found.shape == template.shape
    assert np.array_equal(found.affine, template.affine)
    voxels = np.asarray(found.dataobj)
    assert set(np.unique(voxels)) == {0, 1}
    start, stop = facts["held_out_slices"]
    assert voxels[:, start:stop].any(axis=(0, 2)).all()
    assert not voxels[:, :start].any() and not voxels[:, stop:].any()
    truth = datasets.load_mni152_wm_template(resolution=1).get_fdata()[:, start:stop] > 0.5
    ours = voxels[:, start:stop] > 0
    dice = 2 * (ours & truth).sum() / (ours.sum() + truth.sum())
    assert facts["dice"] == pytest.approx(dice, abs=1e-6)
    assert facts["dice"] > 0.5  # it has learned something


def test_quick_demo_summary_is_complete_and_consistent(quick):
    folder, printed = quick
    facts = json.loads((folder / "summary.json").read_text())
    for name in ("dice", "threshold_dice", "copy_dice", "iou"):
        assert 0 < facts[name] < 1
    assert facts["iou"] == pytest.approx(facts["dice"] / (2 - facts["dice"]), abs=1e-5)
    assert facts["speedup_train"] == pytest.approx(facts["ms_per_step_eager"] / facts["ms_per_step"])
    assert facts["memory_ratio"] == pytest.approx(facts["memory_mib_eager"] / facts["memory_mib"])
    assert facts["speedup_forward"] is None or facts["speedup_forward"] > 0  # None on a busy machine
    assert facts["hd95_mm"] > 0
    assert facts["backend"] in backends.names()
    assert facts["versions"]["torch"] == torch.__version__
    assert (facts["seed"], facts["quick"], facts["epochs"]) == (5, True, 2)
    *parts, total = facts["seconds"].values()
    assert total == pytest.approx(sum(parts), abs=0.5)
    for text in (f"{facts['dice']:.3f}", f"{facts['threshold_dice']:.3f}", facts["backend"]):
        assert text in printed
    assert f"{facts['speedup_train']:.2f}x as fast" in printed
    assert all(name in printed for name in summary.FILES)


def test_quick_demo_pictures_can_be_seen(quick):
    folder, _ = quick
    for name in ("overlay.png", "curves.png"):
        picture = iio.imread(folder / name)
        assert picture.ndim == 3 and min(picture.shape[:2]) > 300
        assert len(np.unique(picture)) > 20
    frames = iio.imread(folder / "automaton.gif")
    model = ncafast.load(folder / "model.safetensors")
    assert isinstance(model, MedNCA)
    assert frames.shape[0] == sum(model.steps)
    assert (frames[0] != frames[-1]).any()


def test_progress_is_drawn_from_held_out_slices(tmp_path):
    data = brain.load(quick=True)
    brain.write_volumes(data, tmp_path)
    sample = nib.load(tmp_path / "imagesTr" / f"{brain.WATCHED}.nii.gz")
    whole = nib.load(tmp_path / "imagesTs" / f"{HELD_OUT}.nii.gz")
    assert np.array_equal(sample.get_fdata(), whole.get_fdata()[:, :: brain.WATCHED_EVERY])
    assert sample.header.get_zooms() == (1.0, brain.WATCHED_EVERY, 1.0)
    labels = nib.load(tmp_path / "labelsTr" / f"{brain.WATCHED}.nii.gz").get_fdata() > 0
    assert np.array_equal(labels, data.truth(HELD_OUT)[:, :: brain.WATCHED_EVERY])
