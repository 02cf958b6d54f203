"""Self-classifying digits: idx files, losses and metrics, training and its resume, the commands, and bad input."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image
from power_cut import cut_at_every_save
from safetensors.torch import load_file, save_file
from small_digits import bars, idx, options

import ncafast
from ncafast import backends, checkpoint, cli
from ncafast.models import SelfClassifyingNCA
from ncafast.tasks.base import load
from ncafast.tasks.selfclassify import (
    AnimateConfig,
    EvaluateConfig,
    PredictConfig,
    TrainConfig,
    animate,
    evaluate,
    job,
    predict,
    train,
)
from ncafast.tasks.selfclassify.idx import IdxError, read_digits, read_idx
from ncafast.tasks.selfclassify.images import read_digit
from ncafast.tasks.selfclassify.metrics import Tally, confusion, cross_entropy, l2, tally, votes
from ncafast.tasks.selfclassify.pictures import COLOURS, colour, legend
from ncafast.tasks.selfclassify.running import film
from ncafast.tasks.selfclassify.scores import step_counts
from ncafast.tasks.selfclassify.states import brightness, exchange, fresh_states
from ncafast.tasks.selfclassify.task import TASK

REAL = Path(os.environ.get("NCAFAST_DATA", "no data")) / "mnist"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with both parts, one of them with gzip, a level further down."""
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part, count in (("train", 60), ("t10k", 24)):
        images, labels = bars(count, seed=count)
        content = {"images-idx3-ubyte": idx(images), "labels-idx1-ubyte": idx(labels)}
        for name, data in content.items():
            if part == "train":
                (folder / f"{part}-{name}.gz").write_bytes(gzip.compress(data))
            else:
                (folder / f"{part}-{name}").write_bytes(data)
    return tmp_path / "data"


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(job.SelfClassifying, "epoch_length", 3)


def weights(path: Path) -> dict[str, bytes]:
    return {key: tensor.numpy().tobytes() for key, tensor in load_file(path).items()}


def random_model() -> SelfClassifyingNCA:
    model = SelfClassifyingNCA(13, 12, (10,))
    torch.nn.init.normal_(model.update.layers[-1].weight, std=0.3)
    return model


def random_states(count: int = 3) -> torch.Tensor:
    """[count, 12, 5, 6] with about half of the cells ink."""
    states = torch.randn(count, 12, 5, 6)
    states[:, -1] = torch.rand(count, 5, 6) * (torch.rand(count, 5, 6) > 0.5)
    return states


# Files


def test_idx_files_hold_what_was_written(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 5)).astype(np.uint8)
    (tmp_path / "plain").write_bytes(idx(values))
    (tmp_path / "packed").write_bytes(gzip.compress(idx(values)))
    assert np.array_equal(read_idx(tmp_path / "plain", 3), values)
    assert np.array_equal(read_idx(tmp_path / "packed", 3), values)


def test_both_parts_are_found_below_a_folder(data):
    for part, count in (("train", 60), ("t10k", 24)):
        digits, (images, labels) = read_digits(data, part), bars(count, seed=count)
        assert np.array_equal(digits.images, images) and np.array_equal(digits.labels, labels)
    raw = data / "MNIST" / "raw"
    (raw / "t10k-images-idx3-ubyte").rename(raw / "t10k-images.idx3-ubyte")  # as some copies are named
    assert len(read_digits(raw, "t10k")) == 24


