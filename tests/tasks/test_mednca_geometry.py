"""Where voxels lie: labels under --ignore-affine, headers that contradict themselves, and the choice of --geometry."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nifti import affine_of, blob, tiny, write, write_set

from ncafast.nifti import VolumeError, open_nifti
from ncafast.tasks.base import load
from ncafast.tasks.mednca import (
    AnimateConfig,
    EvaluateConfig,
    PredictConfig,
    TrainConfig,
    animate,
    evaluate,
    predict,
    train,
)
from ncafast.tasks.mednca.cache import prepare
from ncafast.tasks.mednca.data import doubts, load_volumes
from ncafast.tasks.mednca.geometry import contradictions
from ncafast.tasks.mednca.metrics import score
from ncafast.tasks.mednca.pairs import Pair, find_pairs
from ncafast.tasks.mednca.reading import read_matching_label, waivers
from ncafast.tasks.mednca.slices import Recipe, sharpest_axis
from ncafast.tasks.mednca.task import TASK
from ncafast.tasks.mednca.volumes import read_grid, read_image, read_label, write_map
from ncafast.tasks.repeats.config import fold_options
from ncafast.tasks.repeats.training import shared_options
from ncafast.train.results import claim

AXES = ["RAS", "LPS", "PSR", "SAL", "IRP"]
ONE, THICK = np.diag([-1.0, -1, 1, 1]), np.diag([-1.3, -1.3, 10, 1])


def write_forms(path: Path, data: np.ndarray, sform=None, qform=None, pixdim=None, **fields: object) -> Path:
    """A file with these affines, each with code 1 where it is given, then pixdim and other fields of the header."""
    image = nib.Nifti1Image(data, None)
    image.set_sform(sform, int(sform is not None))
    image.set_qform(qform, int(qform is not None))
    if pixdim is not None:
        image.header.set_zooms(pixdim)
    image.header["vox_offset"], image.header["scl_slope"], image.header["scl_inter"] = 352, 1, 0
    for name, value in fields.items():
        image.header[name] = value
    header, data = image.header.binaryblock, data.astype(image.get_data_dtype())
    content = header + bytes(4) + data.tobytes(order="F")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def acdc(folder: Path, count: int = 4) -> Path:
    """Volumes whose sform says 1 mm, and pixdim and qform 1.3 x 1.3 x 10 mm."""
    for number in range(count):
        image, label = blob((12, 14, 8), seed=number)
        write_forms(folder / "imagesTr" / f"case_{number}.nii.gz", image, ONE, THICK)
        write_forms(folder / "labelsTr" / f"case_{number}.nii.gz", label, ONE, THICK)
    return folder


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("other", ["eye", "far", "broken"])
def test_ignore_affine_joins_image_and_label_by_their_index(tmp_path, axes, other):
    image, label = blob((5, 6, 7), seed=3)
    volume = read_image(write(tmp_path / "image.nii.gz", image, affine_of(axes, (1.0, 2.0, 3.0))))
    affine = {"eye": np.eye(4), "far": affine_of(axes, (1.0, 2.0, 3.0)) + 50 * np.eye(4, k=3), "broken": np.eye(4)}
    path = write_forms(tmp_path / "label.nii.gz", label, affine[other])
    if other == "broken":
        path = write_forms(tmp_path / "label.nii.gz", label, None, np.eye(4), quatern_b=2.0)
    match = read_matching_label(volume, path, ignore_affine=True)
    turned = nib.as_closest_canonical(nib.Nifti1Image(label, affine_of(axes, (1.0, 2.0, 3.0))))
    np.testing.assert_array_equal(match.data[0], np.asarray(turned.dataobj))
    np.testing.assert_array_equal(read_label(path, position=volume.position).position.affine, volume.position.affine)
    assert match.waived == "moved"
    with pytest.raises(VolumeError) as error:
        read_matching_label(volume, path)
    assert "\n" not in str(error.value)
    assert other == "broken" or "the label then takes the image's affine" in str(error.value)


def test_ignore_affine_says_which_labels_it_changed(tmp_path):
    image, label = blob((6, 6, 6))
    pairs = []
    for name, affine in (("same", affine_of()), ("moved", np.eye(4)), ("turned", None)):
        write(tmp_path / "imagesTr" / f"{name}.nii.gz", image)
        stored = nib.Nifti1Image(label, affine_of() if affine is None else affine)
        if affine is None:
            stored = stored.as_reoriented(np.array([[0, -1], [1, 1], [2, 1]]))
        (tmp_path / "labelsTr").mkdir(exist_ok=True)
        nib.save(stored, tmp_path / "labelsTr" / f"{name}.nii.gz")
        pairs.append(Pair(name, tmp_path / "imagesTr" / f"{name}.nii.gz", tmp_path / "labelsTr" / f"{name}.nii.gz"))
    volumes = [prepare(pair, Recipe("axial"), tmp_path / "cache", ignore_affine=True) for pair in pairs]
    assert [volume.waived for volume in volumes] == ["", "moved", "turned"]
    moved, turned = doubts(volumes)
    assert moved.startswith("1 of 3 label maps lie elsewhere than their images, moved first; they take the affine")
    assert "store their axes otherwise, turned first" in turned and "leave it out" in turned
    assert not list(waivers({"same": ""}))
    left, (skipped,) = load_volumes(pairs, Recipe("axial"), TrainConfig(cache=tmp_path / "cache", progress=False))
    assert "lies" in skipped.reason and "--ignore-affine" in skipped.reason
    np.testing.assert_array_equal(left[1].read(0)[1], volumes[0].read(0)[1])


def test_a_turned_label_of_another_shape_is_told_of_ignore_affine(tmp_path):
    image, label = blob((5, 6, 7))
    volume = read_image(write(tmp_path / "image.nii.gz", image, affine_of("PSR")))
    path = write(tmp_path / "label.nii.gz", label, np.eye(4))
    with pytest.raises(VolumeError, match=r"5x6x7 voxels but .* has 7x5x6 .*or pass --ignore-affine if their voxels"):
        read_matching_label(volume, path)


def test_training_and_scoring_under_ignore_affine_give_what_right_affines_give(tmp_path, capsys):
    lps = affine_of("LPS")
    for number in range(4):
        image, label = blob((9, 8, 7), seed=number)
        for folder, affine in (("right", lps), ("wrong", np.eye(4))):
            write(tmp_path / folder / "imagesTr" / f"case_{number}.nii.gz", image, lps)
            write(tmp_path / folder / "labelsTr" / f"case_{number}.nii.gz", label, affine)
    right = train(tiny(tmp_path / "right", tmp_path / "a"))
    capsys.readouterr()
    wrong = train(tiny(tmp_path / "wrong", tmp_path / "b", ignore_affine=True))
    assert "note: 4 of 4 label maps lie elsewhere than their images, case_0 first" in capsys.readouterr().out
    assert [row["loss"] for row in right.history] == [row["loss"] for row in wrong.history]
    rows = []
    for result, folder in ((right, "right"), (wrong, "wrong")):
        config = EvaluateConfig(result.folder, tmp_path / folder, subset="all", output=tmp_path / "e", progress=False)
        scores = evaluate(dataclasses.replace(config, ignore_affine=folder == "wrong"))
        rows.append(scores.rows)
    assert rows[0] == rows[1]
    assert capsys.readouterr().out.count("note: 4 of 4 label maps") == 1


def test_a_run_begun_with_mirrored_labels_is_not_continued(tmp_path):
    image, label = blob((9, 8, 7))
    for number in range(2):
        write(tmp_path / "d" / "imagesTr" / f"c{number}.nii.gz", image, affine_of("LPS"))
        write(tmp_path / "d" / "labelsTr" / f"c{number}.nii.gz", label, np.eye(4))
    config = tiny(tmp_path / "d", tmp_path / "run", epochs=1, val_fraction=0.0, ignore_affine=True)
    train(config)
    options = json.loads((tmp_path / "run" / "config.json").read_text())
    del options["geometry"]  # as an earlier version wrote it, whose labels lay elsewhere
    (tmp_path / "run" / "config.json").write_text(json.dumps(options))
    train(config)
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    split["train"]["c0"] += 1
    (tmp_path / "run" / "split.json").write_text(json.dumps(split))
    with pytest.raises(ValueError, match="with --ignore-affine labels now take their image's affine"):
        train(config)


def test_each_geometry_is_what_nibabel_reads_of_it(tmp_path):
    image, _ = blob((5, 6, 7))
    turned = affine_of("PSR", (1.3, 1.3, 10.0))
    path = write_forms(tmp_path / "both.nii.gz", image, ONE, turned)
    loaded = nib.load(path)
    for geometry, affine in (("sform", loaded.get_sform()), ("qform", loaded.get_qform())):
        expected = nib.as_closest_canonical(nib.Nifti1Image(image, affine))
        volume = read_image(path, (0,), geometry)
        np.testing.assert_array_equal(volume.data[0], np.asarray(expected.dataobj))
        np.testing.assert_allclose(volume.position.affine, expected.affine)
        np.testing.assert_allclose(volume.spacing, nib.affines.voxel_sizes(expected.affine))
        assert read_grid(path, geometry) == (volume.shape, volume.spacing)
    for only in ("sform", "qform"):
        one = write_forms(tmp_path / f"{only}.nii.gz", image, **{only: turned})
        volumes = [read_image(one, (0,), geometry) for geometry in ("sform", "qform")]
        np.testing.assert_array_equal(volumes[0].data, volumes[1].data)
        assert only == "sform" or volumes[0].spacing == volumes[1].spacing


def test_without_a_qform_its_geometry_is_the_sforms_directions_with_pixdim(tmp_path):
    oblique = affine_of("LPS") @ nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, 0.05, 0.02))
    path = write_forms(tmp_path / "a.nii.gz", blob((5, 6, 7))[0], oblique, pixdim=(1.3, 1.4, 10))
    volume = read_image(path, (0,), "qform")
    assert volume.spacing == pytest.approx((1.3, 1.4, 10))
    ours, theirs = volume.position.affine[:3, :3] / volume.spacing, read_image(path).position.affine[:3, :3]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("forms", "said"),
    [
        ({"sform": ONE, "qform": THICK}, "its sform says 1 x 1 x 1 mm, its qform 1.3 x 1.3 x 10 mm; "),
        ({"sform": ONE, "qform": np.diag([1.0, -1, 1, 1])}, "its sform says 1 x 1 x 1 mm LPS, its qform 1 x 1 x 1 mm "),
        ({"sform": ONE, "pixdim": (1, 1, 2.5)}, "its sform says 1 x 1 x 1 mm, its pixdim 1 x 1 x 2.5 mm; "),
        ({"sform": ONE, "qform": np.diag([-1.005, -1, 1, 1])}, None),
        ({"sform": ONE}, None),
        ({"qform": THICK, "pixdim": (1.3, 1.3, 10)}, None),
        ({"pixdim": (1, 1, 7)}, None),
    ],
)
def test_a_header_that_contradicts_itself_gets_a_note(tmp_path, forms, said):
    first = write_forms(tmp_path / "a.nii.gz", blob((5, 6, 7))[0], **forms)
    plain = write_forms(tmp_path / "b.nii.gz", blob((5, 6, 7))[0], ONE, ONE)
    notes = list(contradictions([plain, first, first, tmp_path / "none.nii"], "sform"))
    if said is None:
        assert not notes
    else:
        assert notes[0].startswith(f"{first}: {said}") and notes[0].endswith("(2 of 3 files are of this kind)")
        assert "--geometry qform" in notes[0]


def test_the_slice_axis_follows_the_geometry(tmp_path):
    data = acdc(tmp_path)
    images = [pair.image for pair in find_pairs(data / "imagesTr", data / "labelsTr")[0]]
    assert sharpest_axis(images) == "coronal"
    assert sharpest_axis(images, "qform") == "axial"


def test_a_model_keeps_its_geometry_for_all_that_is_done_with_it(tmp_path, capsys):
    data, out = acdc(tmp_path / "data"), tmp_path / "run"
    train(tiny(data, out, axis="auto", geometry="qform", epochs=1))
    said = capsys.readouterr().out
    assert said.count("its sform says") == 1 and "case_0.nii.gz: its sform says 1 x 1 x 1 mm" in said
    assert "(8 of 8 files are of this kind)" in said and "as --geometry qform says" in said
    recipe = load(TASK, out, "cpu").spec.recipe  # type: ignore[arg-type]
    assert (recipe.geometry, recipe.axis) == ("qform", "axial")

    options = EvaluateConfig(out, data, output=tmp_path / "e", subset="all", runs=2, progress=False)
    scores = evaluate(options)
    source, target = data / "imagesTr" / "case_1.nii.gz", tmp_path / "p.nii.gz"
    predict(PredictConfig(out, source, target, overlay=False, uncertainty=True, runs=2, progress=False))
    found, original = nib.load(target), nib.load(source)
    truth = np.asarray(nib.load(data / "labelsTr" / "case_1.nii.gz").dataobj) > 0
    expected = score(np.asarray(found.dataobj) > 0, truth, (1.3, 1.3, 10.0))
    row = scores.rows[1]
    assert (row["dice"], row["hd95_mm"]) == pytest.approx((expected["dice"], expected["hd95_mm"]))
    for file in (found, nib.load(tmp_path / "p-uncertainty" / "p_runs.nii.gz")):
        for name in ("sform_code", "qform_code", "srow_x", "srow_z", "quatern_d", "pixdim", "qoffset_x"):
            np.testing.assert_array_equal(file.header[name], original.header[name], err_msg=name)

    chosen = evaluate(dataclasses.replace(options, geometry="sform"))
    assert chosen.rows[1]["dice"] == row["dice"] and chosen.rows[1]["hd95_mm"] != row["hd95_mm"]
    assert animate(AnimateConfig(out, source, tmp_path / "a.gif", geometry="sform", progress=False)).exists()


def test_a_recipe_of_an_earlier_version_reads_the_sform():
    fields = json.loads(Recipe("axial").to_json())
    assert fields.pop("geometry") == "sform"
    assert Recipe.from_json(json.dumps(fields)) == Recipe("axial")
    with pytest.raises(ValueError, match="geometry='other' is not allowed; choose from sform, qform"):
        Recipe(geometry="other")  # type: ignore[arg-type]


def test_a_run_of_an_earlier_version_is_continued(tmp_path):
    data, out = write_set(tmp_path / "data", 3), tmp_path / "run"
    train(tiny(data, out, epochs=1))
    options = json.loads((out / "config.json").read_text())
    del options["geometry"]
    (out / "config.json").write_text(json.dumps(options))
    assert len(train(tiny(data, out, epochs=2)).history) == 2


def test_folds_of_an_earlier_version_go_on_unless_their_labels_were_mirrored(tmp_path):
    options = shared_options(fold_options("mednca")(data=tmp_path))
    assert "geometry" not in options and "labels_lie" not in options
    assert shared_options(fold_options("mednca")(data=tmp_path, geometry="qform")) == options | {"geometry": "qform"}
    waived = shared_options(fold_options("mednca")(data=tmp_path, ignore_affine=True))
    claim(tmp_path, "options.json", {name: value for name, value in waived.items() if name != "labels_lie"}, "others")
    with pytest.raises(ValueError, match="labels_lie .here None, asked 'as their images'."):
        claim(tmp_path, "options.json", waived, "other options")


def test_results_go_back_to_where_the_chosen_geometry_has_them(tmp_path):
    label = blob((5, 6, 7))[1]
    path = write_forms(tmp_path / "in.nii", label, ONE, affine_of("PSR", (1.0, 2.0, 3.0)))
    for geometry in ("sform", "qform"):
        canonical = read_label(path, geometry).data[0]
        write_map(tmp_path / "out.nii", canonical, path, geometry)
        np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "out.nii").dataobj), label)


def test_a_header_without_directions_says_what_to_do(tmp_path):
    image, _ = blob((5, 6, 7))
    path = write_forms(tmp_path / "q.nii.gz", image, None, np.eye(4), quatern_b=0.9, quatern_c=0.8)
    with pytest.raises(VolumeError, match=r"q.nii.gz: its qform has no directions: quatern_b=0.9, quatern_c=0.8.*set_"):
        read_image(path)
    path = write_forms(tmp_path / "both.nii.gz", image, np.eye(4), np.eye(4), quatern_b=0.9, quatern_c=0.8)
    assert read_image(path).spacing == (1, 1, 1)
    with pytest.raises(VolumeError, match="or try --geometry sform$"):
        read_image(path, (0,), "qform")
    path = write_forms(tmp_path / "nan.nii.gz", image, np.eye(4), np.eye(4), srow_x=(np.nan, 0, 0, 0))
    with pytest.raises(VolumeError, match="cannot be inverted; .*, or try --geometry qform$"):
        read_image(path)
    assert read_image(path, (0,), "qform").spacing == (1, 1, 1)


@pytest.mark.parametrize(("unit", "factor"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (10, 1), (11, 0.001)])
def test_spacing_is_in_millimetres_whatever_the_unit(tmp_path, unit, factor):
    path = write_forms(tmp_path / "a.nii", blob((5, 6, 7))[0], affine_of("PSR", (1.0, 2.0, 3.0)), xyzt_units=unit)
    assert read_image(path).spacing == pytest.approx(tuple(factor * size for size in (3, 1, 2)))


def test_header_fields_that_are_repaired_are_said(tmp_path):
    image, _ = blob((5, 6, 7))
    content = bytearray(write_forms(tmp_path / "whole.nii", image, None, np.diag([2.0, 2, 2, 1])).read_bytes())
    fields = {
        "scl_slope": (112, np.float32(np.nan).tobytes(), "scl_slope is nan; its voxels are taken as stored"),
        "xyzt_units": (123, b"\3", "its voxel sizes are in micrometres (xyzt_units); they are converted to mm"),
        "bitpix": (72, np.int16(8).tobytes(), "it says 8 bits per voxel (bitpix), and type float32; the type is taken"),
        "sform_code": (254, np.int16(9).tobytes(), "sform_code is 9, which is no code; it is taken as 0"),
        "pixdim": (80, np.float32(0).tobytes(), "its voxel size is 0 x 2 x 2 (pixdim); 0 is taken as 1, and signs are"),
    }
    for name, (start, value, said) in fields.items():
        path = tmp_path / f"{name}.nii"
        path.write_bytes(content[:start] + value + content[start + len(value) :])
        (note,) = contradictions([path], "sform")
        assert note.startswith(f"{path}: {said}")
        np.testing.assert_array_equal(read_image(path).data[0], image)
    assert not open_nifti(tmp_path / "whole.nii").repairs
