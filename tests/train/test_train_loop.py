"""The training loop: against plain PyTorch, against itself when killed, cut in parts, or spread over processes."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from kills import kill_until_done
from safetensors.torch import load_file
from short_training import STATES, loss, nca, quiet_loss, settings
from torch import nn

import ncafast
from ncafast import NCA, backends
from ncafast.train import Job, Settings, StepContext, TrainingStopped, fit, run, trainer
from ncafast.train.job import FunctionJob
from ncafast.train.run_folder import RunFolder


def weights(path: Path) -> dict[str, bytes]:
    return {key: tensor.numpy().tobytes() for key, tensor in load_file(path).items()}


def test_it_takes_the_steps_that_plain_pytorch_takes(tmp_path):
    """Order, step counts, fire masks, schedule, clipping and Adam, written out by hand."""
    own = settings(tmp_path, lr=0.01, schedule="step", lr_step=1, lr_gamma=0.5, warmup=2, clip=0.05, betas=(0.8, 0.9))
    result = fit(nca(), STATES, quiet_loss, own)
    model, taken, job = nca(), [], Job()
    job.samples = len(STATES)
    optimiser = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.8, 0.9))
    for epoch in range(2):
        for number, chosen in enumerate(job.plan(epoch, 4, seed=0)):
            step = 3 * epoch + number
            at = StepContext(epoch, step, 4 * number, chosen, 0, range(len(chosen)), run_seed=0)
            count = int(torch.randint(2, 5, (), generator=at.generator("steps")))
            taken.append(count)
            optimiser.param_groups[0]["lr"] = 0.01 * 0.5**epoch * min((step + 1) / 2, 1)
            optimiser.zero_grad()
            (model(STATES[chosen], count, seed=at.seed) - STATES[chosen].flip(1)).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)
            optimiser.step()
    assert len(set(taken)) > 1
    found = load_file(result.last)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)
    assert [row["lr"] for row in result.history] == pytest.approx([0.01, 0.005])


def test_what_a_run_leaves(tmp_path):
    model, own = nca(), settings(tmp_path, tensorboard=True, clip=1e-3, warmup=4)
    squares: list[float] = []  # of every gradient, before it is clipped
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: squares.append(float(p.grad.square().sum())))

    def show(model):
        assert not model.training and not torch.is_grad_enabled()
        return {"states": np.full((4, 5, 3), 7, np.uint8)}

    result = fit(model, STATES, loss, own, validate=lambda m: {"val_x": 1.5}, show=show)
    rows = json.loads((tmp_path / "history.json").read_text())
    assert rows == list(result.history)
    with (tmp_path / "history.csv").open() as file:
        assert [float(row["loss"]) for row in csv.DictReader(file)] == [row["loss"] for row in rows]
    assert [row["epoch"] for row in rows] == [1, 2] and [row["steps"] for row in rows] == [3, 6]
    assert all(row["val_x"] == 1.5 for row in rows)
    assert isinstance(ncafast.load(result.best), NCA)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [e.step for e in events.Scalars("train/loss")] == list(range(1, 7))
    assert [e.value for e in events.Scalars("epoch/loss")] == pytest.approx([row["loss"] for row in rows])
    assert [e.step for e in events.Images("states")] == [3, 6]
    rates = [own.lr * share for share in (0.25, 0.5, 0.75, 1, 1, 1)]
    assert [e.value for e in events.Scalars("train/learning_rate")] == pytest.approx(rates)
    norms = np.sqrt(np.reshape(squares, (6, -1)).sum(1))
    assert [e.value for e in events.Scalars("train/gradient_norm")] == pytest.approx(norms)


def test_pictures_are_drawn_at_ten_epochs_at_most_of_the_averaged_weights_and_for_tensorboard_alone(tmp_path):
    judged, shown = [], []

    def weight(model):
        return float(next(model.parameters()).sum())

    def show(model):
        shown.append(weight(model))
        return {}

    def validate(model):
        judged.append(weight(model))
        return {}

    own = {"epochs": 21, "ema": 0.9, "batch_size": 12}
    fit(nca(), STATES, loss, settings(tmp_path / "a", tensorboard=True, **own), validate=validate, show=show)
    assert shown == [judged[epoch - 1] for epoch in (1, 3, 6, 9, 12, 15, 18, 21)]
    fit(nca(), STATES, loss, settings(tmp_path / "b", **own), show=show)
    assert len(shown) == 8


def test_the_epochs_loss_is_the_mean_over_its_samples(tmp_path):
    seen = []

    def watched(model, batch, at):
        value = loss(model, batch, at)
        seen.append((value.item(), len(batch)))
        return {"a": value / 4, "b": value * 3 / 4}

    row = fit(nca(), STATES, watched, settings(tmp_path, epochs=1)).history[0]
    mean = sum(value * count for value, count in seen) / 10
    assert row["loss"] == pytest.approx(mean)
    assert (row["a"], row["b"]) == pytest.approx((mean / 4, mean * 3 / 4))


def test_parts_of_a_batch_add_up_to_the_batch(tmp_path):
    """Fire masks, losses and gradients of 4 = 2 x 2 samples, also for the epoch's last batch of 2."""
    whole = fit(nca(), STATES, quiet_loss, settings(tmp_path / "a"))
    parts = fit(nca(), STATES, quiet_loss, settings(tmp_path / "b", batch_size=2, accumulate=2))
    other = fit(nca(), STATES, quiet_loss, settings(tmp_path / "c", batch_size=2))
    expected = load_file(whole.last)
    for name, tensor in load_file(parts.last).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)
    assert [r["loss"] for r in parts.history] == pytest.approx([r["loss"] for r in whole.history], rel=1e-5)
    assert [r["loss"] for r in other.history] != pytest.approx([r["loss"] for r in whole.history], rel=1e-3)


