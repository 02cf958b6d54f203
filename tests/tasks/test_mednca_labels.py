"""What dataset.json says of labels, a mask per structure, and what is learned and written of them."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nifti import affine_of, blob, tiny, write, write_set
from safetensors.torch import load_file

from ncafast.tasks.base import load
from ncafast.tasks.mednca import EvaluateConfig, PredictConfig, TrainConfig, evaluate, predict, train
from ncafast.tasks.mednca.dataset_json import Facts, read_facts
from ncafast.tasks.mednca.layouts import open_dataset
from ncafast.tasks.mednca.prediction import mask_names
from ncafast.tasks.mednca.reading import read_case, read_truth
from ncafast.tasks.mednca.slices import Recipe
from ncafast.tasks.mednca.task import TASK
from ncafast.tasks.repeats.config import fold_options
from ncafast.tasks.repeats.training import begin, shared_options

CPU = torch.device("cpu")
TWO = {"labels": {"background": 0, "low": 1, "high": 2}}


def facts_of(folder: Path, **content: object) -> Facts:
    (folder / "dataset.json").write_text(json.dumps(content))
    return read_facts(folder)


def weights(run: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(run / "last.safetensors").items()}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_set(tmp_path / "data", 4)


@pytest.fixture(scope="module")
def total(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TotalSegmentator's layout; the masks overlap where the label is 2."""
    root = tmp_path_factory.mktemp("total")
    for number in range(3):
        image, label = blob(seed=number)
        write(root / f"s{number}" / ("mri.nii.gz" if number else "ct.nii.gz"), image)
        for name, inside in (("liver", label > 0), ("spleen", label == 2), ("aorta", label == 1)):
            write(root / f"s{number}" / "segmentations" / f"{name}.nii.gz", inside.astype(np.uint8))
    return root


def test_both_forms_of_dataset_json_say_the_same(tmp_path):
    labels = ((1, "liver"), (2, "tumour"))
    new = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "liver": 1, "tumour": 2}}
    old = {"modality": {"0": "T1", "1": "T2"}, "labels": {"0": "background", "2": "tumour", "1": "liver"}}
    for content in (new, old):
        found = facts_of(tmp_path, **content)
        assert (found.channels, found.labels, found.ignore, found.regions) == (("T1", "T2"), labels, None, ())
    (tmp_path / "dataset.json").unlink()
    assert read_facts(tmp_path) == Facts()


def test_regions_are_the_label_values_that_they_consist_of(tmp_path):
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    found = facts_of(tmp_path, labels=labels)
    assert found.labels == ((1, "label 1"), (2, "label 2"), (3, "enhancing"))
    assert (found.ignore, found.regions) == (4, ("whole", "core"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is corrupt"),
        ("[1]", "must hold a JSON object, not a list"),
        ('{"file_ending": ".png"}', "file_ending is '.png', but only .nii.gz and .nii are read"),
        ('{"labels": [1]}', "labels must be an object"),
        ('{"labels": {"a": 1.5}}', "label 'a' has the value 1.5"),
        ('{"labels": {"a": [1, "x"]}}', "label 'a' has the value"),
        ('{"labels": {"a": true}}', "label 'a' has the value True"),
        ('{"labels": {"a": 1, "b": 1}}', "'a' and 'b' share the value 1"),
        ('{"labels": {"1": 2}}', "the name of a label must be text"),
        ('{"channel_names": {"0": "a", "2": "b"}}', "its channels are numbered 0, 2, not from 0 without a gap"),
        ('{"channel_names": {"0": 1}}', "channel_names must map numbers to names"),
    ],
)
def test_a_dataset_json_that_cannot_be_used_is_one_line(tmp_path, text, said):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ValueError) as error:
        read_facts(tmp_path)
    assert str(tmp_path / "dataset.json") in str(error.value) and said in str(error.value)
    assert "\n" not in str(error.value)


def test_labels_that_dataset_json_names_are_classes(data, tmp_path, capsys):
    train(tiny(data, tmp_path / "plain", epochs=1))
    said = capsys.readouterr().out
    assert "note: the label maps hold the values 1, 2, merged into one class; --classes tells them apart" in said
    train(tiny(data, tmp_path / "chosen", epochs=1, classes=(1, 2)))
    assert "note" not in capsys.readouterr().out
    facts_of(data, **TWO)
    train(tiny(data, tmp_path / "named", epochs=1))
    assert "learned as a class each: 1 low, 2 high (--merge-labels makes them one)" in capsys.readouterr().out
    train(tiny(data, tmp_path / "merged", epochs=1, merge_labels=True))
    assert "note" not in capsys.readouterr().out
    assert weights(tmp_path / "named") == weights(tmp_path / "chosen")
    assert weights(tmp_path / "merged") == weights(tmp_path / "plain")
    train(tiny(data, tmp_path / "one", epochs=1, classes=(2,)))
    said = "4 of 4 label maps hold values that are not among the classes (1), case_0 first; these are background"
    assert f"note: {said}" in capsys.readouterr().out
    assert load(TASK, tmp_path / "one", CPU).spec.recipe.label_names == ("high",)


