"""Several files per case: which belong together, that they are read as channels, and what is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nifti import affine_of, blob, tiny, write
from safetensors.torch import load_file

from ncafast.nifti import VolumeError
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
from ncafast.tasks.mednca.dataset_json import read_facts
from ncafast.tasks.mednca.geometry import contradictions
from ncafast.tasks.mednca.inputs import find_inputs
from ncafast.tasks.mednca.layouts import open_dataset
from ncafast.tasks.mednca.pairs import Pair, find_pairs
from ncafast.tasks.mednca.reading import read_case, read_truth
from ncafast.tasks.mednca.slices import Recipe
from ncafast.tasks.mednca.task import TASK
from ncafast.tasks.repeats import crossvalidate
from ncafast.tasks.repeats.config import fold_options

NAMES = {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": {"background": 0, "low": 1, "high": 2}}


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.nii.gz").write_bytes(b"x")
    return folder


def modalities(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise, a bright ellipsoid in noise, and its label: only the second modality shows something."""
    image, label = blob((10, 12, 9), seed=number)
    return np.random.default_rng(number).normal(100, 20, image.shape).astype(np.float32), image, label


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nnu/ with a file per modality, decathlon/ with the same as 4-D images."""
    root = tmp_path_factory.mktemp("data")
    for number in range(4):
        first, second, label = modalities(number)
        write(root / "nnu" / "imagesTr" / f"case_{number}_0000.nii.gz", first)
        write(root / "nnu" / "imagesTr" / f"case_{number}_0001.nii.gz", second)
        write(root / "decathlon" / "imagesTr" / f"case_{number}.nii.gz", np.stack([first, second], -1))
        for kind in ("nnu", "decathlon"):
            write(root / kind / "labelsTr" / f"case_{number}.nii.gz", label)
    (root / "nnu" / "dataset.json").write_text(json.dumps(NAMES | {"file_ending": ".nii.gz"}))
    return root


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    train(tiny(data / "nnu", out, state_channels=8, hidden=16, epochs=4, lr=0.01, lr_gamma=1.0))
    return out


@pytest.fixture(scope="module")
def single(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the second modality alone, whose names have no number."""
    folder, out = tmp_path_factory.mktemp("single"), tmp_path_factory.mktemp("run")
    for number in range(2):
        _, image, label = modalities(number)
        write(folder / "imagesTr" / f"case_{number}.nii.gz", image)
        write(folder / "labelsTr" / f"case_{number}.nii.gz", label)
    train(tiny(folder, out, epochs=1, pictures=0))
    return out


def found(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(nib.load(path).dataobj) for path in sorted(folder.glob("*.nii.gz"))}


def pairs_of(tmp_path: Path, images: list[str], labels: list[str], **options: object) -> tuple[dict, dict]:
    """Image names by the names of the pairs, and reasons by the names of the skipped files."""
    folders = touch(tmp_path / "a", *images), touch(tmp_path / "b", *labels)
    pairs, skipped = find_pairs(*folders, **options)  # type: ignore[arg-type]
    short = {pair.name: [path.name.removesuffix(".nii.gz") for path in pair.images] for pair in pairs}
    return short, {item.path.name.removesuffix(".nii.gz"): item.reason for item in skipped}


def test_numbered_files_of_one_label_map_are_its_modalities(tmp_path):
    images = ["p_0001_0000", "p_0001_0001", "p_0002_0001", "p_0002_0000", "q_0000", "q_0001"]
    pairs, skipped = pairs_of(tmp_path, images, ["p_0001", "p_0002", "q_seg"])
    assert pairs == {
        "p_0001": ["p_0001_0000", "p_0001_0001"],
        "p_0002": ["p_0002_0000", "p_0002_0001"],
        "q": ["q_0000", "q_0001"],
    }
    assert skipped == {}


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (["scan_2018", "scan_2019"], ["scan_2018", "scan_2019"]),
        (["p_0001", "p_0002"], ["p_0001_seg", "p_0002_seg"]),
        (["p_0000", "p_0001", "p_0002"], ["p_0000", "p_0001", "p_0002"]),
        (["p", "p_0001"], ["p", "p_0001"]),
    ],
)
def test_digits_that_label_maps_have_too_are_part_of_a_name(tmp_path, images, labels):
    pairs, skipped = pairs_of(tmp_path, images, labels)
    assert sorted(pairs.values()) == sorted([name] for name in images) and skipped == {}