def test_the_fused_backend_and_the_definition_learn_alike(tmp_path):
    losses = {}
    for name in ("reference", None):
        with backends.use(name) if name else backends.use(backends.available()[0]):
            done = fit(nca(norm="batch"), STATES, quiet_loss, settings(tmp_path / str(name), epochs=8, lr=0.01))
            losses[name] = [row["loss"] for row in done.history]
    assert losses[None] == pytest.approx(losses["reference"], rel=1e-3)
    assert losses[None][-1] < 0.7 * losses[None][0]


@pytest.mark.parametrize("memory", ["sqrt", "2"])
def test_the_memory_policy_changes_no_weight(tmp_path, memory):
    first = fit(nca(), STATES, quiet_loss, settings(tmp_path / "a"))
    second = fit(nca(), STATES, quiet_loss, settings(tmp_path / "b", memory=memory))
    expected = load_file(first.last)
    for name, tensor in load_file(second.last).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-7)


class PowerCut(Exception):
    """Stands for the end of the process at one point."""


@pytest.mark.parametrize("name", ["save_resume", "write_history"])
def test_stopping_around_any_write_changes_nothing(tmp_path, monkeypatch, name):
    """With all that a run remembers: averaged weights, schedule, torch's own random numbers."""
    own = settings(tmp_path / "run", save_every=1, ema=0.9, schedule="cosine", warmup=3)
    original, moments, stops = getattr(RunFolder, name), itertools.cycle(["before", "after", "never", "after"]), 0

    def cut(*arguments):
        moment = next(moments)
        if moment != "before":
            original(*arguments)
        if moment != "never":
            raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, name, cut)
        while stops < 60:
            try:
                done = fit(nca(), STATES, loss, own)
                break
            except PowerCut:
                stops += 1
    assert 2 <= stops < 60
    whole = fit(nca(), STATES, loss, dataclasses.replace(own, output=tmp_path / "whole"))
    for kind in ("best", "last"):
        assert weights(getattr(done, kind)) == weights(getattr(whole, kind))
    rows = [[{**row, "seconds": 0} for row in result.history] for result in (done, whole)]
    assert rows[0] == rows[1]


