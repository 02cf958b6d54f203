"""Options that mean the same are bounded alike in every task and command, before any file is read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ncafast.tasks import classification, depth, growing, mednca, segmentation, selfclassify, texture
from ncafast.train import Pool, PoolJob

NONE = Path("none")  # never read
TRAIN = {
    "mednca": (mednca, {"data": NONE}),
    "segmentation": (segmentation, {"data": NONE}),
    "depth": (depth, {"data": NONE}),
    "classification": (classification, {"data": NONE}),
    "texture": (texture, {"image": NONE}),
    "growing": (growing, {"image": NONE}),
    "selfclassify": (selfclassify, {"data": NONE}),
}
OTHERS = {
    "evaluate mednca": (mednca.evaluate, mednca.EvaluateConfig(NONE)),
    "predict mednca": (mednca.predict, mednca.PredictConfig(NONE, NONE)),
    "evaluate segmentation": (segmentation.evaluate, segmentation.EvaluateConfig(NONE, data=NONE)),
    "predict segmentation": (segmentation.predict, segmentation.PredictConfig(NONE, NONE)),
    "animate segmentation": (segmentation.animate, segmentation.AnimateConfig(NONE, NONE)),
    "evaluate depth": (depth.evaluate, depth.EvaluateConfig(NONE, data=NONE)),
    "predict depth": (depth.predict, depth.PredictConfig(NONE, NONE)),
    "animate depth": (depth.animate, depth.AnimateConfig(NONE, NONE)),
    "render depth": (depth.render, depth.RenderConfig(NONE)),
    "evaluate classification": (classification.evaluate, classification.EvaluateConfig(NONE, NONE)),
    "predict classification": (classification.predict, classification.PredictConfig(NONE, NONE)),
    "animate mednca": (mednca.animate, mednca.AnimateConfig(NONE, NONE)),
    "animate classification": (classification.animate, classification.AnimateConfig(NONE, NONE)),
    "evaluate texture": (texture.evaluate, texture.EvaluateConfig(NONE)),
    "animate texture": (texture.animate, texture.AnimateConfig(NONE)),
    "study texture": (texture.study, texture.StudyConfig(NONE)),
    "evaluate growing": (growing.evaluate, growing.EvaluateConfig(NONE)),
    "animate growing": (growing.animate, growing.AnimateConfig(NONE)),
    "evaluate selfclassify": (selfclassify.evaluate, selfclassify.EvaluateConfig(NONE, NONE)),
    "predict selfclassify": (selfclassify.predict, selfclassify.PredictConfig(NONE, NONE)),
    "animate selfclassify": (selfclassify.animate, selfclassify.AnimateConfig(NONE, NONE)),
}


@pytest.mark.parametrize("name", [name for name in OTHERS if name.startswith("evaluate ")])
def test_every_evaluation_has_a_progress_bar_that_can_be_switched_off(name):
    assert OTHERS[name][1].progress is True


WRONG: list[tuple[str, Any, str]] = [
    ("seed", -1, "give a whole number from 0 to 9223372036854775807"),
    ("seeds", (0, -1), "give whole numbers from 0 to 9223372036854775807"),
    ("seed", 2**63, "give a whole number from 0"),
    ("fire_rate", 0.0, "give a number above 0 to 1"),
    ("fire_rate", 1.5, "give a number above 0 to 1"),
    ("epochs", 0, "give a whole number from 1"),
    ("batch_size", 0, "give a whole number from 1"),
    ("batch_size", 2.5, "give a whole number"),
    ("hidden", 0, "give "),
    ("steps", (0, 0), "from 1"),
    ("steps", "long", "give"),
    ("lr", float("inf"), "give a number above 0"),
    ("lr", "x", "give a number"),
    ("clip", -1.0, "give a number from 0"),
    ("amp", "fp8", "choose from off, bf16, fp16"),
    ("axis", "x", "choose from sagittal, coronal, axial, auto"),
    ("pictures", -1, "give a whole number from 0"),
    ("threads", 0, "give a whole number from 1 to 1024"),
    ("device", None, "give text"),
    ("runs", 0, "give a whole number from 1"),
    ("views", 9, "give a whole number from 1 to 8"),
    ("fps", 0, "give a number above 0"),
    ("val_fraction", 1.0, "give a number from 0 to below 1"),
    ("tolerance", -0.01, "give a number from 0"),
    ("tolerance", float("nan"), "give a number from 0"),
    ("plateau", 0, "give a whole number from 1"),
    ("min_steps", -1, "give a whole number from 0"),
    ("max_steps", 0, "give a whole number from 1"),
    ("step_jitter", 1.0, "give a number from 0 to below 1"),
    ("time_code", "cubic", "choose from none, linear, sincos"),
]


def cases() -> list[Any]:
    found = []
    for task, (module, needed) in TRAIN.items():
        config = module.TrainConfig(**needed)
        found += [(f"train {task}", module.train, config)]
    found += [(name, function, config) for name, (function, config) in OTHERS.items()]
    params = []
    for command, function, config in found:
        for name, value, allowed in WRONG:
            if hasattr(config, name) and (name != "steps" or command.startswith("train")):
                wrong = dataclasses.replace(config, **{name: value})
                params.append(pytest.param(function, wrong, name, value, allowed, id=f"{command} {name}={value}"))
    return params


@pytest.mark.parametrize(("function", "config", "name", "value", "allowed"), cases())
def test_the_same_bounds_hold_everywhere(function, config, name, value, allowed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        function(config)
    said = str(error.value)
    assert said.startswith(f"{name}={value!r} is not allowed; ") and allowed in said
    assert list(tmp_path.iterdir()) == []


def test_most_options_are_looked_at():
    assert len(cases()) > 120


@pytest.mark.parametrize("damage", [8, 50])
def test_no_more_samples_are_damaged_than_there_are(damage, tmp_path):
    Image.new("RGBA", (6, 6), "red").save(tmp_path / "a.png")
    plain = {"size": 6, "padding": 1, "state_channels": 5, "hidden": 4, "steps": (1, 1), "threads": 1}
    config = growing.TrainConfig(image=tmp_path / "a.png", output=tmp_path / "run", damage=damage, **plain)
    with pytest.raises(ValueError, match=rf"damage={damage} is not allowed; of a batch of 8, 1 begin anew; .* 0 to 7"):
        growing.train(config)
    assert not (tmp_path / "run").exists()


def test_the_batch_that_damage_is_compared_with_is_that_of_all_processes():
    class Some(PoolJob):
        pool, damaged, epoch_length = Pool(torch.zeros(9, 1, 2, 2)), 3, 5

    assert Some().steps_per_epoch(4) == 5
    with pytest.raises(ValueError, match="damage=3 is not allowed; of a batch of 3"):
        Some().steps_per_epoch(3)