def test_a_second_scan_is_no_modality(tmp_path):
    pairs, skipped = pairs_of(tmp_path, ["p", "p_0001", "q_2019"], ["p", "q"])
    assert pairs == {"p": ["p"]}
    assert "has no label map called p_0001.nii.gz" in skipped["p_0001"] and "--suffix modality" in skipped["p_0001"]
    assert "has no label map called q_2019.nii.gz" in skipped["q_2019"]
    assert pairs_of(tmp_path, [], [], suffix="modality")[0] == {"p": ["p", "p_0001"]}


def test_missing_modalities_and_gaps_are_named(tmp_path):
    images = [f"{name}_{number:04d}" for name in "abcd" for number in range(3)]
    images = [name for name in images if name not in ("b_0001", "c_0002", "d_0000")] + ["a_0003"]
    whole = {name: [f"{name}_{number:04d}" for number in range(3)] for name in "ef"}
    pairs, skipped = pairs_of(tmp_path, images + whole["e"] + whole["f"], list("abcdef"))
    assert pairs == {"a": ["a_0000", "a_0001", "a_0002"], **whole}
    assert "its case has no b_0001.nii.gz, and 3 modalities are needed" in skipped["b_0000"]
    assert "no c_0002.nii.gz" in skipped["c_0000"]
    assert "--suffix modality" in skipped["d_0001"] and "d" in skipped
    assert "is modality 3 of a, but a case of this data set has 3; it is not used" in skipped["a_0003"]


def test_dataset_json_says_how_many_modalities_there_are(tmp_path):
    images = ["a_0000", "b_0000", "c_0000", "c_0001"]
    assert pairs_of(tmp_path, images, list("abc"))[0] == {"a": ["a_0000"], "b": ["b_0000"], "c": ["c_0000"]}
    pairs, skipped = pairs_of(tmp_path, images, list("abc"), modalities=2)
    assert pairs == {"c": ["c_0000", "c_0001"]} and "no a_0001.nii.gz" in skipped["a_0000"]
    with pytest.raises(
        ValueError, match=r"no case has all of its modalities; .*a_0000.*has no a_0001.nii.gz and a_0002"
    ):
        pairs_of(tmp_path, images, list("abc"), modalities=3)


def test_modalities_are_channels_whatever_their_orientation(tmp_path):
    first, second, _ = modalities(0)
    paths = [write(tmp_path / "a_0000.nii.gz", first)]
    turn = nib.orientations.axcodes2ornt("LPS")
    turned = nib.Nifti1Image(second, affine_of()).as_reoriented(turn)
    nib.save(turned, tmp_path / "a_0001.nii.gz")
    volume = read_case([*paths, tmp_path / "a_0001.nii.gz"], (1, 0))
    np.testing.assert_array_equal(volume.data, np.stack([second, first]))
    with pytest.raises(VolumeError, match="channels 0 to 1, one per file, but .2. is wanted"):
        read_case([paths[0]] * 2, (2,))
    moved = affine_of()
    moved[0, 3] += 3
    for data, affine, said in (
        (second, moved, "a_0001.nii.gz: lies 3 mm away from a_0000.nii.gz of the same case"),
        (second[:-1], None, "a_0001.nii.gz: has 9x12x9 voxels but a_0000.nii.gz of the same case has 10x12x9"),
        (np.stack([second] * 2, -1), None, "a_0001.nii.gz: is 4-D with 2 channels, but its case has a file per"),
    ):
        paths[1:] = [write(tmp_path / "a_0001.nii.gz", data, affine)]
        with pytest.raises(VolumeError, match=said) as error:
            read_case(paths, (0, 1))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{}, {"dims": 3, "crop": 4, "batch_size": 2}])
