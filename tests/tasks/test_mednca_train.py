"""Training Med-NCA: it learns, and wherever it is stopped it goes on to the same weights."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import random
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from kills import kill_until_done
from nifti import blob, tiny, write, write_set
from safetensors.torch import load_file

from ncafast import checkpoint
from ncafast.losses import DiceBCELoss
from ncafast.models import MedNCA
from ncafast.tasks import base
from ncafast.tasks.mednca import job, train
from ncafast.train import TrainingStopped
from ncafast.train.run_folder import RunFolder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("data"), 4)


def weights(folder: Path) -> dict[str, bytes]:
    """Every bit of both checkpoints' tensors, and the epoch they are of."""
    content: dict[str, bytes] = {}
    for name in ("best", "last"):
        path = folder / f"{name}.safetensors"
        content[name] = checkpoint.describe(path)["facts"].encode()
        for key, tensor in load_file(path).items():
            content[f"{name} {key}"] = tensor.numpy().tobytes()
    assert len(content) > 10
    return content


def test_it_learns_what_is_bright(tmp_path):
    data = write_set(tmp_path / "data", 5)
    options = {"state_channels": 8, "hidden": 16, "steps": (6, 6), "epochs": 8, "lr": 0.01}
    result = train(tiny(data, tmp_path / "run", lr_gamma=0.8, **options))
    assert result.best_dice is not None
    assert result.best_dice > 0.85
    losses = [row["loss"] for row in result.history]
    assert losses[-1] < 0.4 * losses[0]
    dices = [row["val_dice"] for row in result.history]
    assert result.best_dice == max(dices)
    assert result.best_epoch == 1 + dices.index(max(dices))
    rates = [row["lr"] for row in result.history]
    assert rates == pytest.approx([0.01 * 0.8**k for k in range(8)])


def test_what_a_run_leaves(data, tmp_path):
    result = train(tiny(data, tmp_path / "run", tensorboard=True))
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert sorted(split["train"]) == list(result.train)
    assert sorted(split["held_out"]) == list(result.held_out)
    assert len(result.held_out) == 1
    assert not set(result.train) & set(result.held_out)

    with (tmp_path / "run" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["val_dice"]) == result.history[1]["val_dice"]

    described = checkpoint.describe(result.best)
    assert described["task"] == "mednca"
    assert json.loads(described["recipe"])["axis"] == "axial"
    assert json.loads(described["facts"])["epoch"] == result.best_epoch
    assert (tmp_path / "run" / "curves.png").stat().st_size > 5000
    assert [p.stem for p in (tmp_path / "run" / "pictures").iterdir()] == list(result.held_out)

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [e.step for e in events.Scalars("train/dice_loss")] == list(range(1, 15))
    assert [e.step for e in events.Scalars("epoch/val_dice")] == [7, 14]
    assert [e.step for e in events.Images(f"held out/{result.held_out[0]}")][-1] == 14  # epochs are quick


def test_a_finished_run_is_left_alone(data, tmp_path, capsys):
    config = tiny(data, tmp_path / "run")
    first = train(config)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    for path in files:
        os.utime(path, ns=(1, 1))  # a clock's ticks can be longer than the test
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files}
    capsys.readouterr()
    again = train(config)
    assert "this run is finished (2 epochs); raise epochs to train longer" in capsys.readouterr().out
    assert again.history == first.history
    after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file()}
    assert after == before


def test_the_weights_depend_on_the_seed_and_on_nothing_around(data, tmp_path):
    train(tiny(data, tmp_path / "a"))
    torch.manual_seed(123)
    torch.randn(7)
    train(tiny(data, tmp_path / "b", save_every=1, pictures=0, cache=tmp_path / "cache"))
    train(tiny(data, tmp_path / "c", seed=1))
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a") != weights(tmp_path / "c")


def test_a_longer_run_equals_one_made_longer(data, tmp_path):
    train(tiny(data, tmp_path / "a", epochs=1))
    train(tiny(data, tmp_path / "a", epochs=2))
    train(tiny(data, tmp_path / "b", epochs=2))
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_a_folder_with_other_options_is_refused(data, tmp_path):
    config = tiny(data, tmp_path / "run", epochs=1)
    train(config)
    with pytest.raises(ValueError, match="other options") as error:
        train(dataclasses.replace(config, lr=0.5, flip=True))
    text = str(error.value)
    assert "lr (here 0.002, asked 0.5)" in text
    assert "flip (here False, asked True)" in text
    assert "hidden" not in text
    assert str(tmp_path / "run") in text