def test_a_value_that_dataset_json_does_not_name_is_said_with_its_case(data, tmp_path, capsys):
    facts_of(data, **TWO)
    path = data / "labelsTr" / "case_2.nii.gz"
    values = np.asarray(nib.load(path).dataobj).copy()
    values[0, 0, 0] = 7
    write(path, values)
    train(tiny(data, tmp_path / "named", epochs=1))
    assert "1 of 4 label maps hold values that are not among the classes (7), case_2 first" in capsys.readouterr().out
    train(tiny(data, tmp_path / "merged", epochs=1, merge_labels=True))
    said = "note: 1 of 4 label maps hold values that dataset.json does not name (7), case_2 first; these are foreground"
    assert said in capsys.readouterr().out


def test_what_labels_cannot_be(data, tmp_path):
    facts_of(data, labels={"background": 0, "low": 1, "high": 2, "ignore": 3})
    with pytest.raises(ValueError, match=r"names an ignore label, 3, .* give --classes 1 2 to take them as background"):
        train(tiny(data, tmp_path / "run"))
    facts_of(data, labels={"background": 0, "low": 1, "high": 2, "third": 3})
    with pytest.raises(ValueError, match=r"no training label holds the value 3 \(third\); they hold 1, 2"):
        train(tiny(data, tmp_path / "run"))
    facts_of(data, labels={"low": 1, "high": 300})
    with pytest.raises(ValueError, match="names the label value 300; choose --classes up to 255"):
        train(tiny(data, tmp_path / "run"))
    for options in ({"merge_labels": True}, {"structures": ("a",)}):
        with pytest.raises(ValueError, match="--"):
            train(tiny(data, tmp_path / "run", classes=(1,), **options))


def test_a_run_that_an_earlier_version_began_goes_on(data, tmp_path, capsys):
    out = tmp_path / "run"
    train(tiny(data, out, epochs=1))
    config = json.loads((out / "config.json").read_text())
    for name in ("merge_labels", "structures", "suffix"):
        del config[name]
    (out / "config.json").write_text(json.dumps(config))
    facts_of(data, **TWO)
    result = train(tiny(data, out, epochs=2))
    assert "an earlier version began" in capsys.readouterr().out and len(result.history) == 2
    train(tiny(data, tmp_path / "other", epochs=2, merge_labels=True))
    assert weights(out) == weights(tmp_path / "other")


def test_folds_that_an_earlier_version_began_go_on(data, tmp_path):
    options = tiny(data, tmp_path)
    plain = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    config = fold_options("mednca")(**plain)
    before = shared_options(config)
    assert begin(config)[0] is config and before["suffix"] == "auto"
    added = ("suffix", "merge_labels", "structures", "geometry")
    earlier = {name: value for name, value in before.items() if name not in added} | {"channels": [0]}
    (tmp_path / "options.json").write_text(json.dumps(earlier))
    begun, _ = begin(config)
    assert shared_options(begun) == earlier
    assert (begun.channels, begun.merge_labels, begun.suffix) == ((0,), True, "name")


def test_recipes_without_new_fields_are_as_before():
    written = json.loads(Recipe(percentiles=(1.0, 99.0)).to_json())
    assert not {"files", "numbered", "channel_names", "label_names"} & written.keys()
    named = Recipe(channels=(0, 1), files=2, channel_names=("a", "b"), label_names=("c",))
    assert Recipe.from_json(named.to_json()) == named
    for wrong in ({"label_names": ("a", "b")}, {"files": 0}, {"channel_names": ("a", "b")}, {"label_names": (1,)}):
        with pytest.raises(ValueError, match="is not allowed"):
            Recipe(**wrong)


