"""The texture task: it learns, stops and goes on to the same bits, runs at any size, and names what is wrong."""

from __future__ import annotations

import csv
import dataclasses
import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_texture import picture, tiny

from ncafast import NCA, backends, checkpoint, save
from ncafast.tasks import base
from ncafast.tasks.base import load
from ncafast.tasks.texture import (
    AnimateConfig,
    EvaluateConfig,
    StudyConfig,
    TrainConfig,
    animate,
    dynamics,
    evaluate,
    job,
    study,
    train,
)
from ncafast.tasks.texture.loss import make_loss
from ncafast.tasks.texture.sample import read_sample
from ncafast.tasks.texture.task import TASK
from ncafast.train import TrainingStopped
from ncafast.utils import progress


def weights(folder: Path) -> dict[str, bytes]:
    return {
        f"{name} {key}": tensor.numpy().tobytes()
        for name in ("best", "last")
        for key, tensor in load_file(folder / f"{name}.safetensors").items()
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run, not good."""
    folder = tmp_path_factory.mktemp("texture")
    train(tiny(picture(folder / "stripes.png"), folder / "run"))
    return folder / "run"


def waves(path: Path, side: int = 40) -> Path:
    """A soft diagonal wave of 8 pixels between two colours."""
    place = np.add.outer(np.arange(side), np.arange(side))[..., None]
    image = np.array([140, 115, 80]) + np.sin(place * 2 * np.pi / 8) * np.array([30, 25, -20])
    iio.imwrite(path, image.astype(np.uint8))
    return path


def test_it_learns_the_texture(tmp_path):
    config = tiny(
        waves(tmp_path / "waves.png"), tmp_path / "run", epochs=12, epoch_length=25, hidden=32, state_channels=8
    )
    config = dataclasses.replace(config, size=32, grid=24, steps=(12, 24), batch_size=3, pool_size=32, lr=2e-3)
    result = train(config)
    sample = read_sample(config.image, 32)
    plain = sample.mean((1, 2), keepdim=True).expand(1, 3, 24, 24)  # the right colours and no pattern
    pointless = make_loss(sample, "patches", None)(plain, torch.Generator().manual_seed(0)).item()
    assert json.loads((result.folder / "config.json").read_text())["loss"] == "patches"
    assert result.history[-1]["texture"] < 0.75 * pointless
    assert result.history[-1]["texture"] < 0.2 * result.history[0]["texture"]
    assert result.best_loss == min(row["val_loss"] for row in result.history)


def test_what_a_run_leaves(run):
    rows = list(csv.DictReader((run / "history.csv").read_text().splitlines()))
    assert len(rows) == 2
    assert {"epoch", "loss", "texture", "overflow", "val_loss"} <= set(rows[0])
    for name in ("curves.png", "pictures/epoch-002.png"):  # of the last epoch in any case
        assert iio.imread(run / name).std() > 1
    metadata = checkpoint.describe(run / "best.safetensors")
    assert metadata["task"] == "texture"
    assert json.loads(metadata["recipe"])["size"] == 24
    assert checkpoint.load(run / "best.safetensors").config() == {
        "num_channels": 6,
        "hidden_neurons": 12,
        "fire_rate": 0.5,
    }


def test_backends_have_the_same_curve(tmp_path):
    """From the same seed, the fused backend and the definition."""
    if "cpu" not in backends.available():
        pytest.skip("no CPU backend here")
    image = picture(tmp_path / "stripes.png")
    curves = {}
    for name in ("reference", "cpu"):
        with backends.use(name):
            curves[name] = train(tiny(image, tmp_path / name, epochs=3)).history
    for ours, theirs in zip(curves["cpu"], curves["reference"], strict=True):
        for column in ("texture", "overflow", "val_loss"):
            assert ours[column] == pytest.approx(theirs[column], rel=1e-3, abs=1e-6)


def _killed(config: TrainConfig, after: int) -> None:
    """Train in this process, which kills itself in the middle of a training step."""
    step, count = job.Texture.losses, iter(range(after, -1, -1))

    def losses(self: Any, batch: Any, at: Any) -> Any:
        if next(count) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch, at)

    job.Texture.losses = losses  # type: ignore[method-assign]
    train(config)


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path):
    image = picture(tmp_path / "stripes.png")
    config = tiny(image, tmp_path / "whole", save_every=1)
    train(config)
    cut = dataclasses.replace(config, output=tmp_path / "cut")
    for after in (2, 3):
        process = multiprocessing.get_context("spawn").Process(target=_killed, args=(cut, after))
        process.start()
        process.join(1800)
        assert process.exitcode == -signal.SIGKILL
    train(cut)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    rows = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("cut", "whole")]
    for row in (*rows[0], *rows[1]):
        del row["seconds"]
    assert rows[0] == rows[1]
    with pytest.raises(ValueError, match="other options: hidden"):
        train(dataclasses.replace(cut, hidden=13))
    picture(image, 44)
    with pytest.raises(ValueError, match="other samples"):
        train(cut)


def test_nan_stops_with_what_to_try(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "overflow", lambda state: state.flatten(1).mean(1) * torch.nan)
    with pytest.raises(TrainingStopped, match="lower lr"):
        train(tiny(picture(tmp_path / "stripes.png"), tmp_path / "run"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"state_channels": 2}, "state_channels=2 is not allowed"),
        ({"grid": 8}, "grid=8 is not allowed"),
        ({"size": 4}, "size=4 is not allowed"),
        ({"crop": 41}, "crop=41 does not fit"),
        ({"batch_size": 7}, "does not fit pool_size=6"),
        ({"steps": (5, 4)}, "steps="),
        ({"lr": -1.0}, "lr=-1"),
        ({"overflow": float("nan")}, "overflow=nan"),
        ({"fire_rate": 1.5}, "fire_rate"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"weights": Path("none.pth"), "loss": "auto"}, "none.pth: is no file"),
    ],
)
def test_bad_options_are_named(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        train(tiny(picture(tmp_path / "stripes.png"), tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()


def test_bad_samples_are_one_line_that_names_the_file(tmp_path):
    picture(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:200])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(tmp_path / "nan.tiff")
    (tmp_path / "folder.png").mkdir()
    Image.new("RGB", (9, 9), "navy").save(tmp_path / "navy.png")
    for name, said in (
        ("cut.png", "is corrupt or incomplete"),
        ("text.png", "is not an image"),
        ("empty.png", "is an empty file"),
        ("nan.tiff", "NaN"),
        ("folder.png", "is a folder"),
        ("none.png", "there is no such file"),
        ("navy.png", "is of one colour"),
    ):
        with pytest.raises(ValueError, match=f"{name}: .*{said}") as error:
            read_sample(tmp_path / name, 24)
        assert "\n" not in str(error.value)


def test_samples_of_every_kind_are_read(tmp_path):
    ramp = np.linspace(0, 1, 32 * 40).reshape(32, 40)
    kinds = {
        "grey.png": Image.fromarray((255 * ramp).astype(np.uint8)),
        "sixteen.png": Image.fromarray((65535 * ramp).astype(np.uint16)),
        "float.tiff": Image.fromarray(ramp.astype(np.float32)),
        "palette.gif": Image.fromarray((255 * ramp).astype(np.uint8)).convert("RGB").quantize(256),
        "cmyk.jpg": Image.fromarray((255 * ramp).astype(np.uint8)).convert("CMYK"),
    }
    expected = None
    for name, image in kinds.items():
        image.save(tmp_path / name)
        found = read_sample(tmp_path / name, 32)
        assert found.shape == (3, 32, 32) and found.dtype == torch.float32
        expected = torch.from_numpy(ramp[:, 4:36]).float().expand(3, -1, -1) if expected is None else expected
        assert (found - expected).abs().max() < 0.03, name
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    clear.putpixel((19, 19), (255, 0, 0, 255))
    clear.save(tmp_path / "clear.png")
    assert (read_sample(tmp_path / "clear.png", 20)[:, :16, :16] == 1).all()


def test_an_animation_has_the_size_and_the_frames_asked_for(run, tmp_path):
    config = AnimateConfig(run, tmp_path / "a.gif", size=(20, 30), frames=5, every=2, zoom=2, progress=False)
    config = dataclasses.replace(config, step_label=False, step_bar=False)
    assert animate(config) == tmp_path / "a.gif"
    found = iio.imread(tmp_path / "a.gif")
    assert found.shape == (5, 40, 60, 3)
    animate(dataclasses.replace(config, output=tmp_path / "b.png", repeat=(2, 3), zoom=1))
    last = iio.imread(tmp_path / "b.png")
    assert last.shape == (40, 90, 3)
    assert (last[:20, :30] == last[20:, 60:]).all()
    # Starting later shows the same rollout's later frames.
    animate(dataclasses.replace(config, output=tmp_path / "c.png", zoom=1, start=6, frames=2))
    assert (iio.imread(tmp_path / "c.png") == last[:20, :30]).all()
    animate(dataclasses.replace(config, output=tmp_path / "d.png", zoom=1, show="channels"))
    assert iio.imread(tmp_path / "d.png").shape == (2 * 20 + 1, 3 * 30 + 2, 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": (2, 30)}, "size="),
        ({"size": (2**20, 2**20)}, "size="),
        ({"frames": 0}, "frames=0"),
        ({"every": 0}, "every=0"),
        ({"start": -1}, "start=-1"),
        ({"repeat": (0, 1)}, "repeat="),
        ({"output": Path("a.avi")}, "must end in"),
        ({"model": Path("none")}, "there is no such file or folder; give a checkpoint"),
    ],
)
def test_bad_animations_are_named(run, tmp_path, options, said):
    config = dataclasses.replace(AnimateConfig(run, tmp_path / "a.gif", progress=False), **options)
    with pytest.raises(ValueError, match=said):
        animate(config)
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_or_damaged_checkpoint_is_one_line(run, tmp_path):
    path = tmp_path / "model.safetensors"
    config = AnimateConfig(path, tmp_path / "a.gif", progress=False)
    good = checkpoint.load(run / "best.safetensors")
    nan = checkpoint.load(run / "best.safetensors")
    next(nan.parameters()).data.fill_(torch.nan)
    recipe = checkpoint.describe(run / "best.safetensors")["recipe"]
    for module, metadata, said in (
        (NCA(4, 5), {}, "give one of ncafast train texture"),
        (NCA(4, 5), {"task": "texture", "recipe": recipe}, "holds a NCA"),
        (good, {"task": "texture"}, "'recipe' is missing"),
        (good, {"task": "texture", "recipe": "{"}, "is corrupt"),
        (
            good,
            {"task": "texture", "recipe": '{"image": 1, "size": 2, "crop": 3, "loss": 4}'},
            "image=1 is not allowed",
        ),
        (nan, {"task": "texture", "recipe": recipe}, "NaN"),
    ):
        save(path, module, **metadata)
        with pytest.raises(ValueError, match=f"model.safetensors: .*{said}"):
            animate(config)


def test_evaluation_writes_distances_motion_and_pictures(run, tmp_path):
    config = EvaluateConfig(run, output=tmp_path, size=(20, 26), at=(8, 4), frames=3, progress=False)
    config = dataclasses.replace(config, steps_per_frame=2)
    scores = evaluate(config)
    assert [row["steps"] for row in scores.rows] == [4, 8]
    assert all(row["patches"] > 0 for row in scores.rows)
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content["motion_strength"] == scores.motion >= 0
    rows = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert [float(row["patches"]) for row in rows] == [row["patches"] for row in scores.rows]
    for name in ("texture.png", "distance.png"):
        assert iio.imread(tmp_path / name).std() > 1
    assert evaluate(config).rows == scores.rows
    assert "motion strength" in scores.table()
    for options, said in (
        ({"at": ()}, "at="),
        ({"frames": 1}, "frames=1"),
        ({"image": tmp_path / "none.png"}, "no such file"),
        ({"flow_weights": tmp_path / "x"}, "takes no weights"),
    ):
        with pytest.raises(ValueError, match=said):
            evaluate(dataclasses.replace(config, **options))


@pytest.mark.parametrize(
    ("loss", "said"),
    [("patches", None), ("gram", "which is not measured"), ("mine", "this version has no such loss")],
)
def test_evaluation_names_the_loss_of_the_training_run(run, tmp_path, capsys, monkeypatch, loss, said):
    monkeypatch.setattr("ncafast.tasks.texture.scores.unavailable", lambda: "torchvision is not there")
    trained = load(TASK, run, torch.device("cpu"))
    changed = dataclasses.replace(trained, spec=dataclasses.replace(trained.spec, loss=loss))
    monkeypatch.setattr(base, "load", lambda *_: changed)
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    config = EvaluateConfig(run, output=tmp_path, size=(20, 20), at=(1, 3), frames=2, steps_per_frame=1)
    scores = evaluate(config)
    shown = capsys.readouterr()
    notes = [line for line in shown.out.splitlines() if line.startswith("note: ")]
    assert len(notes) == (said is not None) and all(said in note and f"loss {loss}" in note for note in notes)
    assert scores.trained_with == json.loads((tmp_path / "scores.json").read_text())["trained_with"] == loss
    ending = "" if said is None else ", which is not measured here"
    assert f"trained with the loss {loss}{ending}" in scores.table().splitlines()
    assert "growing: 3 of 3" in shown.err


def test_a_study_goes_on_where_it_was_and_can_grow(tmp_path, monkeypatch):
    taken, real = [], dynamics.train

    def counted(task: Any, config: TrainConfig) -> Any:
        taken.append((config.state_channels, config.hidden))
        if len(taken) == 2:
            raise KeyboardInterrupt
        if config.state_channels == 5:
            raise TrainingStopped("the loss became nan")
        return real(task, config)

    def shorter(**options: Any) -> TrainConfig:
        given = {name: options[name] for name in ("image", "state_channels", "hidden", "seed")}
        return tiny(out=options["output"], **given, epochs=1, epoch_length=2)

    monkeypatch.setattr(dynamics, "TrainConfig", shorter)
    monkeypatch.setattr(dynamics, "train", counted)
    config = StudyConfig(
        picture(tmp_path / "stripes.png"),
        tmp_path / "study",
        state_channels=(4, 5),
        hidden=(6,),
        size=24,
        grid=16,
        frames=3,
        steps_per_frame=2,
        start=4,
        loss="patches",
        threads=1,
        progress=False,
    )
    with pytest.raises(KeyboardInterrupt):
        study(config)
    first = (config.output / "motion.csv").read_text()
    result = study(config)
    assert taken == [(4, 6), (5, 6), (5, 6)]  # what was measured is not trained again
    assert (config.output / "motion.csv").read_text().startswith(first)
    assert [row["channels"] for row in result.rows] == [4, 5]
    assert result.rows[0]["motion"] >= 0
    assert np.isnan(result.rows[1]["motion"]) and "nan" in result.rows[1]["note"]
    assert iio.imread(result.heat_map).std() > 1
    assert len(study(dataclasses.replace(config, state_channels=(4, 5), hidden=(6, 7))).rows) == 4
    assert taken[3:] == [(4, 7), (5, 7)]
    with pytest.raises(ValueError, match="other options: start"):
        study(dataclasses.replace(config, start=5))
    (config.output / "motion.json").write_text("[3]")
    with pytest.raises(ValueError, match="motion.json: is corrupt"):
        study(config)
    for options, said in (
        ({"state_channels": (2,)}, "state_channels="),
        ({"seeds": ()}, "seeds="),
        ({"hidden": (4, 4)}, "hidden="),
    ):
        with pytest.raises(ValueError, match=said):
            study(dataclasses.replace(config, **options))


def test_a_study_that_an_earlier_release_began_goes_on(tmp_path, monkeypatch):
    """Its folder has study.json and motion.csv alone."""
    config = StudyConfig(picture(tmp_path / "a.png"), tmp_path / "study", (4,), (6, 7), size=24, grid=16, frames=3,
                         steps_per_frame=2, start=4, loss="patches", threads=1, progress=False)  # fmt: skip
    monkeypatch.setattr(dynamics, "train", lambda *given: (_ for _ in ()).throw(TrainingStopped("NaN")))
    study(config)
    files = {name: config.output / name for name in ("options.json", "grid.json", "motion.json", "motion.csv")}
    files["options.json"].rename(config.output / "study.json")
    files["grid.json"].unlink()
    files["motion.json"].unlink()
    files["motion.csv"].write_text("channels,hidden,seed,motion,distance,note\n4,6,0,0.25,1.5,\n")
    rows = study(config).rows
    assert [(row["motion"], row["distance"], row["note"]) for row in rows[:1]] == [(0.25, 1.5, "")]
    assert [row["note"] for row in rows[1:]] == ["NaN"]
    files["options.json"].unlink()
    files["motion.csv"].write_text("channels\nx\n")
    with pytest.raises(ValueError, match=r"motion.csv: is corrupt .*delete it to measure anew"):
        study(config)