def long_run(out: Path) -> None:
    fit(nca(), STATES, loss, settings(out, epochs=20, batch_size=1))


def test_killing_at_any_moment_costs_little_and_changes_nothing(tmp_path):
    """The default saves so often that every start gets further."""
    reached = [0]
    for _ in kill_until_done(long_run, (tmp_path / "run",)):
        state = ncafast.checkpoint.load_resume(tmp_path / "run" / "resume.pt")
        reached.append(state["epoch"] * 10 + state["step"])
    assert len(reached) == 7 and reached == sorted(set(reached))
    long_run(tmp_path / "whole")
    assert weights(tmp_path / "run" / "last.safetensors") == weights(tmp_path / "whole" / "last.safetensors")


def test_a_kill_costs_the_step_it_falls_into(tmp_path):
    """Where steps take longer than twenty saves, every step is saved before the next begins."""
    done = []

    def heavy(model, batch, at):
        if at.step:
            done.append(ncafast.checkpoint.load_resume(tmp_path / "resume.pt")["step"] == at.step % 3)
        saver.clock += 100.0  # what a step takes
        return loss(model, batch, at)

    class Clock:
        clock = 0.0

        def perf_counter(self) -> float:
            self.clock += 1.0
            return self.clock

    saver = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ncafast.train.saving.time", saver)
        fit(nca(), STATES, heavy, settings(tmp_path))
    assert done == [True] * 5


def test_early_stopping_and_its_patience(tmp_path, capsys):
    scores = iter([0.1, 0.5, 0.4, 0.5, 0.3, 0.9])
    own = settings(tmp_path, epochs=6, patience=3)
    result = fit(nca(), STATES, loss, own, validate=lambda m: {"val_x": next(scores)}, score=lambda row: row["val_x"])
    assert (len(result.history), result.best_epoch, result.best_score) == (5, 2, 0.5)
    assert "nothing better in 3 epochs" in capsys.readouterr().out
    assert fit(nca(), STATES, loss, own).history == result.history  # and it stays stopped


def test_a_training_that_ends_in_its_warm_up_says_so(tmp_path, capsys):
    for warmup in (5, 12):
        fit(nca(), STATES, loss, settings(tmp_path / str(warmup), lr=0.04, warmup=warmup))
    said = capsys.readouterr().out
    assert said.count("note:") == 1
    assert "note: all 6 training steps are in the warm-up (warmup=12), so the learning rate ends at 0.02;" in said


@pytest.mark.parametrize("culprit", ["loss", "gradient"])
def test_nan_stops_with_the_last_good_weights_and_advice(tmp_path, culprit):
    def fail(model, batch, at):
        value = loss(model, batch, at)
        if at.step < 4:
            return value
        return value * math.nan if culprit == "loss" else value + (value * 0).sqrt()

    with pytest.raises(TrainingStopped, match=r"in epoch 2, step 2; the last good weights.*lower lr \(now 0.001\)"):
        fit(nca(), STATES, fail, settings(tmp_path, save_every=1))
    assert all(tensor.isfinite().all() for tensor in load_file(tmp_path / "last.safetensors").values())
    good = fit(nca(), STATES, loss, settings(tmp_path / "good", epochs=1))
    state = ncafast.checkpoint.load_resume(tmp_path / "resume.pt")
    assert (state["epoch"], state["step"]) == (1, 1)
    assert state["history"][0]["loss"] == good.history[0]["loss"]


