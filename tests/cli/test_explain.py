"""`ncafast explain module:Class` says what accelerate would do with a class that stands in a file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ncafast import cli

MINE = '''
import torch
from torch import nn
import torch.nn.functional as F


class Mine(nn.Module):
    """One filter per channel; the state is clamped on demand."""

    def __init__(self, width=12, clamped=False):
        super().__init__()
        self.near, self.clamped = nn.Conv2d(8, 8, 3, padding=1, groups=8), clamped
        self.one, self.two = nn.Conv2d(16, width, 1), nn.Conv2d(width, 8, 1)

    def evolve(self, x, long=3):
        for _ in range(long):
            x = x + self.two(F.relu(self.one(torch.cat([x, self.near(x)], 1)))) * (torch.rand_like(x[:, :1]) < 0.5)
        return F.softplus(x) if self.clamped else x
'''


@pytest.fixture(autouse=True)
def own_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_to_explain", raising=False)
    Path("mine_to_explain.py").write_text(MINE)


WORDS = ["explain", "mine_to_explain:Mine", "--method", "evolve", "--steps", "long"]


@pytest.mark.parametrize("more", [[], ["--shape", "2,8,16,16"], ["--args", '{"width": 6}']])
def test_what_is_found_is_printed(more, capsys):
    assert cli.main([*WORDS, *more]) == 0
    hidden = "H6" if "--args" in more else "H12"
    assert f"model (Mine): evolve is accelerated. C8 {hidden}, 1 per channel 3x3" in capsys.readouterr().out


def test_a_reason_is_printed_and_the_exit_code_says_so(capsys):
    assert cli.main([*WORDS, "--args", '{"clamped": true}']) == 1
    assert "softplus" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mine_to_explain"], "takes module:Class or FILE.py:Class"),
        (["mine_to_explain.py"], "takes module:Class or FILE.py:Class"),
        (["nowhere/mine.py:Mine"], "explain nowhere/mine.py:Mine: there is no such file"),
        (["mine_to_explain:Theirs"], "explain mine_to_explain:Theirs: AttributeError"),
        (["mine_to_explain:Mine", "--args", '{"no": 1}'], 'with --args {"no": 1}: TypeError'),
        (["mine_to_explain:Mine", "--shape", "2,16,"], "2,16,32,32, of the batch, channels and axes; '2,16,' is none"),
        (["mine_to_explain:Mine", "--shape", "2,8"], "--shape 2,8: batch, channels and at least one axis"),
    ],
)
def test_wrong_words_are_explained_in_a_line(words, said, capsys):
    assert cli.main(["explain", *words]) == 1
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["elsewhere/mine_in_a_file.py", "elsewhere/colorsys.py"])
def test_a_class_of_a_file_finds_the_files_beside_it(name, capsys):
    import colorsys  # which a file may be called like

    Path("elsewhere").mkdir()
    Path("elsewhere/beside_mine.py").write_text("WIDTH = 5\n")
    Path(name).write_text(f"from beside_mine import WIDTH\n{MINE}".replace("width=12", "width=WIDTH"))
    before = list(sys.path)
    assert cli.main(["explain", f"{name}:Mine", *WORDS[2:]]) == 0
    assert "evolve is accelerated. C8 H5" in capsys.readouterr().out
    assert sys.path == before and sys.modules["colorsys"] is colorsys
    for module in ("mine_in_a_file", "_ncafast_colorsys", "beside_mine"):
        sys.modules.pop(module, None)


AROUND = """
import torch
from torch import nn


class Around(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.near = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.one, self.two, self.head = nn.Conv2d(16, 12, 1), nn.Conv2d(12, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, image, steps=3):
        x = self.embed(image)
        for _ in range(steps):
            x = x + self.two(torch.relu(self.one(torch.cat([x, self.near(x)], 1))))
        return self.head(x)


class Labelled(Around):
    def forward(self, x, label, steps=3):
        return super().forward(x, steps) + label
"""


@pytest.mark.parametrize("shape", [[], ["--shape", "2,3,32,32"]])
def test_a_refusal_names_its_reason_and_the_words_of_the_command(shape, capsys):
    Path("around_steps.py").write_text(AROUND)
    assert cli.main(["explain", "around_steps.py:Around", *shape]) == 1
    said = capsys.readouterr().out
    assert "forward makes [" in said and "torch.compile(model, backend='ncafast') finds the steps inside" in said
    assert "--shape" in said and "channels=" not in said and "ndim=" not in said
    assert cli.main(["explain", "around_steps.py:Labelled"]) == 1
    assert "it also needs `label`; in Python, give an example" in capsys.readouterr().out
    assert cli.main(["explain", "around_steps.py:Labelled", "--method", "embed"]) == 1
    assert "method=" not in capsys.readouterr().out


PADS = """
from around_steps import *


class Pads(Around):
    def step(self, x):
        return x + self.two(torch.relu(self.one(torch.cat([x, self.near(x)], 1))))

    def forward(self, image, steps=3):
        x = nn.functional.pad(image, (0, 0, 0, 0, 0, 5))
        for _ in range(steps):
            x = self.step(x)
        return self.head(x)
"""


@pytest.mark.parametrize("shape", ["2,8,32,32", "2,3,32,32"])
def test_a_shape_is_that_of_a_state_or_of_the_input_that_it_is_made_of(shape, capsys):
    Path("around_steps.py").write_text(AROUND)
    Path("pads.py").write_text(PADS)
    assert cli.main(["explain", "pads.py:Pads", "--shape", shape]) == 0
    assert "model (Pads): step is accelerated. C8" in capsys.readouterr().out
    assert cli.main(["explain", "pads.py:Pads", "--shape", "2,5,32,32"]) == 1
    assert "--shape 2,5,32,32 may not be its shape" in capsys.readouterr().out


def test_the_reason_is_that_of_the_layout_that_was_meant(capsys):
    assert cli.main([*WORDS, "--args", '{"clamped": true}', "--shape", "2,8,16,16"]) == 1
    assert "softplus" in capsys.readouterr().out
