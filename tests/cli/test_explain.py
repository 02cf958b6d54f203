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
        (["mine_to_explain:Mine", "--shape", "2,8"], "--shape 2,8: batch, channels and at least one axis"),
    ],
)
def test_wrong_words_are_explained_in_a_line(words, said, capsys):
    assert cli.main(["explain", *words]) == 1
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