def test_averaged_weights_are_measured_and_saved(tmp_path):
    seen = []
    own = settings(tmp_path, ema=0.5, lr=0.1, epochs=1)
    model = nca()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    path: list[dict[str, torch.Tensor]] = []

    class Watched(trainer.Average):
        def follow(self) -> None:
            path.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
            super().follow()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "Average", Watched)
        result = fit(
            model,
            STATES,
            loss,
            own,
            validate=lambda m: seen.append({k: v.clone() for k, v in m.state_dict().items()}) or {},
        )
    expected = start
    for number, after in enumerate(path, start=1):
        keep = min(0.5, number / (number + 9))
        expected = {name: keep * expected[name] + (1 - keep) * after[name] for name in after}
    saved = load_file(result.best)
    for name, tensor in expected.items():
        torch.testing.assert_close(saved[name], tensor)
        torch.testing.assert_close(seen[0][name], tensor)
    assert not torch.equal(model.state_dict()["hidden.weight"], saved["hidden.weight"])  # training goes on from its own


def test_half_precision_outside_the_automaton(tmp_path):
    """Autocast reaches a linear head; bf16 losses are near those of float32, and the rollout stays in float32."""
    head = torch.nn.Linear(6, 3)

    def logits(model, batch, at):
        x = model[0](batch, at.steps, **at.options)
        assert x.dtype == torch.float32
        out = model[1](x.mean((2, 3)))
        types.add(out.dtype)
        return torch.nn.functional.cross_entropy(out.float(), torch.arange(len(batch)) % 3)

    losses = []
    for amp, dtype in (("off", torch.float32), ("bf16", torch.bfloat16)):
        types: set[torch.dtype] = set()
        torch.nn.init.ones_(head.weight)
        model = torch.nn.Sequential(nca(), head)
        losses.append(fit(model, STATES, logits, settings(tmp_path / amp, amp=amp)).history[0]["loss"])
        assert types == {dtype}
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]


def test_fp16_skips_steps_without_a_finite_gradient_and_gives_up_at_last(tmp_path):
    before = []

    def fail(model, batch, at):
        before.append(model.state_dict()["hidden.weight"].clone())
        value = loss(model, batch, at)
        return value + (value * 0).sqrt() if at.step == 1 or at.step > 5 else value

    with pytest.raises(TrainingStopped, match="the gradient became infinite or NaN in epoch 6, step 6"):
        fit(nca(), STATES, fail, settings(tmp_path, amp="fp16", epochs=99, batch_size=1))
    changed = [not torch.equal(a, b) for a, b in itertools.pairwise(before)]
    assert changed == [True, False, True, True, True, True] + [False] * 49