def test_a_folder_with_other_volumes_is_refused(tmp_path):
    data = write_set(tmp_path / "data", 4)
    train(tiny(data, tmp_path / "run", epochs=1))
    image, label = blob(seed=77)
    write(data / "imagesTr" / "case_0.nii.gz", image[:10])
    write(data / "labelsTr" / "case_0.nii.gz", label[:10])
    with pytest.raises(ValueError, match="other volumes or another split"):
        train(tiny(data, tmp_path / "run"))


def test_moved_data_is_the_same_data(tmp_path):
    data = write_set(tmp_path / "data", 4)
    train(tiny(data, tmp_path / "a", epochs=1))
    data = data.rename(tmp_path / "elsewhere")
    train(tiny(data, tmp_path / "a"))
    train(tiny(data, tmp_path / "b"))
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


class PowerCut(Exception):
    """Stands for the end of the process at one point."""


WRITES = [
    (checkpoint, "save"),
    (RunFolder, "save_resume"),
    (RunFolder, "write_history"),
    (base, "write_png"),  # of the last epoch
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("writer", range(len(WRITES)))
def test_stopping_before_or_after_any_write_changes_nothing(data, tmp_path, monkeypatch, writer, after):
    config = tiny(data, tmp_path / "run")
    owner, name = WRITES[writer]
    original = getattr(owner, name)
    chance = random.Random(5)
    stops = 0

    def cut(*arguments, **facts):
        stop = stops == 0 or chance.random() < 0.4
        if after or not stop:
            original(*arguments, **facts)
        if stop:
            raise PowerCut

    finished = False
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, cut)
        while not finished and stops < 50:
            try:
                train(config)
                finished = True
            except PowerCut:
                stops += 1
    assert finished
    assert stops > 0
    whole = train(tiny(data, tmp_path / "whole"))
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in train(config).history]
    expected = [{k: v for k, v in row.items() if k != "seconds"} for row in whole.history]
    assert rows == expected


def test_killing_at_any_moment_changes_nothing(data, tmp_path):
    config = tiny(data, tmp_path / "run", epochs=8, save_every=1, tensorboard=True)
    assert len(list(kill_until_done(train, (config,), early=True))) == 6
    train(tiny(data, tmp_path / "whole", epochs=8))
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def test_a_damaged_resume_file_is_named(data, tmp_path):
    config = tiny(data, tmp_path / "run", epochs=1)
    train(config)
    resume = tmp_path / "run" / "resume.pt"
    resume.write_bytes(resume.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"resume\.pt is corrupt"):
        train(config)


def _without(key: str):
    return lambda state: state.pop(key)


def _replaced(value: object, *keys: str):
    """A change that puts a value where the keys lead."""

    def change(state):
        for key in keys[:-1]:
            state = state[key]
        state[keys[-1]] = value

    return change


DAMAGE = {
    "step=10**6": _replaced(10**6, "step"),
    "step=-1": _replaced(-1, "step"),
    "step=3.5": _replaced(3.5, "step"),
    "epoch=-3": _replaced(-3, "epoch"),
    "epoch=x": _replaced("x", "epoch"),
    "epoch=10**6": _replaced(10**6, "epoch"),
    "no epoch": _without("epoch"),
    "sums={}": _replaced({}, "sums"),
    "sums=None": _replaced(None, "sums"),
    "sums.bce=nan": _replaced(float("nan"), "sums", "bce"),
    "history=None": _replaced(None, "history"),
    "history=[1]": _replaced([1], "history"),
    "history.loss=x": lambda state: state["history"][0].update(loss="x"),
    "best={}": _replaced({}, "best"),
    "best.value=nan": _replaced(float("nan"), "best", "value"),
    "best.epoch=7": _replaced(7, "best", "epoch"),
    "optimiser=None": _replaced(None, "optimiser"),
    "optimiser=[1]": _replaced([1], "optimiser"),
    "optimiser.lr=x": lambda state: state["optimiser"]["param_groups"][0].update(lr="x"),
    "optimiser.exp_avg": lambda state: state["optimiser"]["state"][0].update(exp_avg=torch.zeros(3)),
    "schedule=None": _replaced(None, "schedule"),
    "schedule={}": _replaced({}, "schedule"),
    "schedule.last_epoch": _replaced(5, "schedule", "last_epoch"),
    "model=None": _replaced(None, "model"),
    "model={}": _replaced({}, "model"),
}


