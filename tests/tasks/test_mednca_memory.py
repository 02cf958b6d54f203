"""Segmenting in little memory: what does not fit is refused in one line before it is read, the rest goes in parts."""

from __future__ import annotations

import dataclasses
import os
import re
from functools import partial

import imageio.v3 as iio
import nibabel as nib
import numpy as np
import pytest
from nifti import affine_of, blob, tiny, write, write_set

from ncafast import cli
from ncafast.free_memory import Free
from ncafast.models import MedNCA, memory
from ncafast.models.memory import cascade_bytes, fitting_batch
from ncafast.tasks.mednca import (
    EvaluateConfig,
    PredictConfig,
    evaluate,
    fitting,
    lazy_prediction,
    predict,
    tiled,
    train,
)
from ncafast.volume import cascade_tiled


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A 2-D and a 3-D run by the number of their dimensions."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_set(folder / "data", 4)
    for dims in (2, 3):
        train(tiny(data, folder / str(dims), epochs=1, predict_batch=4, dims=dims, levels=2))
    return folder


def free(monkeypatch, count):
    monkeypatch.setattr(memory, "free_memory", lambda device: Free(count, "available"))


def test_a_training_that_does_not_fit_is_refused_before_it_starts(tmp_path, monkeypatch, capfd):
    data = write_set(tmp_path / "data", 4)
    config = tiny(data, tmp_path / "run", dims=3, levels=2, batch_size=4, device="cpu")
    monkeypatch.setattr(fitting, "training_bytes", lambda model, batch, *_: batch * 10**15)
    said = r"^a training step on 4 x 10x12x14 cells needs 4000000 GB, and \d.* GB is .*; "
    with pytest.raises(
        MemoryError,
        match=said + r"--batch-size 1 with --memory sqrt needs 1000000 GB, --spill FOLDER goes in tiles that fit$",
    ):
        train(config)
    train(dataclasses.replace(config, spill=str(tmp_path), output=tmp_path / "spilled"))
    monkeypatch.undo()
    free(monkeypatch, 10_000)
    with pytest.raises(
        MemoryError, match=r"^held-out volume case_\d: segmenting .* cells needs .* MB, and 0\.0 MB is avail"
    ):
        train(config)
    assert not (tmp_path / "run" / "history.csv").exists()
    words = [
        "train",
        "mednca",
        "--dims",
        "3",
        "--data",
        str(data),
        "--output",
        str(tmp_path / "other"),
        "--no-progress",
    ]
    assert cli.main([*words, "--device", "cpu"]) == 1
    assert capfd.readouterr().err.count("\n") == 1