def test_any_module_can_be_trained_and_its_weights_read(tmp_path):
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nca = nca()

        def forward(self, x, steps, **options):
            return self.nca(x, steps, **options).sigmoid()

    data = [{"x": state, "n": number} for number, state in enumerate(STATES)]  # a data set of dicts
    result = fit(Own(), data, lambda m, b, at: quiet_loss(m, b["x"], at) + 0 * b["n"].sum(), settings(tmp_path))
    assert set(load_file(result.best)) == {f"nca.{name}" for name in nca().state_dict()}
    with pytest.raises(ValueError, match="empty"):
        fit(nca(), STATES[:0], loss, settings(tmp_path / "b"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"accumulate": 0}, "accumulate=0"),
        ({"patience": 0}, "patience=0"),
        ({"steps": (4, 2)}, r"steps=\(4, 2\)"),
        ({"memory": "some"}, "memory='some' is not allowed; give states, sqrt or"),
        ({"lr": math.inf}, "lr=inf"),
        ({"ema": 1.0}, "ema=1.0"),
        ({"schedule": "multistep"}, "needs lr_milestones"),
        ({"threads": 10**6}, "threads=1000000"),
        ({"device": "abacus"}, "abacus"),
        ({"schedule": "cos"}, "schedule='cos' is not allowed; choose from constant, step"),
        ({"amp": "fp8"}, "amp='fp8' is not allowed; choose from off"),
        ({"epochs": 1.5}, "epochs=1.5 is not allowed; give a whole number"),
        ({"batch_size": True}, "batch_size=True is not allowed; give a whole number"),
        ({"seed": None}, "seed=None is not allowed; give a whole number"),
        ({"steps": 3}, "steps=3 is not allowed; give a tuple of 2 whole numbers"),
        ({"steps": (3,)}, r"steps=\(3,\) is not allowed; give a tuple of 2 whole numbers"),
        ({"steps": (3.5, 4)}, "give a tuple of 2 whole numbers"),
        ({"lr": "x"}, "lr='x' is not allowed; give a number"),
        ({"lr": math.nan}, "lr=nan is not allowed; give a number above 0"),
        ({"seed": -1}, "seed=-1 is not allowed; give a whole number from 0 to 9223372036854775807"),
        ({"betas": (0.9, 1.0)}, "give numbers from 0 to below 1"),
        ({"patience": 1.5}, r"patience=1.5 is not allowed; give a whole number or leave it out"),
        ({"tensorboard": 1}, "tensorboard=1 is not allowed; give True or False"),
        ({"output": "run"}, r"output='run' is not allowed; give a Path, such as Path\('run'\)"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        fit(nca(), STATES, loss, dataclasses.replace(settings(tmp_path / "run"), **options))
    assert not (tmp_path / "run").exists()


def test_there_is_a_best_checkpoint_where_no_score_is_a_number(tmp_path):
    result = fit(nca(), STATES, loss, settings(tmp_path / "run", epochs=2), score=lambda row: math.nan)
    assert result.best.exists() and result.best_epoch == 1


def test_a_run_with_other_options_or_another_batch_is_refused(tmp_path):
    fit(nca(), STATES, loss, settings(tmp_path))
    with pytest.raises(ValueError, match=r"other options: lr \(here 0.001, asked 0.5\)"):
        fit(nca(), STATES, loss, settings(tmp_path, lr=0.5))
    job = FunctionJob(nca(), STATES[:6], loss)
    data = json.loads((tmp_path / "split.json").read_text())
    with pytest.raises(ValueError, match=r"resume\.pt: is corrupt or not of this run \(schedule"):
        run(job, settings(tmp_path, epochs=3), data=data)


def test_a_run_of_another_task_is_not_described_by_its_options(tmp_path):
    fit(nca(), STATES, loss, settings(tmp_path))
    other = dataclasses.make_dataclass("Other", [("image", str), ("lr", float)])("lizard.png", 0.1)
    with pytest.raises(ValueError, match="holds a run of another task or .* --output .Settings.output in Python"):
        RunFolder(tmp_path).claim(other, {})


def test_a_run_goes_on_with_its_own_data_alone(tmp_path):
    pair = STATES, torch.arange(10)
    own = settings(tmp_path / "a", epochs=1)

    def first(model, batch, at):
        return loss(model, batch[0], at)

    fit(nca(), pair, first, own)
    longer = dataclasses.replace(own, epochs=2)
    for others in ((STATES + 1e-6, pair[1]), (STATES, pair[1].flip(0)), (STATES[:8], pair[1][:8])):
        with pytest.raises(ValueError, match="holds a run on other samples"):
            fit(nca(), others, first, longer)
    assert len(fit(nca(), (STATES.clone(), pair[1]), first, longer).history) == 2
    own = settings(tmp_path / "b", epochs=1)
    fit(nca(), list(STATES), loss, own)
    with pytest.raises(ValueError, match="holds a run on other samples"):
        fit(nca(), list(STATES[:9]), loss, own)


def test_a_run_goes_on_with_its_own_model_alone(tmp_path):
    class Own(torch.nn.Module):
        def __init__(self, hidden: int = 8, name: str = "nca") -> None:
            super().__init__()
            setattr(self, name, NCA(6, hidden))

        def forward(self, *words, **options):
            return next(self.children())(*words, **options)

    def frozen() -> NCA:
        model = nca()
        model.hidden.bias.requires_grad_(False)
        return model

    own = settings(tmp_path / "nca", epochs=1)
    fit(nca(), STATES, loss, own)
    longer = dataclasses.replace(own, epochs=2)
    for other, said in (
        (NCA(6, 9), r"hidden\.weight \(here \[8, \d+\], asked \[9, \d+\]\)"),
        (nca(fire_rate=0.9), r"fire_rate \(here 0\.5, asked 0\.9\)"),
        (frozen(), r"weight hidden\.bias \(here \[8\], asked \[8\], frozen\)"),
        (Own(), r"class \(here NCA, asked Own\)"),
    ):
        with pytest.raises(ValueError, match=f"holds a run of another model: .*{said}.*give the same model") as error:
            fit(other, STATES, loss, longer)
        assert "Error(s)" not in str(error.value) and "\n" not in str(error.value)
    assert len(fit(nca(), STATES, loss, longer).history) == 2
    own = settings(tmp_path / "own", epochs=1)
    fit(Own(), STATES, loss, own)
    with pytest.raises(ValueError, match=r"another model: weight nca\.\S+ \(here \[[\d, ]+\], asked none\)"):
        fit(Own(name="other"), STATES, loss, own)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda value: None, "the loss is None .is a return missing.*return a tensor"),
        (lambda value: value.item(), "the loss is a float; return a tensor"),
        (lambda value: [value], "the loss is a list; return a tensor"),
        (lambda value: value.expand(3), r"the loss has shape \[3\].*take its .mean\(\)"),
        (lambda value: value.detach(), "does not depend on any weight that is trained"),
        (lambda value: value > 0, "the loss is torch.bool, and a floating-point number"),
        (lambda value: {}, "the loss is an empty dict"),
        (lambda value: {"a": value, "b": 3.0}, "the loss 'b' is a float"),
        (lambda value: {"a": value.detach(), "b": value.detach()}, "does not depend on any weight"),
    ],
)
def test_a_loss_that_cannot_be_minimised_is_explained(tmp_path, answer, said):
    with pytest.raises(ValueError, match=said):
        fit(nca(), STATES, lambda m, b, at: answer(loss(m, b, at)), settings(tmp_path))


