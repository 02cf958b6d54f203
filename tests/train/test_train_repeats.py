"""Cross-validation and grid search: every fold and combination once, also when stopped in between."""

from __future__ import annotations

import csv
import json
import math
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch

from ncafast import checkpoint
from ncafast.train import Fold, cross_validate, make_folds, read_folds, search, write_folds

NAMES = [f"case_{number:02}" for number in range(11)]


def test_every_name_is_measured_on_once():
    folds = make_folds(NAMES, 4, seed=3)
    assert sorted(name for fold in folds for name in fold.val) == NAMES
    assert sorted(len(fold.val) for fold in folds) == [2, 3, 3, 3]
    for fold in folds:
        assert sorted((*fold.train, *fold.val)) == NAMES
    assert make_folds(NAMES[::-1], 4, seed=3) == folds != make_folds(NAMES, 4, seed=4)
    for wrong in (1, 12):
        with pytest.raises(ValueError, match=f"{wrong} folds of 11 names"):
            make_folds(NAMES, wrong)
    with pytest.raises(ValueError, match="twice"):
        make_folds(["a", "a", "b"], 2)


def test_split_files_are_nnunets(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text('[{"train": ["a", "b"], "val": ["c"]}, {"train": ["b", "c"], "val": ["a"]}]')
    assert read_folds(path) == (Fold(("a", "b"), ("c",)), Fold(("b", "c"), ("a",)))
    folds = make_folds(NAMES)
    write_folds(path, folds)
    assert json.loads(path.read_text())[0] == {"train": list(folds[0].train), "val": list(folds[0].val)}
    assert read_folds(path) == folds
    train, val = folds[1].write_lists(tmp_path / "lists")
    assert tuple(train.read_text().split()) == folds[1].train and tuple(val.read_text().split()) == folds[1].val


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no split file"),
        ("[]", "holds no fold"),
        ('[{"train": ["a"]}]', "'val' is missing"),
        ('[{"train": ["a"], "val": "b"}]', "no list of names"),
        ('[{"train": ["a"], "val": ["a"]}]', "in fold 0 'a' stands on both sides"),
        ('[{"train": [], "val": ["a"]}]', "in fold 0 a side is empty"),
    ],
)
def test_other_files_are_named_in_one_line(tmp_path, text, said):
    path = tmp_path / "splits.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        read_folds(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_cross_validation_goes_on_where_it_was_stopped(tmp_path):
    folds, trained = make_folds(NAMES, 3), []

    def train(number, fold, folder):
        trained.append(number)
        assert folder == tmp_path / f"fold_{number}" and fold == folds[number]
        if len(trained) == 2:
            raise KeyboardInterrupt
        return {"dice": 0.5 + 0.1 * number**2}

    with pytest.raises(KeyboardInterrupt):
        cross_validate(folds, train, tmp_path)
    rows = cross_validate(folds, train, tmp_path)
    assert trained == [0, 1, 1, 2]
    values = [0.5, 0.6, 0.9]
    assert [row["dice"] for row in rows[:3]] == values
    assert rows[3]["dice"] == pytest.approx(statistics.mean(values))
    assert rows[4]["dice"] == pytest.approx(statistics.stdev(values))
    assert cross_validate(folds, train, tmp_path) == rows and len(trained) == 4
    with (tmp_path / "results.csv").open() as file:
        assert [row["fold"] for row in csv.DictReader(file)] == ["0", "1", "2", "mean", "std"]


def test_a_search_tries_every_combination_once_and_ranks_them(tmp_path):
    tried = []

    def train(options, folder):
        tried.append((options["lr"], options["sizes"]))
        if len(tried) == 3:
            raise KeyboardInterrupt
        folder.mkdir()
        return {"loss": options["lr"] * 10 + len(options["sizes"])}

    grid = {"lr": [0.1, 0.2], "sizes": [(7,), (7, 3)]}
    with pytest.raises(KeyboardInterrupt):
        search(grid, train, tmp_path, by="loss")
    rows = search(grid, train, tmp_path, by="loss")
    assert tried == [(0.1, (7,)), (0.1, (7, 3)), (0.2, (7,)), (0.2, (7,)), (0.2, (7, 3))]
    assert [row["loss"] for row in rows] == [4, 3, 3, 2]
    assert [row["loss"] for row in search(grid, train, tmp_path, by="loss", lowest=True)] == [2, 3, 3, 4]
    with (tmp_path / "results.csv").open() as file:
        assert [float(row["loss"]) for row in csv.DictReader(file)] == [2, 3, 3, 4]
    with pytest.raises(ValueError, match=r"holds several trainings, see its results\.csv; give the folder of one"):
        checkpoint.find(tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} >= {"lr=0.1,sizes=7", "lr=0.2,sizes=7-3"}
    search({"lr": [0.1, 0.3], "sizes": [(7,)]}, train, tmp_path, by="loss")
    assert tried[5:] == [(0.3, (7,))]
    with pytest.raises(ValueError, match="by='dice' is not among what was measured: loss"):
        search(grid, train, tmp_path, by="dice")
    with pytest.raises(ValueError, match="no value for lr"):
        search({"lr": []}, train, tmp_path, by="loss")
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ValueError, match=r"results\.json: is corrupt .*delete it"):
        search(grid, train, tmp_path, by="loss")


