"""Classification: it learns, goes on where it was stopped, and finds the same class for an image in any company."""

from __future__ import annotations

import csv
import dataclasses
import json
import random
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cells import CLASSES, cell, pixels, tiny, write_folders, write_npz
from PIL import Image
from safetensors.torch import load_file

from ncafast import backends, checkpoint, cli
from ncafast.models import MaxNCA
from ncafast.tasks.base import load
from ncafast.tasks.classification import (
    AnimateConfig,
    EvaluateConfig,
    PredictConfig,
    TrainConfig,
    animate,
    augment,
    evaluate,
    job,
    pictures,
    predict,
    train,
)
from ncafast.tasks.classification.calibrating import calibration, deviations
from ncafast.tasks.classification.images import read_image
from ncafast.tasks.classification.inference import Classifier, Spec, panel, seeded, step_statistics
from ncafast.tasks.classification.metrics import classification_loss, measure
from ncafast.tasks.classification.task import TASK
from ncafast.tasks.images import Reading
from ncafast.tasks.repeats import crossvalidate
from ncafast.tasks.repeats.config import fold_options
from ncafast.train import Result, TrainingStopped
from ncafast.train.run_folder import RunFolder
from ncafast.utils.progress import Bar
from ncafast.utils.seeds import mix
from ncafast.viz import charts

CPU = torch.device("cpu")


def load_model(path: Path, device: torch.device) -> Spec:
    return load(TASK, path, device).spec


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "cells.npz")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run that has learned something, on folders of files."""
    folder = tmp_path_factory.mktemp("trained")
    write_folders(folder / "cells", 30)
    own = tiny(folder / "cells", folder / "run", epochs=10, lr=0.02, hidden=16, steps=(5, 6), ema=0.9, pictures=2)
    return train(dataclasses.replace(own, tensorboard=True))


def test_a_film_ends_with_what_prediction_finds(trained, tmp_path, monkeypatch):
    source = next((trained.folder.parent / "cells" / "ring").iterdir())
    shown = []
    real = pictures.film

    def watched(states, probabilities, recipe, title):
        shown.extend(probabilities)
        assert torch.equal(states[0][3:], torch.zeros_like(states[0][3:])) and title == source.name
        return real(states, probabilities, recipe, title)

    monkeypatch.setattr(pictures, "film", watched)
    config = AnimateConfig(trained.folder, source, tmp_path / "a.gif", progress=False)
    assert animate(config) == config.output
    frames = iio.imread(config.output)
    assert len(frames) == len(shown) == 7  # the image and 6 steps
    assert all(sum(row) == pytest.approx(1) for row in shown)
    done = predict(PredictConfig(trained.folder, source, tmp_path / "out", views=1, pictures=0, progress=False))
    assert done.found[0].probability == pytest.approx(max(shown[-1]), abs=1e-5)
    with pytest.raises(ValueError, match="no such file"):
        animate(dataclasses.replace(config, input=tmp_path / "none.png"))
    with pytest.raises(ValueError, match="must end in .gif or .mp4"):
        animate(dataclasses.replace(config, output=tmp_path / "a.png"))


def weights(folder: Path) -> dict[str, bytes]:
    content = {}
    for name in ("best", "last"):
        path = folder / f"{name}.safetensors"
        described = checkpoint.describe(path)
        content |= {f"{name} {key}": described[key].encode() for key in ("facts", "recipe", "statistics")}
        content |= {f"{name} {key}": tensor.numpy().tobytes() for key, tensor in load_file(path).items()}
    return content


def test_it_learns_and_says_how_well(trained):
    assert trained.best_accuracy is not None and trained.best_accuracy >= 0.9
    assert trained.history[-1]["loss"] < 0.5 * trained.history[0]["loss"]
    accuracies = [row["val_accuracy"] for row in trained.history]
    assert trained.best_epoch == 1 + accuracies.index(max(accuracies))
    for name in ("curves", "confusion"):
        assert (trained.folder / f"{name}.png").stat().st_size > 5000
    assert len(list((trained.folder / "pictures").glob("*.png"))) == 2
    described = json.loads(checkpoint.describe(trained.best)["recipe"])
    assert described["classes"] == list(CLASSES) and described["steps"] == 6

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained.folder / "tensorboard")).Reload()
    assert [e.value for e in events.Scalars("epoch/val_accuracy")] == pytest.approx(accuracies)
    assert len(events.Images("held out/confusion")) > 0


def test_the_held_out_accuracy_of_training_is_that_of_evaluation(trained, tmp_path):
    """With one view and the run's seed, on the held-out images alone, which `auto` finds."""
    config = EvaluateConfig(trained.folder, trained.folder.parent / "cells", output=tmp_path, views=1, progress=False)
    scores = evaluate(config)
    assert scores.metrics.accuracy == trained.best_accuracy
    assert scores.count == 18
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} == set(json.loads((trained.folder / "split.json").read_text())["held_out"])
    assert np.mean([row["class"] == row["true"] for row in rows]) == pytest.approx(scores.metrics.accuracy)
    for row in rows:
        assert sum(float(row[name]) for name in CLASSES) == pytest.approx(1, abs=2e-3)
        assert max(CLASSES, key=lambda name: float(row[name])) == row["class"]
    assert evaluate(dataclasses.replace(config, subset="all")).count == 90
    assert evaluate(dataclasses.replace(config, subset="train")).count == 72