def test_a_term_without_gradient_may_stand_beside_others(tmp_path):
    def two(model, batch, at):
        return {"a": loss(model, batch, at), "b": torch.tensor(2.0)}

    done = fit(nca(), STATES, two, settings(tmp_path, epochs=1))
    assert done.history[0]["b"] == pytest.approx(2.0) and done.history[0]["loss"] > 2


def test_a_model_without_weights_to_train_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"the NCA has no weight to train.*requires_grad_\(True\)"):
        fit(nca().requires_grad_(False), STATES, loss, settings(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"model": None}, TypeError, "model must be a torch.nn.Module, got NoneType"),
        ({"model": NCA}, TypeError, r"got the class NCA; give an instance, NCA\(...\)"),
        ({"data": None}, TypeError, "data must be a tensor, a tuple of tensors or a data set"),
        ({"data": iter(STATES)}, TypeError, r"a data set with len\(\) and \[\], got tuple_iterator"),
        ({"data": ()}, ValueError, "data is an empty tuple; give at least one tensor"),
        ({"data": (STATES, [1])}, TypeError, "data is a tuple and may hold tensors only, got list"),
        ({"data": torch.tensor(3.0)}, ValueError, "a tensor without axes; the first axis counts samples"),
        ({"data": (STATES, STATES[:3])}, ValueError, r"tensors of one length, got lengths \[10, 3\]"),
        ({"data": (STATES[:3], STATES)}, ValueError, r"tensors of one length, got lengths \[3, 10\]"),
        ({"loss": None}, TypeError, r"loss must be a function, called as loss\(model, batch, at\), got NoneType"),
        ({"loss": torch.nn.MSELoss()}, TypeError, r"loss cannot be called as loss\(model, batch, at\): too many"),
        ({"settings": {"epochs": 1}}, TypeError, r"settings must be Settings\(...\) or None, got dict"),
        ({"settings": Settings}, TypeError, "got the class Settings"),
        ({"validate": 3}, TypeError, r"validate must be a function, called as validate\(model\), got int"),
        ({"score": lambda: 0}, TypeError, r"score cannot be called as score\(row\): too many"),
        ({"validate": lambda model: None}, TypeError, "validate returned None; return a dict such as"),
        ({"score": lambda row: None}, TypeError, "score returned None; return a number, higher is better"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path, given, kind, said):
    plain = {"model": nca(), "data": STATES, "loss": loss, "settings": settings(tmp_path / "run", epochs=1)}
    with pytest.raises(kind, match=said):
        fit(**(plain | given))


