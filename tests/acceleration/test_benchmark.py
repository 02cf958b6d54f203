"""accelerate(model, x, benchmark=True) prints what a call takes before and after, and changes nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from foreign_steps import Octree, Texture
from torch import nn

import ncafast
from ncafast.acceleration import benchmark
from ncafast.measuring.timing import Spread


@pytest.fixture(autouse=True)
def one_round(monkeypatch):
    monkeypatch.setattr(benchmark, "_ROUNDS", (1, 1))


class Scored(nn.Module):
    """An automaton, a head whose statistics move with every call, and a result that is an object."""

    def __init__(self):
        super().__init__()
        self.nca, self.norm, self.head = Octree(), nn.BatchNorm1d(9), nn.Linear(9, 2)

    def forward(self, x, steps=2):
        out = type("Scores", (), {})()
        out.scores = self.head(self.norm(self.nca(x, steps).mean((2, 3))))
        return out


def table(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.endswith("x") and "ms" in line]


def test_a_table_of_time_and_memory_is_printed_and_the_model_stays_as_it_was(capsys):
    torch.manual_seed(0)
    model, x = Scored(), torch.randn(2, 9, 8, 10)
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(1)
    ncafast.accelerate(model, x, 3, benchmark=True)
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(3))
    assert "forward" in vars(model.nca) and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.values(), strict=True))
    text = capsys.readouterr().err
    assert text.index("nca (Octree): forward is accelerated") < text.index("own code")
    assert [row[0] for row in table(text)] == ["forward", "training"]
    steps = (": first call in its own code", ": first call accelerated", ", both in turns: round 1 of 1")
    places = [text.index(name + step) for name in ("forward", "training step") for step in steps]
    assert places == sorted(places) and places[-1] < text.index("own code  ")


def test_where_nothing_is_learned_there_is_no_training_step(capsys):
    model = Octree().requires_grad_(False)
    ncafast.accelerate(model, torch.randn(2, 9, 8, 10), benchmark=True, quiet=True)
    text = capsys.readouterr().err
    assert [row[0] for row in table(text)] == ["forward"] and "first call" not in text


def test_the_named_method_is_what_is_measured(capsys):
    class Evolving(Texture):
        forward = nn.Module.forward

        def evolve(self, x):
            return Texture.forward(self, x)

    ncafast.accelerate(Evolving(), torch.randn(1, 7, 8, 9), method="evolve", benchmark=True, quiet=True)
    assert len(table(capsys.readouterr().err)) == 2
    with pytest.raises(ValueError, match="needs the inputs of a call"):
        ncafast.accelerate(Octree(), benchmark=True)


def test_own_code_runs_inside_the_block_alone():
    torch.manual_seed(0)
    model = ncafast.accelerate(Octree(), quiet=True)
    with benchmark.own_code(model):
        assert "forward" not in vars(model)
    assert "forward" in vars(model)


def test_a_row_says_medians_percentiles_and_ratio():
    row = benchmark.Row("forward", (Spread(0.2, 0.25, 0.3), Spread(0.01, 0.0125, 0.0151)), (3 * 2**20, 2**20), 7)
    time, memory = str(row).splitlines()
    assert time.split() == ["forward", "250", "ms", "(200-300)", "12.5", "ms", "(10-15.1)", "20x"]
    assert memory.split() == ["peak", "memory", "3.0", "MiB", "1.0", "MiB", "3x"]
    assert len(str(benchmark.Row("forward", row.times, (None, None), 7)).splitlines()) == 1