def test_uncertainty_is_the_deviation_over_runs_beside_the_error(trained, tmp_path):
    options = {"output": tmp_path, "views": 1, "progress": False, "uncertainty": True}
    scores = evaluate(EvaluateConfig(trained.folder, trained.folder.parent / "cells", **options))
    facts = json.loads((tmp_path / "uncertainty.json").read_text())
    assert facts["samples"] == 18 and "rank correlation" in scores.table() and scores.calibration is not None
    classifier, images = load_model(trained.best, CPU).classifier, torch.rand(3, 3, 16, 16)
    runs = [classifier.logits(images, mix("uncertainty", 5, run)).softmax(1) for run in range(10)]
    expected = torch.stack(runs).double().std(0, correction=0).mean(1)
    found = deviations(classifier, images, 5, Bar(3, False, ""))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    line = calibration(torch.tensor([0.1, 0.3, 0.2]), probabilities, torch.tensor([0, 0, 0])).line()
    assert line.endswith("of 3 samples: rank correlation 1.000; AUROC of wrong samples 1.000")


def test_an_images_class_does_not_depend_on_its_company(trained, tmp_path):
    """The same probabilities alone, among others, and in another order, although MaxNCA normalises by its batch."""
    classifier, recipe = load_model(trained.folder, CPU).classifier, load_model(trained.folder, CPU).recipe
    images = recipe.scaled(torch.from_numpy(pixels(24, 500)[0]))
    together = classifier.probabilities(images, seed=3, count=2)
    alone = torch.cat([classifier.probabilities(image[None], seed=3, count=2) for image in images])
    backwards = classifier.probabilities(images.flip(0), seed=3, count=2).flip(0)
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(backwards, together, rtol=1e-4, atol=1e-6)
    other_masks = classifier.probabilities(images, seed=4, count=2)
    assert not torch.allclose(other_masks, together, atol=1e-4)
    # Taken literally, the original makes an image's logits depend on its neighbours.
    model = classifier.model
    first = model(seeded(images[:8], 6), 6, seed=1)[0][0]
    assert not torch.allclose(first, model(seeded(images[:1], 6), 6, seed=1)[0][0], atol=1e-2)