def test_a_wrong_job_is_named(tmp_path):
    own = settings(tmp_path / "run")
    for job, said in ((None, "got NoneType; `fit`"), (nca(), "got NCA; `fit`"), (Job(), "Job has no model")):
        with pytest.raises(TypeError, match=said):
            run(job, own)
    assert not (tmp_path / "run").exists()


def test_data_with_nan_are_blamed_for_it(tmp_path):
    bad = STATES.clone()
    bad[3, 0, 0, 0] = math.nan
    pick = {0: lambda b: b, 1: lambda b: b[0], 2: lambda b: b["x"]}
    said = "the data hold NaN or infinite values, so the loss became nan.*with data that hold none"
    for number, data in enumerate((bad, (bad, bad), [{"x": state} for state in bad])):
        with pytest.raises(TrainingStopped, match=said) as error:
            fit(nca(), data, lambda m, b, at, n=number: loss(m, pick[n](b), at), settings(tmp_path / str(number)))
        assert "--" not in str(error.value)


def test_a_folder_that_cannot_be_locked_is_used_with_a_word(tmp_path, monkeypatch, capsys):
    def refuses(self, timeout):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("ncafast.utils.lock.FileLock.acquire", refuses)
    assert len(fit(nca(), STATES, loss, settings(tmp_path)).history) == 2
    assert "cannot be locked ([Errno 38] Function not implemented), so take care" in capsys.readouterr().out


HOLD = """
import sys
from pathlib import Path
sys.path.insert(0, {helpers!r})
from short_training import STATES, nca, loss, settings
from ncafast.train import fit
def waits(model, batch, at):
    print("begun", flush=True)
    sys.stdin.read()
fit(nca(), STATES, waits, settings(Path({out!r})))
"""


def test_two_trainings_in_one_folder_exclude_each_other_until_one_is_killed(tmp_path):
    out = tmp_path / "run"
    own = settings(out)
    code = HOLD.format(helpers=str(Path(__file__).parents[1] / "helpers"), out=str(out))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as other:
        try:
            assert other.stdout.readline() == b"begun\n"
            with pytest.raises(ValueError, match=rf"run: is in use by process {other.pid} on .*another folder"):
                fit(nca(), STATES, loss, own)
        finally:
            other.kill()
    assert other.returncode == -signal.SIGKILL
    assert len(fit(nca(), STATES, loss, own).history) == 2

    def nested(model, batch, at):
        fit(nca(), STATES, loss, settings(tmp_path / "b"))

    with pytest.raises(ValueError, match=f"in use by process {os.getpid()} on"):
        fit(nca(), STATES, nested, settings(tmp_path / "b"))
    assert len(fit(nca(), STATES, loss, settings(tmp_path / "b")).history) == 2


@pytest.mark.parametrize("epochs", [2, 4])
def test_another_length_is_said_and_leaves_the_learning_rate_alone(tmp_path, capsys, epochs):
    own = settings(tmp_path / "run", epochs=3, schedule="step", lr_step=1, lr_gamma=0.5, lr=0.01)
    fit(nca(), STATES, loss, dataclasses.replace(own, epochs=1))
    capsys.readouterr()
    rates = [row["lr"] for row in fit(nca(), STATES, loss, dataclasses.replace(own, epochs=epochs)).history]
    said = f"run began with epochs=1, and now ends after {epochs}; the learning rate of each epoch is the same"
    assert capsys.readouterr().out.count(said) == 1
    assert rates == [0.01 / 2**epoch for epoch in range(epochs)]


