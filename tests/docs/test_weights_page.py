"""docs/bring-your-own-weights.md is true: its code runs, and converted weights compute what other frameworks would."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from test_docs import DOCS, blocks

import ncafast
from bench import weights
from ncafast import cli, models

PAGE = DOCS / "bring-your-own-weights.md"
TEXT = PAGE.read_text(encoding="utf-8")


def run(number: int) -> dict:
    names: dict = {}
    exec(blocks(PAGE, "python")[number], names)
    return names


def windows(x: np.ndarray) -> np.ndarray:
    """[B, H, W, C] -> [B, H, W, 3, 3, C], zeros past the edges."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)


def living(x: np.ndarray, channel: int) -> np.ndarray:
    return windows(x)[..., channel].max((3, 4))[..., None] > 0.1


def compared(nca: ncafast.NCA, step, channels: int) -> None:
    """Three steps in which every cell updates, beside plain numpy."""
    x = np.random.default_rng(1).uniform(-0.3, 1, (2, 7, 5, channels)).astype("float32")
    start, mask = torch.from_numpy(x).movedim(-1, 1), torch.ones(3, 1, 1, 7, 5)
    for _ in range(3):
        x = step(x)
    assert np.abs(x).max() > 0.1
    np.testing.assert_allclose(nca.eval()(start, 3, fire_mask=mask).movedim(1, -1).detach().numpy(), x, 1e-4, 1e-4)


def test_weights_of_pytorch(tmp_path, monkeypatch):
    """The page compares them itself."""
    monkeypatch.chdir(tmp_path)
    names = run(0)
    exec(blocks(PAGE, "python")[1], names)
    assert ncafast.load("theirs.safetensors").rule == names["rule"]


def test_weights_of_flax(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run(2)
    kernel, (first, last) = names["params"]["perceive"]["kernel"], names["params"]["layers"]

    def step(x):
        seen = np.einsum("bhwklc,klcf->bhwcf", windows(x), kernel.reshape(3, 3, 16, 3)).reshape(*x.shape[:3], 48)
        hidden = np.maximum(seen @ first["kernel"][0, 0] + first["bias"], 0)
        new = x + hidden @ last["kernel"][0, 0] + last["bias"]
        return new * (living(x, 15) & living(new, 15))

    compared(ncafast.load("from_flax.safetensors"), step, 16)


def test_weights_of_tensorflow(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run(3)
    v = names["variables"]
    along_x = np.outer([1, 2, 1], [-1, 0, 1]) / 8
    bank = np.stack([np.pad([[1.0]], 1), along_x, along_x.T], -1).astype("float32")

    def step(x):
        seen = np.einsum("bhwklc,klf->bhwcf", windows(x), bank).reshape(*x.shape[:3], 48)
        hidden = np.maximum(seen @ v["dmodel/0/kernel"][0, 0] + v["dmodel/0/bias"], 0)
        new = x + hidden @ v["dmodel/1/kernel"][0, 0] + v["dmodel/1/bias"]
        return new * (living(x, 3) & living(new, 3))

    compared(ncafast.load("from_tensorflow.safetensors"), step, 16)


def test_the_commands_print_what_the_page_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save(models.BackboneNCA(32, 0.5).state_dict(), "model0.pth")
    torch.save(models.GrowingNCA().state_dict(), "growing_nca.pth")
    torch.save(models.OctreeNCA([((4, 4), 1), ((2, 2), 1)]).state_dict(), "weights.pth")
    commands = blocks(PAGE, "bash")[0].splitlines()
    shown = []
    for command in commands:
        words = re.findall(r'"[^"]*"|\S+', command)[1:]
        assert cli.main([word.strip('"') for word in words]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == blocks(PAGE, "text")[0]


def test_every_published_model_is_in_the_table():
    rows = "".join(line for line in TEXT.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", rows)) >= set(models.__all__) - {"CascadeNCA"}


@pytest.mark.parametrize("name", weights.TRAPS)
def test_every_trap_has_a_picture_that_shows_a_difference(name):
    assert f"(images/weights-{name}.png)" in TEXT
    assert 0 < (Path(DOCS) / "images" / f"weights-{name}.png").stat().st_size < 40_000
    right, wrong = (show() for _, show in weights.TRAPS[name])
    assert ((right - wrong).abs().amax(-1) > 0.1).float().mean() > 0.02
