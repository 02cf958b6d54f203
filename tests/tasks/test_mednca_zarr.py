"""Segmenting images in zarr stores: the labels of the same voxels in a NIfTI file, with the store's own axes."""

from __future__ import annotations

import dataclasses

import nibabel as nib
import numpy as np
import pytest
from nifti import blob, tiny, write, write_set

from ncafast.tasks.mednca import PredictConfig, lazy_prediction, predict, train, zarr_prediction
from ncafast.tasks.mednca.percentiles import percentiles
from ncafast.volume import cascade_tiled

zarr = pytest.importorskip("zarr")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A 2-D and a 3-D run by the number of their dimensions."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_set(folder / "data", 4)
    for dims in (2, 3):
        train(tiny(data, folder / str(dims), epochs=2, predict_batch=4, dims=dims, levels=2, lr=0.02))
    return folder


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles smaller than any image here."""

    def cut(*args, **options):
        return cascade_tiled(*args, tile=7, **options)

    monkeypatch.setattr(lazy_prediction, "cascade_tiled", cut)


def ngff(path, stored, axes, scale, version=2, **array):
    """An OME-NGFF image."""
    group = zarr.create_group(str(path), zarr_format=version)
    group.create_array("s0", data=stored, chunks=tuple(min(5, n) for n in stored.shape), **array)
    level = {"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": list(scale)}]}
    kinds = {"c": {"type": "channel"}, "t": {"type": "time"}}
    named = [{"name": a} | kinds.get(a, {"type": "space", "unit": "micrometer"}) for a in axes]
    scales = {"axes": named, "datasets": [level]}
    if version == 2:
        group.attrs["multiscales"] = [scales | {"version": "0.4"}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [scales]}
    return path


def segmented(run, source, target, **options):
    """What predict writes, as it was stored."""
    config = PredictConfig(run, source, target, progress=False, **({"overlay": False} | options))
    (written,) = predict(config).written
    if target.suffix == ".nii":
        return np.asarray(nib.load(target).dataobj), written
    return zarr.open(str(written.labels), mode="r"), written


@pytest.mark.parametrize("dims, axes, version", [(3, "zyx", 0), (2, "tczyx", 2), (3, "zcyx", 3)])
def test_a_store_gets_the_labels_of_a_nifti_file(dims, axes, version, runs, tmp_path, small_tiles):
    image, _ = blob((16, 13, 11), seed=5)
    want, item = segmented(runs / str(dims), write(tmp_path / "a.nii", image), tmp_path / "want.nii")
    stored = image.T[tuple(slice(None) if axis in "zyx" else None for axis in axes)]
    source, target = tmp_path / "a.zarr", tmp_path / "new" / "labels.zarr"
    if version:
        scale = [0.5 * (n + 1) for n in range(len(axes))]
        ngff(source, stored, axes, scale, version)
    else:
        zarr.create_array(str(source), data=stored, chunks=(4, 5, 6))
    found, written = segmented(runs / str(dims), source, target)
    array = found["0"] if version else found
    assert array.shape == stored.shape and array.dtype == np.uint8
    np.testing.assert_array_equal(np.asarray(array[...]).reshape(image.T.shape), want.T)
    assert written.voxels == item.voxels and 0 < want.sum() < want.size
    assert sorted(path.name for path in target.parent.iterdir()) == ["labels.zarr"]
    if version:
        inside = found.attrs["ome"] if version == 3 else found.attrs
        (scales,) = inside["multiscales"]
        assert scales["name"] == "labels"
        assert [axis["name"] for axis in scales["axes"]] == list(axes)
        assert scales["datasets"] == [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}]
        assert inside["image-label"]["source"] == {"image": "../a.zarr"}


def test_a_flat_image_gets_a_picture_and_a_second_run_replaces_the_first(runs, tmp_path, monkeypatch, capsys):
    image, _ = blob((16, 13, 11), seed=5)
    counts = image[:, :, 5].clip(0).astype(np.uint16)
    want, _ = segmented(runs / "2", write(tmp_path / "a.nii", counts), tmp_path / "want.nii")
    source = tmp_path / "a.zarr"
    zarr.create_array(str(source), data=counts.T, chunks=(4, 4))
    monkeypatch.setattr(zarr_prediction, "_MOST_SIDE", 8)
    for _ in range(2):
        found, _ = segmented(runs / "2", source, tmp_path / "out", overlay=True)
        np.testing.assert_array_equal(found[...], want.T)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "a.zarr"]
    assert "note: the picture shows every 2th pixel" in capsys.readouterr().out


def test_percentiles_in_parts_are_those_of_all():
    random = np.random.default_rng(0)
    for numbers in (random.standard_normal(1001), random.integers(-3, 4, 50), [-0.0, 0.0, 1e-30, -1e30], [2.5]):
        numbers = np.array(numbers, np.float32)
        want = np.percentile(numbers, (0, 0.5, 33.3, 99.5, 100)).astype(np.float32)
        assert percentiles(lambda n=numbers: np.array_split(n, 3), (0, 0.5, 33.3, 99.5, 100)) == tuple(want)
    assert percentiles(lambda: [], (1, 2)) is None


def test_a_store_without_contrast_is_refused(runs, tmp_path):
    zarr.create_array(str(tmp_path / "a.zarr"), data=np.full((6, 7, 8), 3, np.int16), chunks=(4, 4, 4))
    with pytest.raises(ValueError, match=r"a\.zarr: has no contrast"):
        segmented(runs / "2", tmp_path / "a.zarr", tmp_path / "new.zarr")
    assert not (tmp_path / "new.zarr").exists()


def test_what_cannot_be_segmented_is_said_in_one_line_and_nothing_is_lost(runs, tmp_path):
    image, _ = blob((16, 13, 11), seed=5)
    good, bad = tmp_path / "good.zarr", tmp_path / "bad.zarr"
    zarr.create_array(str(good), data=image.T, chunks=(4, 5, 6), compressors=None)
    config = PredictConfig(runs / "3", good, tmp_path / "out.zarr", progress=False, overlay=False)
    predict(config)
    before = np.asarray(zarr.open(str(tmp_path / "out.zarr"), mode="r")[...])

    def refused(text, **options):
        with pytest.raises((ValueError, MemoryError), match=text) as caught:
            predict(dataclasses.replace(config, **options))
        assert "\n" not in str(caught.value)

    zarr.create_array(str(bad), data=image.T, chunks=(4, 5, 6), compressors=None)
    chunk = next(path for path in sorted(bad.rglob("*")) if path.is_file() and path.name != "zarr.json")
    chunk.write_bytes(chunk.read_bytes()[:100])
    refused("bad.zarr: is truncated or corrupt", input=bad)
    (bad / "zarr.json").write_text("{")
    refused("bad.zarr: is no readable zarr store", input=bad)
    zarr.create_group(str(tmp_path / "group.zarr"))
    refused("group.zarr: is a group without OME-NGFF's multiscales", input=tmp_path / "group.zarr")
    zarr.create_array(str(tmp_path / "four.zarr"), data=image[None], chunks=(1, 4, 5, 6))
    refused("four.zarr: is an array of 4 axes that nothing names", input=tmp_path / "four.zarr")
    ngff(tmp_path / "times.zarr", np.stack([image.T] * 2), "tzyx", (1, 1, 1, 1))
    refused("times.zarr: has 2 points in time", input=tmp_path / "times.zarr")
    zarr.create_array(str(tmp_path / "nan.zarr"), data=np.full((9, 9), np.nan, np.float32), chunks=(9, 9))
    refused("nan.zarr: 81 of its voxels near .* are NaN", input=tmp_path / "nan.zarr")
    refused("there is no such zarr store", input=tmp_path / "none.zarr")
    refused("would overwrite the image itself", output=good)
    refused("good.zarr exists and was not written by ncafast", output=good, input=tmp_path / "out.zarr")
    refused("--uncertainty is for NIfTI images", uncertainty=True)
    refused("--runs is for NIfTI images", runs=3)
    refused("has 1 channels, but .2. are wanted", channels=(2,))
    refused(r"^tiles of .* need .* may be used; raise memory_limit", memory_limit="1MB")
    refused("results are zarr stores where the image is one", input=write(tmp_path / "a.nii", image))
    np.testing.assert_array_equal(zarr.open(str(tmp_path / "out.zarr"), mode="r")[...], before)
    assert not list(tmp_path.glob(".ncafast*"))