def test_a_cosine_run_has_its_end(tmp_path):
    own = settings(tmp_path, schedule="cosine", lr=0.01)
    rates = [row["lr"] for row in fit(nca(), STATES, loss, own).history]
    assert rates == pytest.approx([0.005 * (1 + math.cos(math.pi * step / 6)) for step in (2, 5)])
    with pytest.raises(ValueError, match="cosine"):
        fit(nca(), STATES, loss, dataclasses.replace(own, epochs=3))


def test_determinism_is_switched_on_for_the_run_alone(tmp_path):
    seen = []

    def look(model, batch, at):
        seen.append(torch.are_deterministic_algorithms_enabled())
        return loss(model, batch, at)

    fit(nca(), STATES, look, settings(tmp_path, deterministic=True))
    assert all(seen) and not torch.are_deterministic_algorithms_enabled()


def test_the_callers_random_numbers_and_threads_are_left_alone(tmp_path):
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    before = torch.get_num_threads()
    fit(nca(), STATES, loss, settings(tmp_path, threads=2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("normalise", "clip"), [(True, 0.0), (True, 0.5), (False, 0.5)])
def test_gradients_are_normalised_per_parameter_then_clipped(normalise, clip):
    from ncafast.train.optimiser import shape_gradient

    parameters = [torch.nn.Parameter(torch.rand(shape)) for shape in ((3, 4), (5,), (2,))]
    expected = []
    for p in parameters[:2]:
        p.grad = torch.randn(p.shape)
        expected.append(p.grad / (p.grad.norm() + 1e-8) if normalise else p.grad.clone())
    raw, total = (
        math.sqrt(sum(float(g.square().sum()) for g in each)) for each in ([p.grad for p in parameters[:2]], expected)
    )
    norm = shape_gradient(parameters, normalise=normalise, clip=clip)
    assert norm.item() == pytest.approx(raw, rel=1e-5)
    factor = min(clip / total, 1.0) if clip else 1.0
    for p, g in zip(parameters, expected, strict=False):
        torch.testing.assert_close(p.grad, g * factor, rtol=1e-4, atol=1e-6)
    assert parameters[2].grad is None


def with_buffer():
    module = nca()
    module.register_buffer("mean", torch.ones(3))
    return module


def test_a_model_that_load_would_not_build_is_said_before_and_written_as_bare_tensors(tmp_path, capsys):
    def told(model, batch, at):
        seen.append(capsys.readouterr().out)  # what was said before the first step, then between steps
        return model(batch, at.steps, **at.options).square().mean()

    seen: list[str] = []
    result = fit(with_buffer(), STATES, told, settings(tmp_path))
    assert "will hold bare tensors, since mean is not known" in seen[0]
    again = with_buffer()
    again.load_state_dict(load_file(result.last))
    with pytest.raises(ValueError, match="holds the bare tensors of a NCA: mean is not known to the class"):
        ncafast.load(result.last)


class Remembers(nn.Module):
    """Keeps more than tensors in its state."""

    def __init__(self):
        super().__init__()
        self.nca = nca()

    def forward(self, *args, **options):
        return self.nca(*args, **options)

    def get_extra_state(self):
        return {"words": ["a", "b"]}

    def set_extra_state(self, state):
        assert state == {"words": ["a", "b"]}


def test_a_state_that_is_no_tensor_is_trained_and_resumed(tmp_path, capsys):
    fit(Remembers(), STATES, quiet_loss, settings(tmp_path, epochs=1))
    assert "will hold bare tensors without _extra_state (resume.pt has it)" in capsys.readouterr().out
    result = fit(Remembers(), STATES, quiet_loss, settings(tmp_path))
    assert len(result.history) == 2 and set(load_file(result.last)) == {f"nca.{name}" for name in nca().state_dict()}


def test_a_compiled_model_is_saved_as_the_one_inside(tmp_path):
    result = fit(torch.compile(nca(), backend="eager"), STATES, quiet_loss, settings(tmp_path, epochs=1))
    assert isinstance(ncafast.load(result.last), NCA)
