"""Old names of options: taken for one release with a note, and read in files of earlier releases."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from ncafast import cli
from ncafast.tasks import demo, mednca, on_demand, selfclassify, texture
from ncafast.tasks.repeats.config import grid_options
from ncafast.tasks.repeats.grid import parse_grid
from ncafast.train import Settings, cross_validate, make_folds, search
from ncafast.train.run_folder import RunFolder
from ncafast.utils.renamed import NAMES, VALUES

PLACE = Path("place")
OLD = [
    (Settings, {}, "out", "output", PLACE),
    (demo.DemoConfig, {}, "out", "output", PLACE),
    (grid_options("growing"), {"over": ("lr=1",)}, "out", "output", PLACE),
    (texture.StudyConfig, {"image": PLACE}, "channels", "state_channels", (7,)),
    (texture.StudyConfig, {"image": PLACE}, "settle", "start", 7),
    (texture.TrainConfig, {"image": PLACE}, "pool", "pool_size", 7),
    (texture.AnimateConfig, {"model": PLACE}, "scale", "zoom", 7),
    (mednca.AnimateConfig, {"model": PLACE, "input": PLACE}, "scale", "zoom", 7),
    (selfclassify.TrainConfig, {"data": PLACE}, "held_out", "val_count", 7),
    (selfclassify.TrainConfig, {"data": PLACE}, "channels", "state_channels", 77),
]


@pytest.mark.parametrize(("kind", "needed", "old", "new", "value"), OLD)
def test_options_take_an_old_name_with_a_note(kind, needed, old, new, value):
    with pytest.warns(FutureWarning, match=f"{kind.__name__}: {old} is now called {new}; the old name is taken in"):
        options = kind(**needed, **{old: value})
    assert options == kind(**needed, **{new: value})
    with pytest.warns(FutureWarning, match=f"{old} is now called {new}"):
        assert getattr(options, old) == value
    with pytest.warns(FutureWarning, match=f"{old} is now called {new}"):
        assert getattr(dataclasses.replace(kind(**needed), **{old: value}), new) == value
    options = kind(**needed)
    with pytest.warns(FutureWarning, match=f"{old} is now called {new}"):
        setattr(options, old, value)
    assert getattr(options, new) == value


def test_an_old_value_is_taken_with_a_note():
    with pytest.warns(FutureWarning, match="loss='ce' is now called 'cross-entropy'"):
        assert selfclassify.TrainConfig(data=PLACE, loss="ce").loss == "cross-entropy"  # type: ignore[arg-type]


def test_names_that_still_mean_something_else_are_left_alone():
    options = mednca.TrainConfig(channels=(1,), scale=4)
    assert (options.channels, options.scale, options.state_channels) == ((1,), 4, 16)
    assert parse_grid(("scale=2,4",), mednca.TrainConfig) == {"scale": [2, 4]}
    with pytest.raises(TypeError, match="colour"):
        Settings(colour=1)  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="'Settings' object has no attribute 'pool'"):
        _ = Settings().pool  # type: ignore[attr-defined]


def test_a_class_of_options_that_declares_an_old_name_declares_the_new_one():
    with pytest.warns(FutureWarning, match="Older: out is now called output"):

        @dataclasses.dataclass
        class Older(Settings):
            out: Path = PLACE

    assert Older().output == PLACE and "out" not in {field.name for field in dataclasses.fields(Older)}


def test_every_old_name_is_of_an_option_that_there_is():
    kinds = [kind for task in on_demand.TASKS for kind in vars(on_demand.options_of(task)).values()]
    known = {field.name for kind in kinds if dataclasses.is_dataclass(kind) for field in dataclasses.fields(kind)}
    assert set(NAMES.values()) <= known and {name for name, _ in VALUES} <= known


def test_the_command_line_takes_old_names_and_values_with_a_note(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr("ncafast.commands.on_demand.run", lambda *given: seen.append(given[-1]) or pytest.skip)
    words = "train selfclassify --data d --out=a --channels 30 --loss ce --held_out 4"
    with pytest.raises(AttributeError):  # nothing has been trained
        cli.main(words.split())
    (options,) = seen
    assert options == selfclassify.TrainConfig(
        data=Path("d"), output=Path("a"), state_channels=30, loss="cross-entropy", val_count=4
    )
    assert capsys.readouterr().out.splitlines() == [
        f"note: {old} is now called {new}; the old name is taken in this release for the last time"
        for old, new in (("--out", "--output"), ("--channels", "--state-channels"), ("--loss ce", "cross-entropy"),
                         ("--held_out", "--val-count"))
    ]  # fmt: skip


def test_a_search_takes_old_names_and_values(capsys):
    grid = parse_grid(("channels=12,14", "loss=ce,l2"), selfclassify.TrainConfig)
    assert grid == {"state_channels": [12, 14], "loss": ["cross-entropy", "l2"]}
    assert capsys.readouterr().out.count("note: --") == 2


def test_a_run_with_old_names_in_its_config_is_the_same_run(tmp_path):
    options = selfclassify.TrainConfig(data=PLACE, output=tmp_path, threads=1)
    RunFolder(tmp_path).claim(options, {})
    path = tmp_path / "config.json"
    found = json.loads(path.read_text())
    for old, new in (("out", "output"), ("channels", "state_channels"), ("held_out", "val_count")):
        found[old] = found.pop(new)
    path.write_text(json.dumps(found | {"loss": "ce"}))
    RunFolder(tmp_path).claim(options, {})
    with pytest.raises(ValueError, match=r"state_channels \(here 20, asked 30\)"):
        RunFolder(tmp_path).claim(dataclasses.replace(options, state_channels=30), {})


def test_a_search_of_an_earlier_release_goes_on_in_its_folders(tmp_path):
    seen = []

    def train(point, folder):
        seen.append(folder.name)
        folder.mkdir(exist_ok=True)
        return {"val_loss": float(len(seen))}

    old = {"channels": [4], "pool_size": [8], "loss": ["ce"]}
    new = {"state_channels": [4, 5], "pool_size": [8], "loss": ["cross-entropy"]}
    search(old, train, tmp_path, by="val_loss", options={"held_out": 3, "lr": 1})
    rows = search(new, train, tmp_path, by="val_loss", options={"val_count": 3, "lr": 1})
    assert seen == ["channels=4,pool_size=8,loss=ce", "state_channels=5,pool_size=8,loss=cross-entropy"]
    assert [row["state_channels"] for row in rows] == [5, 4] and rows[1]["loss"] == "cross-entropy"
    (tmp_path / "results.json").unlink()  # so that all is trained anew, in the folders that there are
    search(new, train, tmp_path, by="val_loss", options={"val_count": 3, "lr": 1})
    assert seen[2:] == seen[:2]
    with pytest.raises(ValueError, match=r"val_count \(here 3, asked 4\)"):
        search(new, train, tmp_path, by="val_loss", options={"val_count": 4, "lr": 1})


def test_functions_take_an_old_keyword(tmp_path):
    with pytest.warns(FutureWarning, match="search: out is now called output"):
        search({"lr": [1]}, lambda point, folder: {"loss": 1}, out=tmp_path / "a", by="loss")
    with pytest.warns(FutureWarning, match="cross_validate: out is now called output"):
        cross_validate(make_folds("abcd", 2), lambda number, fold, folder: {"loss": 1}, out=tmp_path / "b")
    assert (tmp_path / "a" / "grid.json").exists() and (tmp_path / "b" / "folds.json").exists()