@pytest.fixture(scope="module")
def halfway(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one epoch, to be made longer."""
    folder = tmp_path_factory.mktemp("halfway") / "run"
    train(tiny(data, folder, epochs=1))
    return folder


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_resume_file_that_does_not_fit_is_named(data, halfway, tmp_path, kind):
    shutil.copytree(halfway, tmp_path / "run")
    resume = tmp_path / "run" / "resume.pt"
    state = checkpoint.load_resume(resume)
    DAMAGE[kind](state)
    checkpoint.save_resume(resume, state)
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.*")}
    for epochs in (1, 2):
        with pytest.raises(ValueError) as error:
            train(tiny(data, tmp_path / "run", epochs=epochs))
        text = str(error.value)
        assert text.startswith(f"{resume}: is corrupt") and "; delete it to start anew; " in text
        kept = "best.safetensors and last.safetensors can still be used, until the new run replaces them"
        assert text.endswith(kept)
        assert "\n" not in text and len(text) < 500
    assert {path: path.read_bytes() for path in (tmp_path / "run").glob("*.*")} == before
    resume.unlink()  # as it says
    assert len(train(tiny(data, tmp_path / "run", epochs=2)).history) == 2


@pytest.mark.parametrize("value", ["x", -1, 0, 2.5, 10**6, [1]])
def test_damaged_options_of_a_run_are_named(data, tmp_path, value):
    config = tiny(data, tmp_path / "run", epochs=1)
    RunFolder(config.output).claim(config, {})
    path = config.output / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"threads": value}))
    with pytest.raises(ValueError, match=r"config\.json: is corrupt \(threads=.*\); give another folder with --output"):
        train(dataclasses.replace(config, threads=None))


def test_a_place_that_cannot_be_written_is_said_before_any_work(data, tmp_path):
    (tmp_path / "file").touch()
    for options, said in (
        ({"output": tmp_path / "file" / "run"}, "--output"),
        ({"cache": tmp_path / "file"}, "--cache"),
    ):
        with pytest.raises(ValueError, match=f"^{said} .*file is not a folder"):
            train(dataclasses.replace(tiny(data, tmp_path / "run"), **options))
    assert not (tmp_path / "run").exists()


def test_volumes_of_any_name_are_trained_on(tmp_path):
    names = [r"a$\frac$", b"caf\xe9".decode("utf-8", "surrogateescape"), "b\nc"]
    for number, name in enumerate(names):
        image, label = blob(seed=number)
        write(tmp_path / "d" / f"{name}_image.nii.gz", image)
        write(tmp_path / "d" / f"{name}_seg.nii.gz", label)
    options = {"epochs": 1, "val_fraction": 0.7, "pictures": 2, "tensorboard": True, "steps": (1, 1)}
    result = train(tiny(tmp_path / "d", tmp_path / "run", **options))
    assert sorted(result.train + result.held_out) == sorted(names) and len(result.held_out) == 2
    assert {path.stem for path in (tmp_path / "run" / "pictures").iterdir()} == set(result.held_out)


@pytest.mark.parametrize("culprit", ["loss", "gradient"])
def test_nan_stops_with_the_last_good_weights(data, tmp_path, monkeypatch, culprit):
    original, calls = DiceBCELoss.terms, 0

    def fail(loss, logits, target, valid):
        nonlocal calls
        calls += 1
        dice_loss, bce = original(loss, logits, target, valid)
        if calls == 11:
            bad = torch.tensor(float("nan")) if culprit == "loss" else (logits * 0).sum().sqrt()
            return dice_loss + bad, bce
        return dice_loss, bce

    monkeypatch.setattr(DiceBCELoss, "terms", fail)
    with pytest.raises(TrainingStopped) as error:
        train(tiny(data, tmp_path / "run"))
    text = str(error.value)
    assert "in epoch 2, step 4" in text
    assert "lower lr (now 0.002)" in text
    assert ("the loss became nan" if culprit == "loss" else "the gradient became") in text
    last = tmp_path / "run" / "last.safetensors"
    assert str(last) in text
    model = checkpoint.load(last)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert json.loads(checkpoint.describe(last)["facts"]) == {"epoch": 1, "step": 2}


def test_labels_without_a_class_are_named_as_they_are(tmp_path):
    data = write_set(tmp_path / "data", 2)
    for path in (data / "labelsTr").iterdir():
        label = np.zeros(nib.load(path).shape, np.int16)
        label[:2] = -1
        write(path, label)
    with pytest.raises(ValueError, match="no training label holds a value above 0; they hold -1: choose --classes"):
        train(tiny(data, tmp_path / "run"))
    for path in (data / "labelsTr").iterdir():
        write(path, np.zeros(nib.load(path).shape, np.int16))
    with pytest.raises(ValueError, match="they hold only background .0.: give label maps in which something is drawn"):
        train(tiny(data, tmp_path / "run"))


def test_unusable_files_are_listed_and_the_others_used(tmp_path, capsys):
    data = write_set(tmp_path / "data", 5)
    (data / "imagesTr" / "case_1.nii.gz").write_bytes(b"\x1f\x8bjunk")
    (data / "labelsTr" / "case_2.nii.gz").unlink()
    result = train(tiny(data, tmp_path / "run", epochs=1))
    assert sorted(result.train + result.held_out) == ["case_0", "case_3", "case_4"]
    said = capsys.readouterr().out
    for name, reason in (("case_1", "truncated or corrupt"), ("case_2", "has no label map")):
        assert any(name in line and reason in line for line in said.splitlines())
    assert {item.path.name for item in result.skipped} == {"case_1.nii.gz", "case_2.nii.gz"}


def test_nothing_usable_is_an_error(tmp_path):
    data = write_set(tmp_path / "data", 2)
    for path in (data / "imagesTr").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 2 images can be used"):
        train(tiny(data, tmp_path / "run"))


@pytest.mark.parametrize(
    ("option", "value"),
    [("epochs", 0), ("batch_size", 0), ("lr", 0.0), ("lr", float("nan")), ("clip", -1.0), ("device", "abacus"),
     ("val_fraction", 1.0), ("crop", 0), ("threads", 0), ("threads", 1025), ("scale", 1025), ("fire_rate", 2.0),
     ("classes", (9,))],
)  # fmt: skip
def test_wrong_options_are_refused(data, tmp_path, option, value):
    with pytest.raises(ValueError, match=f"{option}|{value}"):
        train(tiny(data, tmp_path / "run", **{option: value}))


def test_threads_are_kept_and_given_back(data, tmp_path):
    before = torch.get_num_threads()
    short = {"epochs": 1, "batch_size": 27, "steps": (1, 1)}
    train(tiny(data, tmp_path / "run", threads=2, **short))
    assert torch.get_num_threads() == before
    train(tiny(data, tmp_path / "run", threads=None, **short))
    with pytest.raises(ValueError, match=r"threads \(here 2, asked 1\)"):
        train(tiny(data, tmp_path / "run", threads=1, **short))


def test_length_and_schedule_follow_the_amount_of_data(data, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "_STEPS", 20)
    free = {"epochs": None, "lr_step": None, "lr": 0.01, "lr_gamma": 0.5}
    result = train(tiny(data, tmp_path / "run", batch_size=6, **free))  # 27 slices, 5 steps an epoch
    assert [row["lr"] for row in result.history] == pytest.approx([0.01, 0.01, 0.005, 0.005])
    # The run keeps what was settled at its start.
    monkeypatch.setattr(job, "_STEPS", 1)
    assert len(train(tiny(data, tmp_path / "run", batch_size=6, **free)).history) == 4
    assert len(train(tiny(data, tmp_path / "run", batch_size=6, **(free | {"epochs": 5}))).history) == 5


def test_classes_channels_crops_and_mirrors(tmp_path):
    for number in range(3):
        image, label = blob((8, 9 + number, 7), seed=number)
        two = np.stack([image, image[::-1], -image], -1)
        write(tmp_path / "d" / f"c{number}_image.nii.gz", two)
        write(tmp_path / "d" / f"c{number}_seg.nii.gz", label)
    options = {"classes": (2, 1), "channels": (0, 2), "crop": 6, "flip": True, "skip_empty": True}
    result = train(tiny(tmp_path / "d", tmp_path / "run", val_fraction=0.3, clip=0.0, **options))
    row = result.history[-1]
    assert row["val_dice"] == pytest.approx((row["val_dice_2"] + row["val_dice_1"]) / 2)
    model = checkpoint.load(result.last)
    assert (model.image_channels, model.classes) == (2, 2)


def test_nothing_held_out_takes_the_lowest_loss(data, tmp_path):
    result = train(tiny(data, tmp_path / "run", val_fraction=0.0, lr=0.01))
    assert result.best_dice is None
    losses = [row["loss"] for row in result.history]
    assert result.best_epoch == 1 + losses.index(min(losses))
    assert all(row["val_dice"] is None for row in result.history)


def test_the_steps_of_a_level_may_vary(tmp_path, monkeypatch):
    seen, real = [], MedNCA._levels_output

    def watched(self, image, steps, **options):
        seen.append(steps)
        return real(self, image, steps, **options)

    monkeypatch.setattr(MedNCA, "_levels_output", watched)
    data = write_set(tmp_path / "data", 3)
    train(tiny(data, tmp_path / "run", steps=(5, 4), step_jitter=0.25, epochs=1, batch_size=1))
    drawn = [steps for steps in seen if steps is not None]
    assert {first for first, _ in drawn} == {4, 5, 6} and {second for _, second in drawn} == {3, 4, 5}
    assert None in seen  # held-out volumes are segmented with the steps of the model
    with pytest.raises(ValueError, match="step_jitter=0.25 is not allowed; with --domain-parallel"):
        train(tiny(data, tmp_path / "other", dims=3, step_jitter=0.25, domain_parallel=2))