def test_masks_of_structures_make_a_label_map(total):
    found = open_dataset(TrainConfig(data=total))
    assert [pair.name for pair in found.pairs] == ["s0", "s1", "s2"]
    assert found.structures == ((1, "aorta"), (2, "liver"), (3, "spleen"))
    pair = found.pairs[1]
    assert pair.image.name == "mri.nii.gz"
    _, label = blob(seed=1)
    truth = read_truth(pair, read_case(pair.images, (0,)))
    np.testing.assert_array_equal(truth.data[0], np.where(label == 1, 2, np.where(label == 2, 3, 0)))
    both = int((label == 1).sum()), int((label == 2).sum())
    assert truth.overlap == (
        f"liver.nii.gz shares {both[0]} voxels with masks before it, "
        f"spleen.nii.gz shares {both[1]} voxels with masks before it"
    )
    chosen = open_dataset(TrainConfig(data=total), ("spleen", "aorta"))
    assert chosen.structures == ((1, "spleen"), (2, "aorta"))
    assert read_truth(chosen.pairs[0], read_case(chosen.pairs[0].images, (0,))).overlap == ""
    with pytest.raises(ValueError, match=r"no segmentations folder holds a mask heart.nii.gz; there are aorta, liver"):
        open_dataset(TrainConfig(data=total), ("heart",))


def test_a_mask_that_is_missing_or_lies_elsewhere_is_named(total, tmp_path):
    image, label = blob()
    for name in ("s0", "s1"):
        write(tmp_path / name / "ct.nii.gz", image)
        write(tmp_path / name / "segmentations" / "a.nii.gz", label)
    write(tmp_path / "s0" / "segmentations" / "b.nii.gz", label)
    found = open_dataset(TrainConfig(data=tmp_path))
    assert [pair.name for pair in found.pairs] == ["s0"]
    (skipped,) = found.skipped
    assert "has no mask b.nii.gz; add it, or choose other --structures" in skipped.reason
    moved = affine_of()
    moved[0, 3] += 3
    write(tmp_path / "s0" / "segmentations" / "b.nii.gz", label, moved)
    with pytest.raises(ValueError, match=r"b.nii.gz: lies 3 mm away from its image ct.nii.gz"):
        read_truth(found.pairs[0], read_case(found.pairs[0].images, (0,)))


def test_structures_are_learned_scored_and_written_as_masks(total, tmp_path, capsys):
    options = {"state_channels": 6, "epochs": 1, "val_fraction": 0.4}
    train(tiny(total, tmp_path / "run", structures=("spleen", "aorta"), **options))
    assert "2 masks are learned as a class each: 1 spleen, 2 aorta" in capsys.readouterr().out
    assert load(TASK, tmp_path / "run", CPU).spec.recipe.label_names == ("spleen", "aorta")
    scores = evaluate(EvaluateConfig(tmp_path / "run", total, subset="all", output=tmp_path / "e", progress=False))
    assert [(row["volume"], row["label"], row["name"]) for row in scores.rows[:2]] == [
        ("s0", 1, "spleen"),
        ("s0", 2, "aorta"),
    ]
    assert scores.rows[1]["voxels_true"] == int((blob(seed=0)[1] == 1).sum())
    with scores.csv.open() as file:
        assert [row["name"] for row in csv.DictReader(file)][:2] == ["spleen", "aorta"]
    done = predict(PredictConfig(tmp_path / "run", total, tmp_path / "p", masks=True, progress=False))
    assert [item.labels.name for item in done.written] == ["s0.nii.gz", "s1.nii.gz", "s2.nii.gz"]
    for item in done.written:
        labels = nib.load(item.labels)
        assert [path.relative_to(tmp_path / "p") for path in item.masks] == [
            Path(item.labels.name[:2]) / name for name in ("spleen.nii.gz", "aorta.nii.gz")
        ]
        for value, path in enumerate(item.masks, start=1):
            mask = nib.load(path)
            np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(labels.dataobj) == value)
            np.testing.assert_array_equal(mask.affine, labels.affine)


def test_merged_structures_need_names_to_be_scored(total, tmp_path):
    train(tiny(total, tmp_path / "run", merge_labels=True, epochs=1, val_fraction=0.4, pictures=0))
    config = EvaluateConfig(tmp_path / "run", total, subset="all", output=tmp_path / "e", progress=False)
    with pytest.raises(ValueError, match="the model does not name any; give --structures"):
        evaluate(config)
    scores = evaluate(dataclasses.replace(config, structures=("liver",)))
    assert scores.rows[0]["voxels_true"] == int((blob(seed=0)[1] > 0).sum())
    with pytest.raises(ValueError, match="does not hold a folder per case"):
        write_set(tmp_path / "set", 2)
        train(tiny(tmp_path / "set", tmp_path / "other", structures=("liver",)))


def test_names_of_labels_become_names_of_files():
    recipe = Recipe(classes=(1, 2, 3, 4), label_names=("a/b", "a b", "..", "Leber ü"))
    assert mask_names(recipe) == ["a_b", "a_b_2", "label_3", "Leber_ü"]
    assert mask_names(Recipe()) == ["label_1"]