def test_as_many_images_as_fit_are_taken_and_none_is_refused(monkeypatch):
    model = MedNCA()
    each = cascade_bytes(model, 1, (64, 64))
    free(monkeypatch, 3 * each)
    assert fitting_batch(model, 16, (64, 64)) == 3
    assert fitting_batch(model, 2, (64, 64)) == 2
    free(monkeypatch, each // 2)
    with pytest.raises(
        MemoryError, match=r"^segmenting 64x64 cells needs 0\.\d MB, and 0\.\d MB is available; what fits: 45x45 "
    ):
        fitting_batch(model, 16, (64, 64))


def test_slices_go_in_smaller_groups_where_memory_ends_and_a_note_says_so(runs, tmp_path, monkeypatch, capsys):
    image, _ = blob((9, 13, 7), seed=8)
    source = write(tmp_path / "a.nii.gz", image)
    predict(PredictConfig(runs / "2", source, tmp_path / "all.nii", progress=False, overlay=False))
    assert "at a time" not in capsys.readouterr().out
    monkeypatch.setattr("ncafast.tasks.mednca.inference.fitting_batch", lambda model, most, size: min(most, 3))
    done = predict(PredictConfig(runs / "2", source, tmp_path / "few.nii", progress=False, overlay=False))
    said = "note: 3 slices at a time fit into memory and not 4, which changes the result a little"
    assert capsys.readouterr().out.count(said) == 1
    few, all_ = (np.asarray(nib.load(tmp_path / name).dataobj) for name in ("few.nii", "all.nii"))
    assert few.shape == image.shape
    assert few.any() == all_.any()
    assert done.written[0].voxels[1] == few.sum()


def test_a_volume_too_large_for_tiles_is_refused_in_one_line_before_it_is_read(runs, tmp_path, monkeypatch, capfd):
    image, label = blob((20, 21, 22), seed=8)
    source = write(tmp_path / "images" / "a.nii.gz", image)
    write(tmp_path / "labels" / "a.nii.gz", label)
    free(monkeypatch, 10_000)
    monkeypatch.setattr("ncafast.nifti.read_voxels", lambda *_: pytest.fail("was read"))
    model = ["--model", str(runs / "3"), "--no-progress", "--memory-limit", "1MB"]
    assert cli.main(["predict", "mednca", *model, "--input", str(source), "--output", str(tmp_path / "out.nii")]) == 1
    assert cli.main(["evaluate", "mednca", *model, "--data", str(tmp_path), "--output", str(tmp_path / "e")]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(f"ncafast: error: {source}: tiles of ")
        assert "MB, and 0.0 MB may be used; raise memory_limit" in line
    assert not (tmp_path / "out.nii").exists()
    words = [
        "animate",
        "mednca",
        "--model",
        str(runs / "3"),
        "--input",
        str(source),
        "--output",
        str(tmp_path / "a.gif"),
    ]
    assert cli.main(words) == 1
    said = f"ncafast: error: {source}: segmenting 22x20x21 cells needs .* MB, and 0.0 MB is available; what fits: "
    assert re.match(said, capfd.readouterr().err)


@pytest.fixture
def little_memory(monkeypatch):
    """Nothing fits as a whole, and tiles are smaller than any image here."""
    free(monkeypatch, 10_000)
    for module in (tiled, lazy_prediction):
        monkeypatch.setattr(module, "cascade_tiled", partial(cascade_tiled, tile=9))


IN_TILES = r"note: segmenting 2\dx.* cells needs .* MB, and 0.0 MB is available; it runs in tiles, with its states in "


@pytest.mark.parametrize("dims, runs_, ending", [(2, 1, "nii"), (3, 1, "nii.gz"), (2, 2, "nii.gz"), (3, 2, "nii")])
def test_what_does_not_fit_goes_in_tiles_to_the_same_labels(dims, runs_, ending, runs, tmp_path, request, capsys):
    image, _ = blob((20, 21, 22), seed=8)
    source = write(tmp_path / f"a.{ending}", np.stack([image, -image], -1), affine_of("PSL", (1.0, 1.5, 3.0)))
    config = PredictConfig(runs / str(dims), source, tmp_path / "whole.nii", progress=False, runs=runs_, channels=(1,))
    done = predict(config).written[0]
    capsys.readouterr()
    request.getfixturevalue("little_memory")
    found = predict(dataclasses.replace(config, output=tmp_path / "tiled.nii")).written[0]
    assert len(re.findall(IN_TILES, capsys.readouterr().out)) == 1
    whole, parts = (np.asarray(nib.load(tmp_path / name).dataobj) for name in ("whole.nii", "tiled.nii"))
    assert np.array_equal(whole, parts) and 0 < whole.sum() < whole.size
    assert found.voxels == done.voxels
    drawn = [iio.imread(tmp_path / name) for name in ("whole.png", "tiled.png")]
    assert np.array_equal(drawn[0][90:], drawn[1][90:])  # but for the title
    names = {f"a.{ending}", "tiled.nii", "tiled.png", "whole.nii", "whole.png"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_scores_of_what_goes_in_tiles_are_the_same(runs, tmp_path, request, capsys):
    image, label = blob((20, 21, 22), seed=8)
    source = write(tmp_path / "images" / "a.nii.gz", image)
    write(tmp_path / "labels" / "a.nii.gz", label)
    config = EvaluateConfig(runs / "3", tmp_path, runs=2, output=tmp_path / "e1", progress=False)
    rows = evaluate(config).rows
    request.getfixturevalue("little_memory")
    for row, want in zip(evaluate(dataclasses.replace(config, output=tmp_path / "e2")).rows, rows, strict=True):
        assert row | {"nqm": pytest.approx(want["nqm"])} == want
    assert re.search(IN_TILES, capsys.readouterr().out)
    with pytest.raises(ValueError, match="a.nii.gz: what the last steps say is not kept in tiles"):
        predict(PredictConfig(runs / "3", source, tmp_path / "u.nii", uncertainty=True, progress=False))


def test_a_volume_whose_slices_fit_but_not_all_of_them_stays_on_disk(runs, tmp_path, monkeypatch, capsys):
    image, _ = blob((20, 21, 22), seed=8)
    source = write(tmp_path / "a.nii.gz", image)
    config = PredictConfig(runs / "2", source, tmp_path / "whole.nii", progress=False, overlay=False)
    predict(config)
    monkeypatch.setattr("ncafast.tasks.mednca.inference.read_bytes", lambda *_: 10**15)
    monkeypatch.setattr("ncafast.nifti.read_voxels", lambda *_: pytest.fail("was read"))
    predict(dataclasses.replace(config, output=tmp_path / "parts.nii"))
    assert "note: segmenting 20x21x22 voxels at once needs 1000000 GB" in capsys.readouterr().out
    whole, parts = (np.asarray(nib.load(tmp_path / name).dataobj) for name in ("whole.nii", "parts.nii"))
    assert np.array_equal(whole, parts)


def test_a_file_that_is_cut_short_while_it_stays_on_disk(runs, tmp_path, little_memory):
    image, _ = blob((20, 21, 22), seed=8)
    source = write(tmp_path / "a.nii", image)
    for length in (5000, 500):
        os.truncate(source, length)
        with pytest.raises(ValueError, match="a.nii: is truncated or corrupt"):
            predict(PredictConfig(runs / "3", source, tmp_path / "out.nii", progress=False))
    packed = write(tmp_path / "b.nii.gz", image)
    packed.write_bytes(packed.read_bytes()[:-400])
    with pytest.raises(ValueError, match="b.nii.gz: is truncated or corrupt"):
        predict(PredictConfig(runs / "3", packed, tmp_path / "out.nii", progress=False))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii", "b.nii.gz"]


def test_a_file_too_large_to_be_read_is_refused_before_its_voxels_are_asked_for(runs, tmp_path, capfd):
    source = write(tmp_path / "a.nii", np.zeros((4, 4, 4), np.int16))
    words = ["predict", "mednca", "--model", str(runs / "2"), "--no-progress"]
    words += ["--input", str(source), "--output", str(tmp_path / "o.nii")]
    assert cli.main([*words, "--memory-limit", "1kB"]) == 1
    assert capfd.readouterr().err.count("\n") == 1
    assert cli.main([*words, "--memory-limit", "much"]) == 1
    said = "ncafast: error: memory_limit='much' is not allowed; give a size such as 6GB, 512MB or 1.5GiB\n"
    assert capfd.readouterr().err == said