def test_with_the_statistics_of_its_own_batch_it_is_the_model_itself():
    torch.manual_seed(3)
    model = MaxNCA(7, 0.4, device="cpu", hidden_size=9, num_classes=4).eval()
    torch.nn.init.normal_(model.fc1.weight, std=0.3)
    images = torch.randn(5, 3, 8, 11)
    statistics = step_statistics(model, images, 6, seed=2)
    assert statistics.shape == (6, 2, 9)
    classifier = Classifier(model, statistics)
    states = classifier.states(images, seed=5)
    assert len(states) == 7 and torch.equal(states[0][:, :3], images) and not states[0][:, 3:].any()
    # The statistics are of other masks; taken with the same ones, every state agrees.
    from ncafast import fire_mask
    from ncafast.trace import Options, trace

    masks = torch.stack([fire_mask((1, 7, 8, 11), 0.6, 5, step=step) for step in range(6)])
    x = seeded(images, 7).movedim(-1, 1)
    own = trace(x, model.rule, model.params(), 6, Options(fire_mask=masks, states="all"))
    found = Classifier(model, own.stats)
    for ours, theirs in zip(found.states(images, seed=5)[1:], own.states, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    logits = model(seeded(images, 7), 6, fire_rate=None, fire_mask=masks)[0]
    torch.testing.assert_close(found.logits(images, seed=5), logits, rtol=1e-4, atol=1e-4)


def test_the_panel_has_every_class_equally_often():
    labels = torch.tensor([0] * 500 + [1] * 3 + [2] * 100)
    own = labels[panel(labels, 3)]
    assert torch.bincount(own).tolist() == [86, 3, 86]
    assert len(panel(torch.arange(300), 300)) == 256


class PowerCut(Exception):
    """Stands for the end of the process at one point."""


@pytest.mark.parametrize("name", ["save_resume", "write_history"])
def test_a_stopped_run_ends_with_the_same_weights(data, tmp_path, monkeypatch, name):
    own = tiny(data, tmp_path / "run", save_every=1)
    original, chance, stops = getattr(RunFolder, name), random.Random(2), 0

    def cut(*arguments):
        if chance.random() < 0.7:
            original(*arguments)
        if chance.random() < 0.4 or not stops:
            raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, name, cut)
        while stops < 60:
            try:
                train(own)
                break
            except PowerCut:
                stops += 1
    assert 0 < stops < 60
    train(tiny(data, tmp_path / "whole"))
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    train(tiny(data, tmp_path / "other", seed=1))
    assert weights(tmp_path / "other") != weights(tmp_path / "whole")


def test_the_fused_backend_and_the_definition_learn_alike(data, tmp_path):
    losses = []
    for name in ("reference", backends.available()[0]):
        with backends.use(name):
            done = train(tiny(data, tmp_path / name, epochs=5, lr=0.01))
        losses.append([value for row in done.history for value in (row["loss"], row["val_loss"])])
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)
    assert losses[1][-2] < losses[1][0]


def test_small_batches_are_drawn_so_that_classes_come_equally_often(tmp_path):
    images, labels = pixels(20)
    keep = np.concatenate(
        [np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:4], np.flatnonzero(labels == 2)[:2]]
    )
    np.savez(tmp_path / "d.npz", train_images=images[keep], train_labels=labels[keep])
    for balanced, expected in ((True, [1 / 3] * 3), (False, [20 / 26, 4 / 26, 2 / 26])):
        trained = job.Classification(
            TASK, tiny(tmp_path / "d.npz", tmp_path / "r", balanced=balanced, val_fraction=0.0)
        )
        drawn = [number for epoch in range(60) for step in trained.plan(epoch, 4, seed=0) for number in step]
        assert len(drawn) == 60 * 26
        share = torch.bincount(trained.train.labels[drawn]).double() / len(drawn)
        assert share.tolist() == pytest.approx(expected, abs=0.04)
        assert trained.plan(0, 4, seed=0) == trained.plan(0, 4, seed=0) != trained.plan(1, 4, seed=0)


def test_parts_of_a_batch_see_the_same_variations(data, tmp_path):
    from ncafast.train import StepContext

    trained = job.Classification(TASK, tiny(data, tmp_path / "run", jitter=0.2))
    whole = StepContext(0, 7, 0, [3, 5, 5, 9], 3, range(4), run_seed=0)
    images, labels = trained.load(whole)
    parts = [trained.load(whole.at(places)) for places in (range(0, 1), range(1, 4))]
    assert torch.equal(torch.cat([part[0] for part in parts]), images)
    assert torch.equal(torch.cat([part[1] for part in parts]), labels)
    assert not torch.equal(images[1], images[2])  # the same image twice, varied twice


