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
from scipy import ndimage
from scipy.stats import norm

import ncafast
from ncafast import backends, cli
from ncafast.models import MedNCA
from ncafast.tasks.demo import baselines, brain, summary
from ncafast.tasks.demo.brain import HELD_OUT


def scan(seed: int, slices: int = 5) -> brain.Scan:
    """Noise in which white matter is one range of intensities, with a little of everything on either side."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 128, (24, slices, 20)) / 128 + 1 / 256
    white = (image > 0.4) & (image < 0.8) & (rng.random(image.shape) < 0.9)
    return brain.Scan(image.astype(np.float32), white)


def dice(found, truth):
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


@pytest.mark.parametrize("one_sided", [True, False])
def test_best_range_is_the_best_of_all(one_sided):
    drawn = scan(0)
    low, high, score = baselines.best_range(drawn.image, drawn.white, one_sided)
    inside = (drawn.image >= low) & (drawn.image <= high)
    assert score == pytest.approx(dice(inside, drawn.white))
    levels = np.arange(0, 129, 4) / 128
    ends = [1.0] if one_sided else levels
    every = [dice((drawn.image > a) & (drawn.image < b), drawn.white) for a in levels for b in ends if b > a]
    assert score >= max(every)
    assert score == pytest.approx(max(every), abs=0.03)


def test_baselines_are_fitted_to_training_slices_and_do_what_they_say():
    training = {"back-0": scan(1, 6), "front-0": scan(2, 3)}
    data = brain.Brain(training, scan(3, 4), brain.QUICK_BLOCKS)
    found = baselines.masks(data)
    assert all(mask.shape == data.held_out.white.shape for mask in found.values())
    low, _, _ = baselines.best_range(data.stacked().image, data.stacked().white, one_sided=True)
    assert np.array_equal(found[baselines.THRESHOLD], data.held_out.image > low)
    position = found["position alone"]
    assert (position == position[:, :1]).all()  # every slice alike
    likely, _, _ = baselines.best_range(data.stacked().image, data.stacked().white)
    largest = found["best range, largest component"]
    for index in range(4):
        _, count = ndimage.label(largest[:, index])
        assert count == 1
    assert not (largest & (data.held_out.image < likely)).any()
    values, white = data.stacked().image, data.stacked().white
    odds = norm.logpdf(data.held_out.image, values[white].mean(), values[white].std()) + np.log(white.mean())
    odds -= norm.logpdf(data.held_out.image, values[~white].mean(), values[~white].std()) + np.log(1 - white.mean())
    differ = found["Gaussian classifier of intensity"] != (odds > 0)
    assert np.abs(odds[differ]).max(initial=0) < 1e-4
    held_out = np.zeros_like(data.held_out.white)
    other = brain.Brain(training, brain.Scan(data.held_out.image, held_out), brain.QUICK_BLOCKS)
    for name, mask in baselines.masks(other).items():  # the held-out truth is never looked at
        assert np.array_equal(mask, found[name])


def test_every_baseline_stays_below_what_the_demo_promises(monkeypatch):
    monkeypatch.setattr(brain, "DRAWS", 2)
    data = brain.load(seed=3)
    for name, mask in baselines.masks(data).items():
        assert 0.5 < dice(mask, data.held_out.white) < 0.75, name


@pytest.mark.parametrize("blocks", [brain.BLOCKS, brain.QUICK_BLOCKS])
def test_no_training_slice_is_near_a_held_out_one(blocks):
    start, stop = blocks[HELD_OUT]
    for name, (first, last) in blocks.items():
        assert last > first
        if name != HELD_OUT:
            assert last <= start - brain.GAP or first >= stop + brain.GAP


def test_a_slice_without_pose_shading_and_noise_is_the_templates_own(monkeypatch):
    for name, value in {"TURN": 0, "SHIFT": 0, "SCALE": 1, "SHADE": 1, "NOISE": 0}.items():
        monkeypatch.setattr(brain, name, value)
    image = datasets.load_mni152_template(resolution=1).get_fdata(dtype=np.float32)
    white = datasets.load_mni152_wm_template(resolution=1).get_fdata(dtype=np.float32)
    drawn = brain.draw(image, white, range(110, 116, 3), np.random.default_rng(0))
    x, z = (round(centre) - brain.SIDE // 2 for centre in brain.CENTRE)
    for index, y in enumerate((110, 113)):
        bottom = -z  # the template ends below the window's middle by less than half the window
        np.testing.assert_allclose(drawn.image[:, index, bottom:], image[x : x + 176, y, : 176 - bottom], atol=1e-6)
        assert np.array_equal(drawn.white[:, index, bottom:], white[x : x + 176, y, : 176 - bottom] > 0.5)
        assert not drawn.image[:, index, :bottom].any()
        assert not image[:x, y].any() and not image[x + 176 :, y].any()  # no brain is cut off


def test_shading_falls_to_a_third_and_noise_is_as_stated():
    air, flat = np.zeros((197, 1, 189), np.float32), np.ones((197, 1, 189), np.float32)
    rng = np.random.default_rng(0)
    drawn = brain.draw(air, air, range(1), rng).image
    assert (drawn**2).mean() == pytest.approx(2 * brain.NOISE**2, rel=0.02)  # Rayleigh
    shades = [brain._shading(rng) for _ in range(50)]
    assert all(shade.min() > 0.2 and shade.max() <= 3**0.25 for shade in shades)
    assert all(shade.max() / shade.min() > 2.9 for shade in shades)
    middle = brain.draw(flat, air, range(1), rng).image[80:96, 0, 80:96]
    assert middle.mean() == pytest.approx(3**-0.5, rel=0.05)


def test_seeds_draw_other_scans_and_the_same_seed_the_same():
    first, again, other = brain.load(4, quick=True), brain.load(4, quick=True), brain.load(5, quick=True)
    assert np.array_equal(first.held_out.image, again.held_out.image)
    assert not np.array_equal(first.held_out.image, other.held_out.image)


def test_epochs_below_one_are_refused(tmp_path, capsys):
    assert cli.main(["demo", "--epochs", "0", "--output", str(tmp_path / "out")]) == 1
    assert "epochs=0 is not allowed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_threads_are_those_of_the_option_and_are_given_back(tmp_path, monkeypatch):
    seen, before = [], torch.get_num_threads()

    def look(seed, quick):
        seen.append(torch.get_num_threads())
        raise ValueError("seen enough")

    monkeypatch.setattr(brain, "load", look)
    assert cli.main(["demo", "--quick", "--threads", "3", "--output", str(tmp_path / "out")]) == 1
    assert (seen, torch.get_num_threads()) == ([3], before)


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


def test_quick_demo_segments_the_held_out_slices(quick):
    folder, _ = quick
    facts = json.loads((folder / "summary.json").read_text())
    found = np.asarray(nib.load(folder / "white-matter.nii.gz").dataobj)
    truth = np.asarray(nib.load(folder / "data" / "labelsTs" / f"{HELD_OUT}.nii.gz").dataobj)
    image = np.asarray(nib.load(folder / "data" / "imagesTs" / f"{HELD_OUT}.nii.gz").dataobj)
    data = brain.load(seed=5, quick=True)
    assert np.array_equal(truth > 0, data.held_out.white)
    np.testing.assert_array_equal(image, data.held_out.image)
    assert set(np.unique(found)) == {0, 1}
    assert facts["dice"] == pytest.approx(dice(found > 0, truth > 0), abs=1e-6)
    assert facts["dice"] > 0.5  # it has learned something


def test_quick_demo_summary_is_complete_and_consistent(quick):
    folder, printed = quick
    facts = json.loads((folder / "summary.json").read_text())
    assert len(facts["baselines"]) == 5
    for name, score in facts["baselines"].items():
        assert 0 < score < 1
        assert f"{'  ' + name:<40} {score:.3f}" in printed
    assert facts["speedup_train"] == pytest.approx(facts["ms_per_step_eager"] / facts["ms_per_step"])
    assert facts["memory_ratio"] == pytest.approx(facts["memory_mib_eager"] / facts["memory_mib"])
    assert facts["speedup_forward"] is None or facts["speedup_forward"] > 0  # None on a busy machine
    assert facts["backend"] in backends.names()
    assert facts["versions"]["torch"] == torch.__version__
    assert (facts["seed"], facts["quick"], facts["epochs"]) == (5, True, 2)
    *parts, total = facts["seconds"].values()
    assert total == pytest.approx(sum(parts), abs=0.5)
    for text in (f"{facts['dice']:.3f}", facts["backend"]):
        assert text in printed
    assert f"{facts['speedup_train']:.2f}x as fast" in printed
    assert all(name in printed for name in summary.FILES)


def test_quick_demo_pictures_can_be_seen(quick):
    folder, _ = quick
    for name in ("comparison.png", "curves.png"):
        picture = iio.imread(folder / name)
        assert picture.ndim == 3 and min(picture.shape[:2]) > 300
        assert len(np.unique(picture)) > 20
    frames = iio.imread(folder / "automaton.gif")
    model = ncafast.load(folder / "model.safetensors")
    assert isinstance(model, MedNCA)
    assert frames.shape[0] == sum(model.steps)
    assert (frames[0] != frames[-1]).any()


def test_progress_is_drawn_from_held_out_slices(tmp_path):
    data = brain.load(seed=0, quick=True)
    assert brain.write_volumes(data, tmp_path).read_text().split() == [brain.WATCHED]
    in_training = {path.name for path in (tmp_path / "imagesTr").iterdir()}
    assert in_training == {f"{name}.nii.gz" for name in (*data.training, brain.WATCHED)}
    sample = nib.load(tmp_path / "imagesTr" / f"{brain.WATCHED}.nii.gz")
    whole = nib.load(tmp_path / "imagesTs" / f"{HELD_OUT}.nii.gz")
    assert np.array_equal(sample.get_fdata(), whole.get_fdata()[:, :: brain.WATCHED_EVERY])
    labels = nib.load(tmp_path / "labelsTr" / f"{brain.WATCHED}.nii.gz").get_fdata() > 0
    assert np.array_equal(labels, data.held_out.white[:, :: brain.WATCHED_EVERY])