def damage(raw: Path, kind: str) -> None:
    images, labels = raw / "train-images-idx3-ubyte.gz", raw / "train-labels-idx1-ubyte.gz"
    whole = gzip.decompress(images.read_bytes())
    if kind == "cut gzip":
        images.write_bytes(images.read_bytes()[:-20])
    elif kind == "broken gzip":
        packed = bytearray(images.read_bytes())
        packed[20:60] = bytes(40)
        images.write_bytes(packed)
    elif kind == "swapped":
        content = images.read_bytes(), labels.read_bytes()
        images.write_bytes(content[1])
        labels.write_bytes(content[0])
    elif kind == "labels gone":
        labels.unlink()
    elif kind == "twice":
        (raw.parent / "copy").mkdir()
        for path in (images, labels):
            (raw.parent / "copy" / path.name).write_bytes(path.read_bytes())
    elif kind == "eleven":
        labels.write_bytes(idx(np.full(60, 11, np.uint8)))
    elif kind == "fewer":
        labels.write_bytes(idx(np.zeros(59, np.uint8)))
    elif kind == "none":
        images.write_bytes(idx(np.zeros((0, 7, 9), np.uint8)))
        labels.write_bytes(idx(np.zeros(0, np.uint8)))
    else:
        changed = {
            "empty": b"",
            "magic": b"\x89PNG" + whole[4:],
            "truncated": whole[:-1],
            "header": whole[:9],
            "longer": whole + b"x",
            "huge": whole[:4] + b"\xff" * 12 + whole[16:],
        }
        images.write_bytes(changed[kind])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("cut gzip", "corrupt or incomplete gzip"),
        ("broken gzip", "gzip"),
        ("empty", "too short"),
        ("magic", "wrong magic number 89 50 4e 47; an idx file of images begins with 00 00 08 03"),
        ("swapped", "wrong magic number 00 00 08 01"),
        ("truncated", "is truncated: its header announces 60 x 7 x 9 values, and 3779 follow"),
        ("header", "truncated within its header"),
        ("longer", "longer than it says"),
        ("huge", "is truncated"),
        ("labels gone", "only train-images-idx3-ubyte.gz"),
        ("twice", "several sets"),
        ("eleven", "label 11"),
        ("fewer", "holds 60 images, but train-labels-idx1-ubyte.gz 59 labels"),
        ("none", "holds no image"),
    ],
)
def test_bad_files_are_one_line_that_names_them(data, tmp_path, capsys, kind, said):
    damage(data / "MNIST" / "raw", kind)
    assert cli.main(["train", "selfclassify", "--data", str(data), "--output", str(tmp_path / "run")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("ncafast: error: ") and err.count("\n") == 1
    assert str(data) in err and said in err
    assert not (tmp_path / "run").exists()


def test_an_empty_folder_a_file_and_no_folder_are_told_apart(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name, said in (("empty", "holds no train-images"), ("file", "is a file"), ("absent", "no such folder")):
        with pytest.raises(IdxError, match=said):
            read_digits(tmp_path / name, "train")
    (tmp_path / "digits" / "train" / "7").mkdir(parents=True)
    Image.new("L", (28, 28)).save(tmp_path / "digits" / "train" / "7" / "0.png")
    with pytest.raises(IdxError, match="digits: holds image files .*0.png first.*see ncafast train classification"):
        read_digits(tmp_path / "digits", "train")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state_channels": 10}, "state_channels=10 is not allowed; give a whole number from 11"),
        ({"hidden": ()}, "hidden=()"),
        ({"hidden": (8, 0)}, "hidden=(8, 0)"),
        ({"fresh": -0.1}, "fresh=-0.1"),
        ({"fresh": 0.6, "mutate": 0.5}, "more than a whole batch"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"dropout": float("nan")}, "dropout=nan"),
        ({"val_count": 60}, "holds 60 digits"),
        ({"val_count": -1}, "val_count=-1"),
        ({"pool_size": 7}, "a pool of 7"),
        ({"steps": (0, 3)}, "steps=(0, 3)"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_bad_options_are_named(data, tmp_path, changes, said):
    with pytest.raises(ValueError) as caught:
        train(replace(options(data, tmp_path / "run"), **changes))
    assert said in str(caught.value) and "\n" not in str(caught.value)


# States, losses, metrics


def test_fresh_and_exchanged_states():
    images = torch.rand(2, 5, 6)
    images[0, 0, 0], images[0, 0, 1] = 0.05, 0.2
    fresh = fresh_states(images, 13)
    assert fresh.shape == (2, 13, 5, 6) and torch.equal(fresh[:, -1], images) and fresh[:, :-1].abs().sum() == 0
    before = torch.randn(2, 13, 5, 6)
    after = exchange(before, images)
    assert torch.equal(after[:, -1], images)
    assert after[0, :-1, 0, 0].abs().sum() == 0  # no ink: the cell starts anew
    assert torch.equal(after[0, :-1, 0, 1], before[0, :-1, 0, 1])


def test_losses_are_what_they_say_cell_by_cell():
    states, labels = random_states(), torch.tensor([3, 0, 9])
    squares, entropies = [], []
    for state, label in zip(states, labels.tolist(), strict=True):
        own = []
        for row in range(5):
            for column in range(6):
                cell, is_ink = state[:, row, column], bool(state[-1, row, column] > 0.1)
                wanted = torch.zeros(10)
                wanted[label] = float(is_ink)
                squares.append(((cell[:10] - wanted) ** 2).sum() / 2)
                if is_ink:
                    own.append(-torch.log_softmax(cell[:10], 0)[label])
        entropies.append(torch.stack(own).mean())
    torch.testing.assert_close(l2(states, labels), torch.stack(squares).sum() / 3)
    torch.testing.assert_close(cross_entropy(states, labels), torch.stack(entropies).mean())
    blank = fresh_states(torch.zeros(1, 5, 6), 12)
    assert cross_entropy(blank, torch.tensor([1])) == 0  # no ink, nothing to say


def test_metrics_count_cells_votes_and_agreement():
    states = torch.zeros(3, 12, 1, 4)
    states[:, -1] = torch.tensor([0.9, 0.5, 0.2, 0.05])[None, None]  # the last cell is no ink
    said = torch.tensor([[2, 2, 5, 7], [4, 4, 4, 1], [0, 1, 1, 1]])
    for digit in range(3):
        for cell in range(4):
            states[digit, said[digit, cell], 0, cell] = 1.0
    labels = torch.tensor([2, 4, 0])
    found = tally(states, labels)
    assert found == Tally(cells=9, cells_right=2 + 3 + 1, digits=3, votes_right=2, agreed=1)
    assert (found + found).cell_accuracy == pytest.approx(6 / 9)
    assert (found.vote_accuracy, found.agreement) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    counts = votes(states)
    assert counts[0].tolist() == [0, 0, 2, 0, 0, 1, 0, 0, 0, 0]
    matrix = confusion(counts, labels)
    assert matrix.sum() == 3 and matrix[2, 2] == matrix[4, 4] == matrix[0, 1] == 1
    blank = fresh_states(torch.zeros(1, 1, 4), 12)
    assert tally(blank, torch.tensor([0])) == Tally(digits=1)  # without ink nothing is right


def test_cells_are_coloured_by_what_they_say():
    states = torch.zeros(1, 12, 1, 3)
    states[0, -1, 0, :2] = 1.0
    states[0, 7, 0, 0] = 0.8
    shown = colour(states)[0, 0]
    assert shown.tolist() == [COLOURS[7].tolist(), [0, 0, 0], [255, 255, 255]]  # digit 7, silent, background


# Training


def test_it_learns_to_tell_bars_apart(data, tmp_path):
    config = options(data, tmp_path / "run", epochs=2, lr=5e-3, hidden=(24,), perception=24)
    result = train(config)
    assert result.measures["val_cells"] > 0.9 and result.measures["val_cells_later"] > 0.9
    assert result.measures["val_votes"] >= result.measures["val_cells"] - 0.05
    assert (tmp_path / "run" / "curves.png").is_file()
    assert (tmp_path / "run" / "pictures" / "epoch-0002.png").is_file()
    assert load(TASK, result.best, torch.device("cpu")).spec == 6


def test_a_part_of_every_batch_gets_other_digits(data, tmp_path, monkeypatch, short):
    """The first ones start anew, the last ones keep their state under the new ink, the others go on; labels follow."""
    seen, pools = [], []
    original = job.SelfClassifying.losses

    def losses(self, batch, at):
        seen.append((at.numbers, batch[0].clone(), batch[1].clone()))
        return original(self, batch, at)

    def end(self, at, kept):
        job.PoolJob.end_step(self, at, kept)
        pools.append((self.pool.states.clone(), self.labels.clone()))

    monkeypatch.setattr(job.SelfClassifying, "losses", losses)
    monkeypatch.setattr(job.SelfClassifying, "end_step", end)
    train(options(data, tmp_path / "run", pool_size=8, lr=0.05))
    digits = read_digits(data, "train").part(0, 40)
    pairs = zip(brightness(digits.images), digits.labels.tolist(), strict=True)
    known = {(image.numpy().tobytes(), label) for image, label in pairs}
    for step in range(1, 6):
        numbers, states, labels = seen[step]
        before, old_labels = (part[list(numbers)] for part in pools[step - 1])
        assert states[:2, :-1].abs().sum() == 0
        assert torch.equal(states[2:6], before[2:6]) and torch.equal(labels[2:6], old_labels[2:6])
        assert torch.equal(states[6:], exchange(before[6:], states[6:, -1]))
        for state, label in zip(states, labels.tolist(), strict=True):
            assert (state[-1].numpy().tobytes(), label) in known  # every digit has its own label
    assert pools[-1][0][:, :-1].abs().sum() > 0


@pytest.mark.skipif("cpu" not in backends.available(), reason="the CPU backend is not built")
@pytest.mark.parametrize("loss", ["l2", "cross-entropy"])
def test_loss_curves_agree_between_the_fused_and_the_reference_backend(data, tmp_path, monkeypatch, loss):
    curve: list[float] = []
    original = job.SelfClassifying.losses

    def losses(self, batch, at):
        found = original(self, batch, at)
        curve.append(found.item())
        return found

    monkeypatch.setattr(job.SelfClassifying, "epoch_length", 20)
    monkeypatch.setattr(job.SelfClassifying, "losses", losses)
    for name in ("cpu", "reference"):
        with backends.use(name):
            train(options(data, tmp_path / name, epochs=1, loss=loss, lr=5e-4, schedule="constant"))
    assert len(curve) == 40 and curve[19] < 0.98 * curve[0]
    torch.testing.assert_close(curve[:20], curve[20:], rtol=2e-3, atol=1e-5)


def test_a_batch_in_two_parts_trains_as_the_whole_one(data, tmp_path, short):
    """So do two processes; see tests/train/test_train_processes.py."""
    results = []
    for batch, parts in ((8, 1), (4, 2)):
        out = tmp_path / f"{parts}"
        train(
            options(
                data,
                out,
                batch_size=batch,
                accumulate=parts,
                optimiser="sgd",
                schedule="constant",
                pool_size=16,
                lr=0.05,
            )
        )
        results.append((load_file(out / "last.safetensors"), checkpoint.load_resume(out / "resume.pt")["job"]))
    for name, tensor in results[0][0].items():
        torch.testing.assert_close(results[1][0][name], tensor, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-4, atol=1e-5)


def test_a_run_that_is_cut_off_goes_on_to_the_same_bits(data, tmp_path, monkeypatch, short):
    config = options(data, tmp_path / "cut", save_every=1)
    done = cut_at_every_save(train, config, 6, monkeypatch)
    whole = train(replace(config, output=tmp_path / "whole"))
    for kind in ("best", "last"):
        assert weights(getattr(done, kind)) == weights(getattr(whole, kind))
    jobs = [checkpoint.load_resume(run.folder / "resume.pt")["job"] for run in (done, whole)]
    assert all(torch.equal(jobs[0][name], jobs[1][name]) for name in ("states", "labels"))


def test_other_digits_in_the_same_folder_are_refused(data, tmp_path, short):
    config = options(data, tmp_path / "run")
    train(config)
    labels = data / "MNIST" / "raw" / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(idx(1 - bars(60, seed=60)[1]))
    with pytest.raises(ValueError, match="run on other digits"):
        train(config)


def test_the_pool_may_wait(data, tmp_path, monkeypatch, short):
    states = []
    original = job.SelfClassifying.losses

    def losses(self, batch, at):
        states.append(batch[0][:, :-1].abs().amax((1, 2, 3)) == 0)
        return original(self, batch, at)

    monkeypatch.setattr(job.SelfClassifying, "losses", losses)
    train(options(data, tmp_path / "run", pool_after=4, pool_size=8, lr=0.05))
    assert [int(fresh.sum()) for fresh in states] == [8, 8, 8, 8, 2, 2]


def test_shares_of_an_odd_batch_do_not_overlap(data, tmp_path, monkeypatch, short):
    """Half of three is two when rounded, and two and two are more than three."""
    counts = []
    monkeypatch.setattr(job, "exchange", lambda states, images: counts.append(len(images)) or states)
    train(options(data, tmp_path / "run", fresh=0.5, mutate=0.5, batch_size=3))
    assert counts == [1] * 6


def test_no_digit_need_be_exchanged(data, tmp_path, short):
    config = options(data, tmp_path / "run", fresh=0.0, mutate=0.0)
    before = job.SelfClassifying(TASK, config, read_digits(data, "train"))
    train(config)
    after = checkpoint.load_resume(tmp_path / "run" / "resume.pt")["job"]
    assert torch.equal(after["labels"], before.labels)
    assert torch.equal(after["states"][:, -1], before.pool.states[:, -1])


def test_nothing_need_be_held_out(data, tmp_path, short):
    result = train(options(data, tmp_path / "run", val_count=0))
    assert result.measures == {"val_cells": None, "val_votes": None, "val_cells_later": None}
    losses = [row["loss"] for row in result.history]
    assert result.best_epoch == 1 + losses.index(min(losses))


# From a checkpoint


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, random_model(), task="selfclassify", steps="4", facts="{}")
    return path


def test_evaluate_follows_accuracy_over_time(model_file, data, tmp_path, capsys):
    config = EvaluateConfig(model_file, data, tmp_path / "out", digits=20, batch_size=7, steps=9, progress=False)
    scores = evaluate(config)
    assert list(scores.over_time) == step_counts(4, 9) == [1, 2, 3, 4, 6, 8, 9]
    model = load(TASK, model_file, torch.device("cpu")).model
    images, labels = (array[:20] for array in bars(24, seed=24))
    states = fresh_states(brightness(images), 13).movedim(1, -1)
    truth = torch.from_numpy(labels).long()
    with torch.no_grad():
        for step, found in scores.over_time.items():
            assert found == tally(model(states, step).movedim(-1, 1), truth)
        final = votes(model(states, 4).movedim(-1, 1))
    assert torch.equal(scores.confusion, confusion(final, truth))
    facts = json.loads(scores.json.read_text())
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").read_text().splitlines()))
    shown = capsys.readouterr().out
    for row, other in zip(rows, facts["over_time"], strict=True):
        assert float(row["cell_accuracy"]) == other["cell_accuracy"]
        assert f"{other['cell_accuracy']:.4f}" in shown
    assert all(iio.imread(picture).ndim == 3 for picture in scores.pictures)


def test_moments_reach_beyond_the_trained_length():
    assert step_counts(20, 200) == [1, 2, 5, 10, 15, 20, 30, 40, 60, 80, 120, 160, 200]
    assert step_counts(20, 20)[-1] == 20 and step_counts(1, 1) == [1]


def test_images_of_any_kind_come_out_as_light_ink(tmp_path):
    drawing = np.full((60, 40), 255, np.uint8)
    drawing[10:50, 16:24] = 0  # a dark stroke on white paper
    Image.fromarray(drawing).save(tmp_path / "paper.png")
    Image.fromarray(255 - drawing).save(tmp_path / "board.png")
    clear = np.zeros((60, 40, 4), np.uint8)
    clear[drawing == 0] = (0, 0, 0, 255)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    Image.fromarray((255 - drawing).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    found = {path.name: read_digit(path) for path in tmp_path.glob("*.png")}
    for name, image in found.items():
        assert image.shape == (28, 19), name
        assert image[14, 9] > 0.95 and image[:, :5].max() < 0.05, name
    assert read_digit(tmp_path / "paper.png", size=0).shape == (60, 40)
    assert read_digit(tmp_path / "paper.png", tone="light")[0, 0] == 1
    small = np.zeros((28, 28), np.uint8)
    small[4:20, 10:13] = 200
    Image.fromarray(small).save(tmp_path / "mnist.png")
    torch.testing.assert_close(read_digit(tmp_path / "mnist.png"), brightness(small[None])[0])


def test_predict_votes_and_says_what_it_could_not_read(model_file, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    images, _ = bars(3, seed=5)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"bar{number}.png")
    (folder / "bad.png").write_bytes(b"nothing")
    Image.new("L", (9, 9)).save(folder / "blank.png")
    done = predict(PredictConfig(model_file, folder, tmp_path / "out", steps=5))
    model = load(TASK, model_file, torch.device("cpu")).model
    with torch.no_grad():
        counts = votes(model(fresh_states(brightness(images), 13).movedim(1, -1), 5).movedim(-1, 1))
    assert [item.digit for item in done.found] == counts.argmax(1).tolist()
    assert [item.share for item in done.found] == pytest.approx((counts.amax(1) / counts.sum(1)).tolist())
    assert {path.name for path, _ in done.skipped} == {"bad.png", "blank.png"}
    shown = capsys.readouterr().out
    assert "is not an image" in shown and "shows no ink" in shown
    assert len((tmp_path / "out" / "digits.csv").read_text().splitlines()) == 4
    assert iio.imread(done.found[0].picture).shape == (7 * 5, (5 * 9 + 4 * 2) * 5, 3)
    words = ["predict", "selfclassify", "--model", str(model_file), "--output", str(tmp_path / "o2")]
    assert cli.main([*words, "--input", str(folder)]) == 1  # as `cp` does
    assert cli.main([*words, "--input", str(folder / "bar0.png")]) == 0
    capsys.readouterr()
    for name, said in (("bad.png", "is not an image"), ("blank.png", "shows no ink"), ("absent", "no such file")):
        assert cli.main([*words, "--input", str(folder / name)]) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and str(folder / name) in err and said in err
    with pytest.raises(ValueError, match="in: its pictures would be taken for digits; give another folder"):
        predict(PredictConfig(model_file, folder, folder))
    (tmp_path / "empty" / "7").mkdir(parents=True)
    assert cli.main([*words, "--input", str(tmp_path / "empty")]) == 1
    assert f"note: folders in {tmp_path / 'empty'} are not looked into: 7" in capsys.readouterr().out
    assert cli.main([*words, "--input", str(tmp_path / "empty")]) == 1
    assert "holds no image" in capsys.readouterr().err


def test_the_film_exchanges_the_digits(model_file, data, tmp_path):
    config = AnimateConfig(
        model_file, data, tmp_path / "film.gif", digits=3, steps=4, exchanges=1, zoom=2, progress=False
    )
    states = film(load(TASK, config.model, torch.device("cpu")).model, 4, config)
    assert len(states) == 2 * (1 + 4)
    assert states[0][:, :-1].abs().sum() == 0
    assert torch.equal(states[5], exchange(states[4], states[5][:, -1]))
    assert not torch.equal(states[5][:, -1], states[4][:, -1])
    assert animate(config) == config.output
    height = 3 + 7 * 2 + 6 + 24 + 3  # digits and legend, each with a margin
    frames = iio.imread(config.output)
    assert frames.shape[1:] == (height + 24 + 4, 160, 3)
    strip = legend(150)
    seen = frames[-1].astype(int)[height - 27 : height - 3, 5:155]
    assert np.abs(seen - strip)[3:-3].mean() < 20  # a GIF has 256 colours


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate", "--digits", "0"], "digits=0"),
        (["evaluate", "--steps", "-1"], "steps=-1"),
        (["animate", "--exchanges", "-1"], "exchanges=-1"),
        (["animate", "--output", "film.txt"], ".gif or .mp4"),
    ],
)
def test_bad_options_of_a_checkpoints_commands(model_file, data, capsys, words, said):
    assert cli.main([words[0], "selfclassify", "--model", str(model_file), "--data", str(data), *words[1:]]) == 1
    err = capsys.readouterr().err
    assert err.startswith("ncafast: error: ") and err.count("\n") == 1 and said in err


def test_a_checkpoint_of_another_task_or_a_damaged_one_is_named(model_file, tmp_path):
    ncafast.save(tmp_path / "other.safetensors", random_model(), task="growing")
    with pytest.raises(ValueError, match="written by ncafast train growing; give one of ncafast train selfclassify"):
        load(TASK, tmp_path / "other.safetensors", torch.device("cpu"))
    header, tensors = checkpoint.describe(model_file), load_file(model_file)
    for change in ({"steps": "many"}, {"steps": None}, {"steps": "0"}):
        kept = {key: value for key, value in (header | change).items() if value is not None}
        save_file(tensors, tmp_path / "bad.safetensors", kept)
        with pytest.raises(ValueError, match="bad.safetensors: is corrupt"):
            load(TASK, tmp_path / "bad.safetensors", torch.device("cpu"))


def test_the_pages_python_is_what_train_takes(tmp_path, monkeypatch):
    page = Path(__file__).resolve().parents[2] / "docs" / "selfclassify.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    done = SimpleNamespace(best=tmp_path, measures={})
    seen: list[TrainConfig] = []
    monkeypatch.setattr("ncafast.tasks.selfclassify.train", lambda config: seen.append(config) or done, raising=False)
    exec(block, {})
    assert (seen[0].data, seen[0].output) == (Path("mnist"), Path("digits"))


# Real digits, where there are any


@pytest.mark.skipif(not REAL.is_dir(), reason="$NCAFAST_DATA/mnist is absent")
def test_mnist_is_read():
    digits, test = read_digits(REAL, "train"), read_digits(REAL, "t10k")
    assert digits.images.shape == (60000, 28, 28) and test.images.shape == (10000, 28, 28)
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_a_digit_stops_where_its_cells_have_converged(model_file, tmp_path):
    image, _ = bars(1, seed=5)
    source = tmp_path / "bar.png"
    Image.fromarray(image[0]).save(source)
    options = {"until_converged": True, "plateau": 2}
    found = predict(PredictConfig(model_file, source, tmp_path / "a", steps=7, tolerance=1e9, **options))
    plain = predict(PredictConfig(model_file, source, tmp_path / "b", steps=2))
    assert found.found[0].share == plain.found[0].share and found.found[0].stopping.words() == "; 2 steps"
    assert (tmp_path / "a" / "steps.csv").read_text() == "image,run,steps,converged\nbar.png,1,2,yes\n"
    assert not (tmp_path / "b" / "steps.csv").exists()
    late = predict(PredictConfig(model_file, source, tmp_path / "c", tolerance=0.0, max_steps=9, **options))
    assert late.found[0].stopping.rows == [{"steps": 9, "converged": "no"}]