def test_nothing_held_out_takes_the_lowest_loss(tmp_path):
    data = write_npz(tmp_path / "d.npz", val=0)
    result = train(tiny(data, tmp_path / "run", val_fraction=0.0, pictures=1, loss="bce"))
    assert result.best_accuracy is None
    losses = [row["loss"] for row in result.history]
    assert result.best_epoch == 1 + losses.index(min(losses))
    assert all(row["val_accuracy"] is None for row in result.history)


def test_nan_stops_with_advice(data, tmp_path, monkeypatch):
    original, calls = job.classification_loss, 0

    def fail(*arguments):
        nonlocal calls
        calls += 1
        return original(*arguments) * (float("nan") if calls == 3 else 1)

    monkeypatch.setattr(job, "classification_loss", fail)
    with pytest.raises(TrainingStopped, match="the loss became nan in epoch 1, step 3.*lower lr"):
        train(tiny(data, tmp_path / "run", save_every=1))
    assert all(p.isfinite().all() for p in load_model(tmp_path / "run", CPU).classifier.model.parameters())


def test_losses_against_their_formulas():
    logits, labels = torch.randn(7, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1, 1])
    p = logits.softmax(1)[range(7), labels]
    assert torch.isclose(classification_loss("cross-entropy", logits, labels), -p.log().mean())
    assert torch.isclose(classification_loss("focal", logits, labels), -((1 - p) ** 2 * p.log()).mean())
    notebook = F.binary_cross_entropy(logits.sigmoid().flatten(), F.one_hot(labels, 4).double().flatten())
    assert torch.isclose(classification_loss("bce", logits, labels), notebook)
    with pytest.raises(ValueError, match="loss='l2' is not allowed"):
        classification_loss("l2", logits, labels)


def test_metrics_counted_by_hand():
    truth, found = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 0, 2])
    result = measure(found, truth, 3)
    assert result.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert result.accuracy == pytest.approx(4 / 6)
    f1 = [2 * 2 / (3 + 3), 2 * 1 / (2 + 2), 1.0]
    assert result.f1_macro == pytest.approx(sum(f1) / 3)
    assert result.f1_weighted == pytest.approx((3 * f1[0] + 2 * f1[1] + f1[2]) / 6)


def test_predicting_files(trained, tmp_path, capsys):
    for kind, name in enumerate(CLASSES):
        for number in range(4):
            path = tmp_path / "new" / f"{name}_{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(cell(kind, 900 + number)).save(path)
    (tmp_path / "new" / "broken.png").write_bytes(b"?")
    config = PredictConfig(trained.best, tmp_path / "new", output=tmp_path / "out", pictures=3, progress=False)
    done = predict(config)
    assert len(done.skipped) == 1 and "broken.png" in done.skipped[0]
    assert np.mean([item.image.name.startswith(item.label) for item in done.found]) >= 0.8
    shown = [item for item in done.found if item.picture is not None]
    assert len(shown) == 3 and all(iio.imread(item.picture).std() > 10 for item in shown)
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert {name: row["class"] for name, row in rows.items()} == {i.image.name: i.label for i in done.found}
    alone = predict(dataclasses.replace(config, input=tmp_path / "new" / "ring_2.png", output=tmp_path / "alone"))
    assert alone.found[0].probability == pytest.approx(float(rows["ring_2.png"][alone.found[0].label]), abs=1e-4)
    words = ["predict", "classification", "--model", str(trained.folder), "--input", str(tmp_path / "new")]
    assert cli.main([*words, "--output", str(tmp_path / "cli"), "--no-progress"]) == 1  # one file was left out
    assert f"written: {tmp_path / 'cli' / 'predictions.csv'}" in capsys.readouterr().out


