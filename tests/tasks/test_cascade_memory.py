"""Depth and segmentation of large images: --memory-limit holds, or a line says what is needed before it is taken."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from ncafast import checkpoint, native
from ncafast.free_memory import _resident
from ncafast.measuring.memory import peak_bytes
from ncafast.tasks import depth, segmentation
from ncafast.tasks.base import initialised
from ncafast.tasks.cascades import new_cascade
from ncafast.tasks.depth.recipe import Recipe as DepthRecipe
from ncafast.tasks.images import ImageError, Reading, read_image
from ncafast.tasks.segmentation.recipe import Recipe as MaskRecipe

HEIGHT, WIDTH = 1500, 2001
RECIPES = {"depth": DepthRecipe(size=48), "segmentation": MaskRecipe(size=48, names=("blob",), values=())}


def large_image(folder):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    plane = 255 * (np.hypot(y - 500, x - 700) < 300)
    Image.fromarray(np.stack([plane, plane, 255 - plane], -1).astype(np.uint8)).save(folder / "large.png")
    Image.new("RGB", (40, 30)).save(folder / "small.png")
    return folder / "large.png"


@pytest.mark.parametrize("task", [depth, segmentation])
def test_a_large_image_takes_what_is_said_at_most_or_is_refused(tmp_path, task):
    name = task.__name__.rsplit(".", 1)[-1]
    config = task.TrainConfig(data=tmp_path, state_channels=8, hidden=12)
    model = initialised(lambda: new_cascade(config, 1), 0)
    with torch.no_grad():
        model.levels[0].update.weight.normal_(std=0.1)  # else all outputs are 0
    checkpoint.save(tmp_path / "m.safetensors", model, task=name, facts=json.dumps({}), recipe=RECIPES[name].to_json())
    options = task.PredictConfig(tmp_path / "m.safetensors", large_image(tmp_path), tmp_path / "out", progress=False)
    task.predict(dataclasses.replace(options, input=tmp_path / "small.png"))
    limit = _resident() + 60 * 10**6
    with pytest.raises(
        ValueError, match=rf"large.png: a result of {WIDTH} x {HEIGHT} pixels needs \d+ MB, and "
    ) as said:
        task.predict(dataclasses.replace(options, memory_limit=str(limit), output=tmp_path / "none"))
    assert not list((tmp_path / "none").rglob("*.png"))
    needed = 10**6 * int(re.search(r"needs (\d+) MB", str(said.value))[1])
    kept = native.keep_memory(0)  # the system's whenever it wants it, though it counts as resident
    try:
        assert peak_bytes(lambda: task.predict(options), torch.device("cpu")) < needed
    finally:
        native.keep_memory(kept)
    limit = _resident() + needed + 50 * 10**6
    assert task.predict(dataclasses.replace(options, memory_limit=str(limit))).written


def test_an_image_that_cannot_be_held_is_not_read(tmp_path, monkeypatch):
    path = large_image(tmp_path)
    monkeypatch.setattr("ncafast.free_memory._limit", _resident() + 10**6)
    with pytest.raises(ImageError, match=rf"large.png: reading {WIDTH} x {HEIGHT} pixels needs 39.0 MB, and \S+ MB is"):
        read_image(path, Reading())
    monkeypatch.undo()
    assert read_image(path, Reading()).size == (WIDTH, HEIGHT)
