"""`ncafast crossvalidate` and `ncafast search`: every fold and combination once, what is measured, and bad input."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import statistics
from pathlib import Path

import imageio.v3 as iio
import pytest
from cells import tiny as tiny_cells
from cells import write_folders, write_npz
from nifti import tiny as tiny_volumes
from nifti import write_set

from ncafast import cli
from ncafast.tasks import TASKS, base, classification, mednca
from ncafast.tasks.classification.options import TrainConfig as Cells
from ncafast.tasks.on_demand import find
from ncafast.tasks.repeats import crossvalidate, pictures, search
from ncafast.tasks.repeats.config import fold_options, grid_options
from ncafast.tasks.repeats.grid import parse_grid
from ncafast.tasks.repeats.training import training
from ncafast.tasks.texture import TrainConfig as Texture
from ncafast.train import Fold, TrainingStopped, make_folds, write_folds
from ncafast.utils.tables import columns

SHORT = {"steps": (2, 3), "hidden": 8, "epochs": 1, "ema": 0.0, "pictures": 0}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("data"), 4)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cells")
    write_folders(folder, 6)
    return folder


def of(kind: type, plain: object, **options: object):
    """The options of a repetition, from those of a training."""
    return kind(**{field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)} | options)


def test_folds_of_volumes_are_those_of_nnunets_file(volumes, tmp_path, capsys):
    names = [f"case_{number}" for number in range(4)]
    folds = (Fold(tuple(names[:3]), (names[3],)), Fold((names[0], names[3]), (names[1], names[2])))
    write_folds(tmp_path / "splits_final.json", folds)
    config = of(
        fold_options("mednca"), tiny_volumes(volumes, tmp_path / "out", epochs=1), splits=tmp_path / "splits_final.json"
    )
    rows = crossvalidate(config)
    for number, fold in enumerate(folds):
        split = json.loads((tmp_path / "out" / f"fold_{number}" / "split.json").read_text())
        assert sorted(split["train"]) == sorted(fold.train) and sorted(split["held_out"]) == sorted(fold.val)
        scored = mednca.evaluate(
            mednca.EvaluateConfig(tmp_path / "out" / f"fold_{number}", volumes, output=tmp_path / "e", progress=False)
        )
        assert scored.mean["dice"] == pytest.approx(rows[number]["val_dice"], abs=1e-6)
    values = [row["val_dice"] for row in rows[:2]]
    assert rows[2]["val_dice"] == pytest.approx(statistics.mean(values))
    assert rows[3]["val_dice"] == pytest.approx(statistics.stdev(values))
    with (tmp_path / "out" / "results.csv").open() as file:
        assert [row["fold"] for row in csv.DictReader(file)] == ["0", "1", "mean", "std"]
    assert iio.imread(tmp_path / "out" / "results.png").std() > 5
    shown = capsys.readouterr().out
    assert shown.count("epoch 1: loss") == 2 and f"{values[0]:.4g}" in shown
    assert crossvalidate(config) == rows
    assert "epoch 1" not in capsys.readouterr().out  # nothing is trained twice
    with pytest.raises(ValueError, match=r"options.json: .*other options: lr \(here 0.002, asked 0.5\)"):
        crossvalidate(dataclasses.replace(config, lr=0.5))
    with pytest.raises(ValueError, match="results of other folds"):
        crossvalidate(dataclasses.replace(config, splits=None, folds=2))
    write_folds(tmp_path / "splits_final.json", [Fold(("case_0", "case_9"), ("case_1",))])
    with pytest.raises(ValueError, match="--splits .*fold 0 names case_9, which the data do not have"):
        crossvalidate(config)


def test_folds_of_images_have_every_class_alike(cells, tmp_path):
    config = of(fold_options("classification"), tiny_cells(cells, tmp_path / "out", **SHORT), folds=3)
    rows = crossvalidate(config)
    assert len(rows) == 5 and 0 <= rows[0]["val_accuracy"] <= 1
    held = []
    for number in range(3):
        split = json.loads((tmp_path / "out" / f"fold_{number}" / "split.json").read_text())
        own = sorted(Path(name).parts[0] for name in split["held_out"])
        assert all(own.count(kind) == 2 for kind in set(own)) and len(set(own)) == 3
        assert not set(split["train"]) & set(split["held_out"])
        held += split["held_out"]
    assert len(set(held)) == len(held) == 18


def test_every_class_is_divided_evenly_and_no_name_is_lost():
    names, classes = [f"n{number}" for number in range(23)], ["a" if number < 17 else "b" for number in range(23)]
    folds = make_folds(names, 4, 1, classes)
    assert sorted(name for fold in folds for name in fold.val) == sorted(names)
    assert sorted(len(fold.val) for fold in folds) == [5, 6, 6, 6]
    for fold in folds:
        assert sum(classes[names.index(name)] == "b" for name in fold.val) in (1, 2)
    assert make_folds(names[::-1], 4, 1, classes[::-1]) == folds


def test_lists_say_what_a_classifier_learns_from(cells, tmp_path):
    names = [str(path.relative_to(cells)) for path in sorted(cells.rglob("*.png"))]
    (tmp_path / "val.txt").write_text("".join(f"{name}\n" for name in names[::4]))
    config: Cells = tiny_cells(cells, tmp_path / "run", **SHORT)
    classification.train(dataclasses.replace(config, val_list=tmp_path / "val.txt"))
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert sorted(split["held_out"]) == sorted(names[::4])
    assert sorted(split["train"]) == sorted(set(names) - set(names[::4]))
    (tmp_path / "bad.txt").write_text("nobody.png\n")
    with pytest.raises(ValueError, match="bad.txt: names nobody.png, which is not among the usable images"):
        classification.train(dataclasses.replace(config, val_list=tmp_path / "bad.txt"))
    with pytest.raises(ValueError, match="give either --val-data, or --train-list and --val-list"):
        classification.train(dataclasses.replace(config, val_list=tmp_path / "val.txt", val_data=cells))


def test_a_search_ranks_what_the_trainings_measured(volumes, tmp_path, capsys):
    config = of(grid_options("mednca"), tiny_volumes(volumes, tmp_path / "out"), over=("lr=1e-3,2e-2", "hidden=8"))
    rows = search(config)
    assert [row["val_dice"] for row in rows] == sorted((row["val_dice"] for row in rows), reverse=True)
    for row in rows:
        folder = tmp_path / "out" / f"lr={row['lr']},hidden=8"
        history = json.loads((folder / "history.json").read_text())
        options = json.loads((folder / "config.json").read_text())
        assert (options["lr"], options["hidden"]) == (row["lr"], 8)
        assert row["val_dice"] == max(entry["val_dice"] for entry in history)
        assert history[row["best_epoch"] - 1]["val_dice"] == row["val_dice"]
    assert iio.imread(tmp_path / "out" / "results.png").std() > 5
    capsys.readouterr()
    more = search(dataclasses.replace(config, over=("lr=1e-3,2e-2,5e-3", "hidden=8")))
    assert len(more) == 3 and capsys.readouterr().out.count("epoch 2: loss") == 1
    with pytest.raises(ValueError, match="by='val_loss' is not among what was measured"):
        search(dataclasses.replace(config, by="val_loss"))
    with pytest.raises(ValueError, match=r"other options: data \(here .*, asked 'others'\)"):
        search(dataclasses.replace(config, data=Path("others")))


def test_a_training_that_breaks_down_ranks_last(volumes, tmp_path, monkeypatch):
    real = base.train

    def breaks(task, config):
        if config.lr > 1:
            raise TrainingStopped("the loss became nan")
        return real(task, config)

    monkeypatch.setattr(base, "train", breaks)
    plain = tiny_volumes(volumes, tmp_path / "out", epochs=1)
    rows = search(of(grid_options("mednca"), plain, over=("lr=9.0,1e-3",)))
    assert [row["lr"] for row in rows] == [0.001, 9.0] and math.isnan(rows[1]["val_dice"])


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("lr=1e-3,2e-3", "hidden=8,16"), {"lr": [0.001, 0.002], "hidden": [8, 16]}),
        (("--batch-size=4",), {"batch_size": [4]}),
        (("steps=3:4,5:6",), {"steps": [(3, 4), (5, 6)]}),
        (("steps=3,5:6",), {"steps": [(3, 3), (5, 6)]}),
        (("loss=bce,focal", "balanced=true,False"), {"loss": ["bce", "focal"], "balanced": [True, False]}),
        (("patience=none,3",), {"patience": [None, 3]}),
    ],
)
def test_grids_are_read_by_the_options_kinds(words, found):
    assert parse_grid(words, Cells) == found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "over"),
        (["--over", "lr"], "--over lr: has no =; give option=value,value with one of"),
        (["--over", "rate=3"], "--over rate=3: rate is no option to search over"),
        (["--over", "out=a,b"], "out is no option to search over"),
        (["--over", "val_list=a,b"], "val_list is no option to search over"),
        (["--over", "lr=fast"], "--over lr=fast: 'fast' is not allowed; give a number"),
        (["--over", "hidden=1.5"], "'1.5' is not allowed; give a whole number"),
        (["--over", "loss=best"], "'best' is not allowed; choose from cross-entropy, bce, focal"),
        (["--over", "lr=1", "lr=2"], "--over names lr twice"),
        (["--over", "hidden=8,0"], "hidden=0 is not allowed"),
        (["--over", "lr=1,1.0"], "grid gives 1.0 twice for lr"),
        (["--over", "lr=1", "--seed", "-1"], "seed=-1 is not allowed"),
    ],
)
def test_bad_searches_are_one_line(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["search", "classification", "--data", "none", *words]) in (1, 2)
    err = capsys.readouterr().err
    assert said in err
    if words:
        assert err.startswith("ncafast: error: ") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--folds", "1"], "folds=1 is not allowed; give a whole number from 2"),
        (["--folds", "99"], "99 folds of 33 names are not possible"),
        (["--val-list", "x"], "give the folds with --splits"),
        (["--val-data", "x"], "--val-data is for one training"),
        (["--splits", "none.json"], "none.json: there is no such file"),
        (["--loss", "bce", "--lr", "-1"], "lr=-1.0 is not allowed"),  # and the folder is free for other options
    ],
)
def test_bad_folds_are_one_line(words, said, tmp_path, capsys, monkeypatch):
    write_npz(tmp_path / "cells.npz")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["crossvalidate", "classification", "--data", "cells.npz", *words]) == 1
    err = capsys.readouterr().err
    assert err.startswith("ncafast: error: ") and err.count("\n") == 1 and said in err
    assert [path.name for path in tmp_path.iterdir()] == ["cells.npz"]


def test_every_task_can_be_searched_and_ranked_by_what_it_measures():
    for name, options in ((task, grid_options(task)) for task in TASKS):
        assert parse_grid(("lr=0.1",), options) == {"lr": [0.1]}
        given = {"over": ("lr=1",), "image": Path("a.png"), "data": Path("d")}
        fields = {field.name for field in dataclasses.fields(options)}
        assert find(name).rank_by(options(**{key: given[key] for key in given.keys() & fields})).startswith("val_")
    texture = grid_options("texture")(image=Path("a.png"), grid=48, over=("grid=32,48", "lr=0.1"))
    assert training(texture).grid == 48  # the task's own grid is the side of a torus
    assert training(texture, grid=32).grid == 32 and parse_grid(texture.over, Texture)["grid"] == [32, 48]
    assert isinstance(grid_options("classification")(over=("lr=1",)), Cells)


def test_the_picture_of_folds_has_its_legend_above_the_bars(monkeypatch):
    seen = []
    monkeypatch.setattr(pictures, "pixels_of", seen.append)
    rows = [{"fold": number, "val_dice": 0.8 + number / 50} for number in range(3)]
    pictures.draw_folds([*rows, {"fold": "mean", "val_dice": 0.82}, {"fold": "std", "val_dice": 0.02}], "val_dice")
    (axes,) = seen[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("fold that is held out", "held-out Dice")
    seen[0].canvas.draw()
    assert axes.get_legend().get_window_extent().y0 >= axes.get_window_extent().y1
    assert pictures.in_words("loss") == "training loss" and pictures.in_words("val_accuracy") == "held-out accuracy"


def test_tables_are_in_columns():
    lines = columns([{"lr": 0.001, "steps": (3, 4), "x": 12}, {"lr": 0.25, "steps": "mean", "x": 0.123456}])
    assert lines == [
        "   lr  steps       x",
        "--------------------",
        "0.001  3:4        12",
        " 0.25  mean   0.1235",
    ]