def test_an_image_stops_where_it_has_converged(trained, tmp_path):
    source = trained.folder.parent / "cells" / "ring"
    options = {"views": 2, "pictures": 1, "progress": False, "until_converged": True}
    plain = predict(PredictConfig(trained.best, source, tmp_path / "plain", views=2, pictures=0, progress=False))
    never = predict(PredictConfig(trained.best, source, tmp_path / "never", tolerance=0.0, **options))
    assert [item.probability for item in never.found] == [item.probability for item in plain.found]
    assert never.found[0].stopping.rows == [{"steps": 6, "converged": "no"}] * 2
    soon = predict(PredictConfig(trained.best, source, tmp_path / "soon", tolerance=1e9, plateau=2, **options))
    spec = load_model(trained.best, CPU)
    read = read_image(soon.found[0].image, spec.recipe.size, Reading(spec.recipe.value_range))
    turned = augment.views(spec.recipe.scaled(torch.from_numpy(read)[None]), 2)
    views = [spec.classifier.states(view, mix("predict", 0, k))[2] for k, view in enumerate(turned)]
    expected = torch.stack([spec.classifier.head(state).softmax(1)[0] for state in views]).mean(0)
    assert soon.found[0].probability == pytest.approx(float(expected.max()), abs=1e-6)
    assert (tmp_path / "soon" / "steps.csv").read_text().splitlines()[1:3] == [
        f"{soon.found[0].image.name},{run},2,yes" for run in (1, 2)
    ]
    with pytest.raises(ValueError, match="max_steps=7 is not allowed; the model's norm has statistics of 6 steps"):
        predict(PredictConfig(trained.best, source, tmp_path / "no", max_steps=7, **options))


def test_scores_of_other_data_do_not_take_the_place_of_the_first(trained, tmp_path):
    """Left to itself, evaluation writes beside the model, each time into another folder."""
    first = evaluate(EvaluateConfig(trained.folder, trained.folder.parent / "cells", progress=False)).csv
    assert first == trained.folder / "evaluation" / "scores.csv"
    before = first.read_bytes()
    other = write_folders(tmp_path / "other", 3)
    second = evaluate(EvaluateConfig(trained.folder, other, progress=False)).csv
    assert second == trained.folder / "evaluation-2" / "scores.csv" and first.read_bytes() == before
    named = evaluate(EvaluateConfig(trained.best, other, output=second.parent, progress=False)).csv
    assert named == second  # what evaluation wrote itself may be replaced
    theirs = second.with_name("confusion.png")
    Image.fromarray(cell(0, 0)).save(theirs)
    with pytest.raises(ValueError, match=f"--output: {theirs} exists and was not written by ncafast, or changed"):
        evaluate(EvaluateConfig(trained.best, other, output=second.parent, progress=False))
    evaluate(EvaluateConfig(trained.best, other, output=second.parent, progress=False, overwrite=True))
    assert iio.imread(theirs).shape != cell(0, 0).shape


def test_parts_of_the_data_are_scored_by_their_names(trained, tmp_path, capsys):
    for number, part in enumerate(("train", "val", "test"), start=1):
        write_folders(tmp_path / "d" / part, number)
    config = EvaluateConfig(trained.folder, tmp_path / "d", output=tmp_path / "o", views=1, progress=False)
    assert evaluate(dataclasses.replace(config, subset="test")).count == 9
    assert "scoring all" not in capsys.readouterr().out
    assert evaluate(config).count == 18
    assert "note: scoring all 18 images, those of test, train, val together" in capsys.readouterr().out
    with pytest.raises(ValueError, match="has no test images .a folder test"):
        evaluate(dataclasses.replace(config, data=tmp_path / "d" / "val", subset="test"))
    done = predict(PredictConfig(trained.folder, tmp_path / "d", tmp_path / "p", pictures=0, views=1, progress=False))
    assert len(done.found) == 18 and (tmp_path / "p" / "predictions.csv").read_text().count("val/ring/") == 2