def test_results_of_other_folds_are_refused(tmp_path):
    folds = make_folds(["a", "b", "c", "d"], 2)
    cross_validate(folds, lambda number, fold, folder: {"dice": 0.5}, tmp_path)
    for others in (make_folds(["a", "b", "c", "d"], 4), make_folds(["e", "f", "g", "h"], 2)):
        with pytest.raises(ValueError, match="folds.json: the folder holds results of other folds"):
            cross_validate(others, lambda number, fold, folder: {"dice": 1.0}, tmp_path)
    assert cross_validate(folds, lambda number, fold, folder: {"dice": 1.0}, tmp_path)[0]["dice"] == 0.5


@pytest.mark.parametrize("lowest", [False, True])
def test_nan_ranks_last(tmp_path, lowest):
    found = search(
        {"lr": [1, 2, 3]}, lambda options, folder: {"loss": [0, math.nan, 0.5, 0.25][options["lr"]]}, tmp_path,
        by="loss", lowest=lowest,
    )  # fmt: skip
    assert [row["lr"] for row in found] == ([3, 2, 1] if lowest else [2, 3, 1])


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([None], r"train returned None \(is a return missing\?\) for fold=0; return a dict of numbers"),
        ([0.5], "train returned a float for fold=0; return a dict"),
        ([{}], "train returned an empty dict for fold=0"),
        ([{"dice": "0.5"}], "train returned dice='0.5' for fold=0; return a dict of numbers"),
        ([{"dice": None}], "train returned dice=None for fold=0"),
        ([{"dice": [1]}], r"train returned dice=\[1\] for fold=0"),
        ([{"fold": 1}], "train returned 'fold' for fold=0, which names a column already"),
        ([{"dice": 0.5}, {"iou": 0.5}], "train returned iou for fold=1, and dice before; return the same names"),
    ],
)
def test_what_a_fold_returns_is_looked_at_at_once(tmp_path, answers, said):
    own, trained = iter(answers), []

    def train(number, fold, folder):
        trained.append(number)
        return next(own)

    with pytest.raises(ValueError, match=said):
        cross_validate(make_folds(NAMES, 3), train, tmp_path)
    assert trained == list(range(len(answers)))
    with pytest.raises(ValueError, match="folds is empty"):
        cross_validate([], train, tmp_path / "b")


def test_numbers_of_torch_and_numpy_are_numbers(tmp_path):
    (row,) = search({"lr": [1]}, lambda o, f: {"a": torch.tensor(0.5), "b": np.float32(2), "c": 3}, tmp_path, by="a")
    assert (row["a"], row["b"], row["c"]) == (0.5, 2.0, 3)


def test_what_to_rank_by_is_missed_after_the_first_training(tmp_path):
    tried = []

    def train(options, folder):
        tried.append(options)
        return {"loss": 1.0}

    with pytest.raises(ValueError, match="by='dice' is not among what was measured: loss"):
        search({"lr": [1, 2, 3]}, train, tmp_path, by="dice")
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({}, "grid is empty"),
        ({"loss": "bce"}, r"grid gives 'bce' for loss; give a list of values, such as \['bce'\]"),
        ({"lr": 0.1}, "grid gives 0.1 for lr; give a list"),
        ({"lr": [0.1, 0.1]}, "grid gives 0.1 twice for lr"),
        ({"data": [Path("x")]}, "give numbers, text"),
        ({"name": ["a b", "a_b"]}, "would share the folder name=a_b"),
    ],
)
def test_a_grid_that_is_none_is_refused(tmp_path, grid, said):
    with pytest.raises(ValueError, match=said):
        search(grid, lambda options, folder: {"loss": 1.0}, tmp_path / "out", by="loss")
    assert not (tmp_path / "out").exists()


def test_a_folder_keeps_the_results_of_one_kind(tmp_path):
    def train(options, folder):
        return {"loss": 1.0}

    search({"lr": [1, 2], "hidden": [3]}, train, tmp_path / "a", by="loss")
    for other in ({"lr": [1]}, {"lr": [1], "hidden": [3], "seed": [0]}, {"width": [1]}):
        with pytest.raises(ValueError, match="grid.json: the folder holds results of a search over other options"):
            search(other, train, tmp_path / "a", by="loss")
    with pytest.raises(ValueError, match=r"a: holds the results of grid\.json; give another folder"):
        cross_validate(make_folds(NAMES, 3), lambda n, f, p: {"dice": 1.0}, tmp_path / "a")
    cross_validate(make_folds(NAMES, 3), lambda n, f, p: {"dice": 1.0}, tmp_path / "b")
    with pytest.raises(ValueError, match=r"b: holds the results of folds\.json; give another folder"):
        search({"lr": [1]}, train, tmp_path / "b", by="loss")
    (tmp_path / "b" / "folds.json").write_text("{")
    with pytest.raises(ValueError, match=r"folds\.json: is corrupt"):
        cross_validate(make_folds(NAMES, 3), lambda n, f, p: {"dice": 1.0}, tmp_path / "b")