def test_files_of_one_case_teach_what_a_4d_image_teaches(data, tmp_path, capsys, options):
    for kind, own in (("nnu", {}), ("decathlon", {"channels": (0, 1), "classes": (1, 2)})):
        train(tiny(data / kind, tmp_path / kind, epochs=1, **options, **own))
    said = capsys.readouterr().out
    assert "note: each case has 2 image files, its channels: _0000 T1, _0001 FLAIR (--suffix)" in said
    assert "2 labels that dataset.json names are learned as a class each: 1 low, 2 high" in said
    ours, theirs = (load_file(tmp_path / kind / "last.safetensors") for kind in ("nnu", "decathlon"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs) and ours.keys() == theirs.keys()
    recipe = load(TASK, tmp_path / "nnu", torch.device("cpu")).spec.recipe
    assert (recipe.files, recipe.channels, recipe.classes) == (2, (0, 1), (1, 2))
    assert (recipe.channel_names, recipe.label_names) == (("T1", "FLAIR"), ("low", "high"))


def test_a_case_is_predicted_as_one(run, data, tmp_path):
    source = data / "nnu" / "imagesTr"
    done = predict(PredictConfig(run, source, tmp_path / "a", uncertainty=True, runs=2, progress=False))
    names = [f"case_{number}.nii.gz" for number in range(4)]
    assert [item.labels.name for item in done.written] == names
    assert [item.others[0].name for item in done.written] == [f"case_{number}_0001.nii.gz" for number in range(4)]
    report = json.loads((tmp_path / "a" / "uncertainty" / "report.json").read_text())
    assert {row["image"] for row in report["images"]} == set(names)
    assert report["labels"] == {"1": "low", "2": "high"}
    four = data / "decathlon" / "imagesTr"
    predict(PredictConfig(run, four, tmp_path / "b", channels=(0, 1), runs=2, progress=False))
    ours, theirs = found(tmp_path / "a"), found(tmp_path / "b")
    assert list(ours) == list(theirs) == names
    for name in names:
        np.testing.assert_array_equal(ours[name], theirs[name])
    for number in range(2):  # either file finds the other
        one = source / f"case_1_000{number}.nii.gz"
        (item,) = predict(PredictConfig(run, one, tmp_path / "c", runs=2, progress=False)).written
        np.testing.assert_array_equal(found(tmp_path / "c")[item.labels.name], ours["case_1.nii.gz"])
    films = [tmp_path / f"{number}.gif" for number in range(2)]
    animate(AnimateConfig(run, source / "case_1_0001.nii.gz", films[0], progress=False))
    animate(AnimateConfig(run, four / "case_1.nii.gz", films[1], channels=(0, 1), progress=False))
    assert films[0].read_bytes() == films[1].read_bytes()


def test_scores_are_those_of_a_4d_image_and_have_names(run, data, tmp_path, capsys):
    config = EvaluateConfig(run, data / "nnu", subset="all", output=tmp_path / "a", runs=2, progress=False)
    ours = evaluate(config)
    four = dataclasses.replace(config, data=data / "decathlon", channels=(0, 1), output=tmp_path / "b")
    assert ours.rows == evaluate(four).rows
    assert [(row["label"], row["name"]) for row in ours.rows[:2]] == [(1, "low"), (2, "high")]
    assert "case_0  high  " in " ".join(ours.table().splitlines()).replace("   ", "  ")
    assert ours.csv.read_text().splitlines()[0].startswith("volume,label,name,dice")
    history = (run / "history.csv").read_text().splitlines()[0]
    assert "val_dice,val_dice_low,val_dice_high" in history


def test_another_number_of_files_is_refused(run, single, data, tmp_path):
    write(tmp_path / "in" / "x_0000.nii.gz", modalities(0)[0])
    source = data / "nnu" / "imagesTr"
    one = r"x_0000.nii.gz: its case has 1 image file, but the model takes 2 image files per case \(T1, FLAIR\); give"
    with pytest.raises(ValueError, match=one):
        predict(PredictConfig(run, tmp_path / "in", tmp_path / "o", progress=False))
    with pytest.raises(ValueError, match=one):
        animate(AnimateConfig(run, tmp_path / "in" / "x_0000.nii.gz", tmp_path / "o.gif", progress=False))
    two = r"its case has 2 image files \(case_0_0000.nii.gz, case_0_0001.nii.gz\), but the model takes 1 image file"
    with pytest.raises(ValueError, match=two):
        evaluate(EvaluateConfig(single, data / "nnu", output=tmp_path / "e", progress=False))
    with pytest.raises(ValueError, match="none of the 4 images can be used"):
        predict(PredictConfig(single, source, tmp_path / "o", progress=False))
    assert not (tmp_path / "o").exists()
    predict(PredictConfig(single, source, tmp_path / "o", channels=(1,), progress=False))
    second = source / "case_0_0001.nii.gz"
    predict(PredictConfig(single, second, tmp_path / "p", suffix="name", progress=False))
    np.testing.assert_array_equal(found(tmp_path / "o")["case_0.nii.gz"], found(tmp_path / "p")[second.name])


def inputs(folder: Path, recipe: Recipe, **options: object) -> tuple[list[list[str]], list[str]]:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        cases = find_inputs(PredictConfig(folder, folder, **options), recipe)  # type: ignore[arg-type]
    return [[path.name.removesuffix(".nii.gz") for path in case.paths] for case in cases], said.getvalue().splitlines()


def test_patients_with_numbers_stay_apart(tmp_path):
    for number in range(3):
        write(tmp_path / f"p_{number:04d}.nii.gz", blob((6, 7 + number, 5))[0])
    alone = [["p_0000"], ["p_0001"], ["p_0002"]]
    cases, (said,) = inputs(tmp_path, Recipe())
    assert cases == alone
    assert "p_0000.nii.gz, p_0001.nii.gz and the like are taken as a case each" in said
    assert inputs(tmp_path, Recipe(), suffix="name") == (alone, [])
    assert inputs(tmp_path, Recipe(numbered=True)) == ([["p_0000", "p_0001", "p_0002"]], [])
    assert inputs(tmp_path, Recipe(channels=(0, 1, 2), files=3)) == ([["p_0000", "p_0001", "p_0002"]], [])
    assert inputs(tmp_path / "p_0001.nii.gz", Recipe()) == ([["p_0001"]], [])
    for number in range(3):
        write(tmp_path / f"p_{number:04d}.nii.gz", blob((6, 7, 5))[0])  # one geometry: modalities
    assert inputs(tmp_path, Recipe()) == ([["p_0000", "p_0001", "p_0002"]], [])
    cases, (said,) = inputs(tmp_path / "p_0000.nii.gz", Recipe())
    assert cases == [["p_0000"]] and "p_0001.nii.gz, p_0002.nii.gz beside p_0000.nii.gz is not used" in said
    assert inputs(tmp_path / "p_0001.nii.gz", Recipe()) == ([["p_0000", "p_0001", "p_0002"]], [])
    (tmp_path / "p_0001.nii.gz").unlink()
    (case,) = find_inputs(PredictConfig(tmp_path, tmp_path), Recipe(channels=(0, 1), files=2))
    assert "its case has no p_0001.nii.gz" in case.problem


def test_single_modality_with_its_number_keeps_its_output_name(tmp_path):
    write(tmp_path / "p_0000.nii.gz", blob((6, 7, 5))[0])
    for recipe in (Recipe(), Recipe(numbered=True)):
        (case,) = find_inputs(PredictConfig(tmp_path, tmp_path), recipe)
        assert (case.target, case.problem) == ("p_0000.nii.gz", "")


@pytest.mark.parametrize(
    ("names", "todo"),
    [
        (["FLAIR", "T1"], "give --channels 1 0"),
        (["T1", "T2"], "give --channels, if they are the same under other names"),
    ],
)
def test_other_channel_names_are_refused(run, data, tmp_path, names, todo):
    for path in (data / "nnu" / "imagesTr").iterdir():
        write(tmp_path / "imagesTr" / path.name, np.asarray(nib.load(path).dataobj))
    for path in (data / "nnu" / "labelsTr").iterdir():
        write(tmp_path / "labelsTr" / path.name, np.asarray(nib.load(path).dataobj))
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": dict(enumerate(names))}))
    said = f"names the channels {', '.join(names)}, but the model was trained on T1, FLAIR, in this order; {todo}"
    with pytest.raises(ValueError, match=said):
        evaluate(EvaluateConfig(run, tmp_path, output=tmp_path / "e", progress=False))
    with pytest.raises(ValueError, match=said):
        predict(PredictConfig(run, tmp_path / "imagesTr", tmp_path / "o", progress=False))
    assert evaluate(EvaluateConfig(run, tmp_path, channels=(1, 0), output=tmp_path / "e", progress=False)).rows


def test_geometry_and_ignore_affine_hold_for_every_file(tmp_path):
    first, second, label = modalities(0)
    paths = []
    for number, data in enumerate((first, second)):
        image = nib.Nifti1Image(data, affine_of("LPS"))
        image.set_sform(affine_of("LPS"), 1)
        image.set_qform(affine_of("LPS", (2.0, 2.0, 5.0)), 1)
        nib.save(image, tmp_path / f"a_000{number}.nii.gz")
        paths.append(tmp_path / f"a_000{number}.nii.gz")
    assert read_case(paths, (0, 1), "sform").spacing == pytest.approx((1, 1, 1))
    volume = read_case(paths, (0, 1), "qform")
    assert volume.spacing == pytest.approx((2, 2, 5))
    np.testing.assert_array_equal(volume.data[1], second[::-1, ::-1])
    (line,) = contradictions(paths, "sform")
    assert "a_0000.nii.gz: its sform says 1 x 1 x 1 mm" in line and "2 of 2 files" in line

    masks = ((1, write(tmp_path / "m" / "low.nii.gz", (label == 1).astype(np.uint8), np.eye(4))),
             (2, write(tmp_path / "m" / "high.nii.gz", (label == 2).astype(np.uint8), np.eye(4))))  # fmt: skip
    pair = Pair("a", paths[0], tmp_path / "m", (paths[1],), masks)
    with pytest.raises(VolumeError, match="low.nii.gz: lies .* mm away"):
        read_truth(pair, volume)
    truth = read_truth(pair, volume, ignore_affine=True)
    np.testing.assert_array_equal(truth.data[0], label[::-1, ::-1])
    assert (truth.waived, truth.overlap) == ("moved", "")


def test_one_case_of_another_geometry_is_skipped(data, tmp_path, capsys):
    folder = tmp_path / "data"
    for number in range(3):
        first, second, label = modalities(number)
        write(folder / "imagesTr" / f"c{number}_0000.nii.gz", first)
        write(folder / "imagesTr" / f"c{number}_0001.nii.gz", second[: 9 + (number < 2)])
        write(folder / "labelsTr" / f"c{number}.nii.gz", label)
    result = train(tiny(folder, tmp_path / "run", epochs=1, pictures=0))
    assert sorted(result.train + result.held_out) == ["c0", "c1"]
    assert "skipped: " in (said := capsys.readouterr().out) and "c2_0001.nii.gz: has 9x12x9 voxels" in said


def test_folds_of_modalities(data, tmp_path):
    plain = tiny(data / "nnu", tmp_path / "folds", epochs=1, pictures=0)
    config = fold_options("mednca")(
        **{f.name: getattr(plain, f.name) for f in dataclasses.fields(plain)} | {"folds": 2}
    )
    rows = crossvalidate(config)
    assert len(rows) == 4 and load(TASK, tmp_path / "folds" / "fold_1", torch.device("cpu")).spec.recipe.files == 2
    options = tmp_path / "folds" / "options.json"
    content = json.loads(options.read_text())
    assert content["suffix"] == "auto"


def test_a_4d_image_of_which_dataset_json_names_all_channels_is_used_whole(data, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("imagesTr", "labelsTr"):
        (folder / name).symlink_to(data / "decathlon" / name)
    labels = {"0": "background", "1": "low", "2": "high"}
    (folder / "dataset.json").write_text(json.dumps({"modality": {"0": "T1", "1": "FLAIR"}, "labels": labels}))
    train(tiny(folder, tmp_path / "run", epochs=1, pictures=0))
    recipe = load(TASK, tmp_path / "run", torch.device("cpu")).spec.recipe
    assert (recipe.channels, recipe.channel_names, recipe.files) == ((0, 1), ("T1", "FLAIR"), 1)
    with pytest.raises(ValueError, match=r"its case has 2 image files .* takes 1 image file per case \(T1, FLAIR\)"):
        evaluate(EvaluateConfig(tmp_path / "run", data / "nnu", output=tmp_path / "e", progress=False))
    (folder / "dataset.json").write_text(json.dumps({"modality": {"0": "a", "1": "b", "2": "c"}}))
    with pytest.raises(ValueError, match=r"names 3 channels \(a, b, c\), but .* has 2 and nothing that ends in _0001"):
        train(tiny(folder, tmp_path / "other", epochs=1))


def test_open_dataset_reads_what_lies_beside_both_folders(data):
    folder = data / "nnu"
    config = TrainConfig(images=folder / "imagesTr", labels=folder / "labelsTr")
    assert open_dataset(config).facts == read_facts(folder)
