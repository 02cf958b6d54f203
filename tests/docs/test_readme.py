"""The README is true: every Python block runs, every command and option that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import ncafast
from ncafast import backends
from ncafast.bench import originals

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short():
    assert len(README.splitlines()) < 200


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def with_text(part: str) -> str:
    (found,) = [block for block in blocks("python") if part in block]
    return found


def test_every_python_block_is_tested():
    assert len(blocks("python")) == 3


def test_published_model_takes_the_originals_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    original = originals.MaxNCA(channel_n=16, hidden_size=128, input_channels=3)
    torch.nn.init.normal_(original.fc1.weight, std=0.1)
    torch.save(original.state_dict(), "classifier.pth")
    names: dict = {}
    exec(with_text("MaxNCA"), names)
    model = names["model"]
    assert names["logits"].shape == (2, 13) and names["x"].shape == (2, 64, 64, 16)
    for name, p in model.named_parameters():
        assert p.grad is not None
        # Batch norm takes away what is added before it: the gradients of those biases are 0 up to rounding.
        assert p.grad.abs().sum() > 0 or name in ("p0.bias", "p1.bias", "fc0.bias")
    x = torch.rand(2, 9, 10, 16)
    expected, _ = original(x, steps=5, fire_rate=0.0)  # 0 in its sense: every cell updates
    torch.testing.assert_close(model(x, steps=5, fire_rate=0.0)[0], expected, rtol=1e-4, atol=1e-4)


def test_nca_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(with_text("NCA(channels=16"), names)
    assert names["frames"].shape == (4, 4, 16, 32, 32)
    assert torch.equal(names["frames"][-1], names["x"])
    ncafast.save("model.safetensors", names["nca"])
    again = ncafast.load("model.safetensors")
    torch.testing.assert_close(again(names["x"], 2, seed=1), names["nca"](names["x"], 2, seed=1))


def test_rollout_example():
    exec(with_text("first_step=4"), {})  # asserts for itself


def test_the_test_command_is_found_as_continuous_integration_finds_it():
    after = README.split("<!-- test command -->")[1]
    command = re.search(r"^```.*?\n(.*?)^```", after, re.DOTALL | re.MULTILINE)
    assert command is not None
    assert "python3 -m venv .venv" in command.group(1)
    assert command.group(1).rstrip().endswith(".venv/bin/python -m pytest -n 2 --dist worksteal")


def test_backend_table_says_which_ones_are_there():
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([\w ,;]+) \|$", README, re.MULTILINE))
    there = {
        name: "yes" if backends.get(name).UNVERIFIED is None else f"yes, {backends.get(name).UNVERIFIED}"
        for name in backends.names()
    }
    assert {name: words for name, words in rows.items() if words != "not yet"} == there


@pytest.mark.parametrize("refused", [torch.func.grad, torch.func.jacrev])
def test_what_the_readme_says_torch_refuses(refused):
    nca = ncafast.NCA(channels=4, hidden=8, zero_init=False)
    with pytest.raises(RuntimeError):
        refused(lambda x: nca(x, steps=2, seed=1).sum())(torch.rand(1, 4, 5, 6))