def test_what_cannot_be_predicted_or_scored_is_one_line(trained, data, tmp_path):
    other = tmp_path / "other"
    write_folders(other, 1)
    (other / "ring").rename(other / "square")
    folds = fold_options("classification")
    cases = [
        (lambda: evaluate(EvaluateConfig(trained.best, other, output=tmp_path, progress=False)), "the class .square."),
        (lambda: evaluate(EvaluateConfig(trained.best, data, output=tmp_path, subset="val", progress=False)),
         "has 0 of the 18 images that split.json lists as held_out"),
        (lambda: predict(PredictConfig(trained.best, tmp_path / "no", progress=False)), "no: there is no such file"),
        (lambda: predict(PredictConfig(trained.best, other, views=9, progress=False)), "views=9 is not allowed"),
        (lambda: predict(PredictConfig(tmp_path, other, progress=False)), "holds no best.safetensors"),
        (lambda: predict(PredictConfig(trained.best, other, output=other, progress=False)), "lies in --input .*other"),
        (lambda: evaluate(EvaluateConfig(trained.best, other, output=other / "ring" / "o")), "lies in --data .*other"),
        (lambda: train(TrainConfig(data=other, output=other / "run")), "--output .*run: lies in --data .*other"),
        (lambda: train(TrainConfig(val_data=other, output=other / "run")), "--output .*run: lies in --val-data"),
        (lambda: crossvalidate(folds(data=other, output=other / "o")), "--output .*o: lies in --data .*other"),
        (lambda: animate(AnimateConfig(trained.best, other, output=tmp_path / "f.gif")), "other: is a folder"),
    ]  # fmt: skip
    (tmp_path / "x.png").write_bytes(b"")
    broken = PredictConfig(trained.best, tmp_path / "x.png", output=tmp_path / "o", progress=False)
    cases.append((lambda: predict(broken), r"x\.png: is an empty file"))
    for attempt, said in cases:
        with pytest.raises(ValueError, match=said) as error:
            attempt()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "mednca"}, "give one of ncafast train classification"),
        ({"recipe": None}, "is corrupt"),
        ({"recipe": "{}"}, "is corrupt"),
        ({"statistics": "[[1, 2]]"}, "is corrupt .*statistics of shape"),
        ({"statistics": "[NaN]"}, "is corrupt .*NaN"),
        ({"statistics": "x"}, "is corrupt"),
    ],
)
def test_a_damaged_checkpoint_is_named(trained, tmp_path, changes, said):
    from safetensors.torch import save_file

    header = {k: v for k, v in (checkpoint.describe(trained.best) | changes).items() if v is not None}
    save_file(load_file(trained.best), tmp_path / "m.safetensors", header)
    with pytest.raises(ValueError, match=said) as error:
        load_model(tmp_path / "m.safetensors", CPU)
    assert str(tmp_path / "m.safetensors") in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [("size", 1), ("steps", (0, 3)), ("jitter", -0.1), ("pictures", -1), ("epochs", 0), ("val_fraction", 1.0)],
)
def test_wrong_options_are_refused(data, tmp_path, option, value):
    folder = write_folders(tmp_path / "d", 2)
    with pytest.raises(ValueError, match=f"{option}="):
        train(tiny(folder, tmp_path / "run", **{option: value}))
    assert not (tmp_path / "run").exists()


def test_other_images_in_the_same_folder_are_refused(tmp_path):
    data = write_npz(tmp_path / "d.npz")
    train(tiny(data, tmp_path / "run", epochs=1, schedule="constant"))
    write_npz(data, train=7)
    with pytest.raises(ValueError, match="other images or another split"):
        train(tiny(data, tmp_path / "run", schedule="constant"))


def test_pictures_show_what_they_should(trained):
    loaded = load_model(trained.folder, CPU)
    scaled = loaded.recipe.scaled(torch.from_numpy(cell(1, 77)[None]))
    states = [x[0] for x in loaded.classifier.states(scaled, 0)]
    picture = pictures.channels_over_time(states, [0.1, 0.7, 0.2], loaded.recipe, "a$\\frac$ caf\udce9")
    # The photograph's own purple stands in the first column, undone from its scaling.
    assert (np.abs(picture.astype(int) - (200, 80, 80)).max(2) < 40).sum() > 50
    still = pictures.channels_over_time([states[0]] * 2, [1.0, 0.0, 0.0], loaded.recipe)
    assert still.shape[0] < picture.shape[0]  # fewer points in time
    diagonal = charts.confusion(torch.eye(3) * 5, CLASSES)
    wrong = charts.confusion(5 * torch.ones(3, 3), CLASSES)
    dark = [(image.astype(int).sum(2) < 250).sum() for image in (diagonal, wrong)]
    assert dark[0] > 2 * dark[1]
