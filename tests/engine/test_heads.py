"""Heads that classify, against their definitions; and automata with one."""

from __future__ import annotations

import pytest
import torch

import ncafast
from ncafast import info
from ncafast.heads import AttentionPoolHead, AveragePoolHead, Classifier, MaxPoolHead

HEADS = (AveragePoolHead, MaxPoolHead, AttentionPoolHead)


def random(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def test_pooled_channels_are_their_definitions():
    state = torch.randn(2, 5, 4, 6)
    read = state[:, 2:].flatten(2)
    attention = random(AttentionPoolHead(5, 3, first=2))
    weights = attention.weights(state)
    assert weights.shape == (2, 1, 4, 6)
    torch.testing.assert_close(weights.sum((1, 2, 3)), torch.ones(2))
    for head, expected in (
        (AveragePoolHead(5, 3, first=2), read.mean(2)),
        (MaxPoolHead(5, 3, first=2), read.max(2).values),
        (attention, (weights.flatten(2) * read).sum(2)),
        (AttentionPoolHead(5, 3, first=2), read.mean(2)),  # untrained: every cell weighs the same
    ):
        torch.testing.assert_close(head(state), head.classifier(expected))


def test_parts_of_a_grid_are_pooled_by_themselves():
    state = torch.randn(2, 3, 4, 6)
    head = AveragePoolHead(3, 2, size=2)
    parts = state.unflatten(2, (2, 2)).unflatten(4, (2, 3)).mean((3, 5))
    torch.testing.assert_close(head(state), head.classifier(parts.flatten(1)))
    with pytest.raises(ValueError, match="state has 1 spatial axes"):
        head(state[..., 0])


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("grid", [(5,), (4, 5), (2, 3, 4)])
def test_an_automaton_with_a_head_learns_and_is_saved(kind, grid, tmp_path):
    torch.manual_seed(0)
    nca = random(ncafast.NCA(4, 8, ndim=len(grid), immutable=1))
    model = Classifier(nca, random(kind(4, 3, hidden=0, first=1)))
    x = torch.randn(2, 4, *grid)
    logits, states = model(x, 3, seed=1, states="all")
    torch.testing.assert_close(logits, model.head(states[-1]))
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    ncafast.save(tmp_path / "model.safetensors", model)
    again = ncafast.load(tmp_path / "model.safetensors")
    assert torch.equal(again(x, 3, seed=1), model(x, 3, seed=1))
    assert torch.equal(torch.nn.Sequential(nca, model.head)(x).isfinite(), torch.ones(2, 3).bool())


def test_a_file_of_it_is_described(tmp_path, capsys):
    model = Classifier(ncafast.NCA(4, 8, time_code="linear"), MaxPoolHead(4, 3))
    ncafast.save(tmp_path / "model.safetensors", model)
    assert info.main([str(tmp_path / "model.safetensors")]) == 0
    said = capsys.readouterr().out
    assert "MaxPoolHead" in said and "time_code" in said and "extra" in said and "'rule'" not in said


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="first=4 is not allowed"):
        MaxPoolHead(4, 2, first=4)
    with pytest.raises(ValueError, match=r"this head reads \[B, 4, \*S\]"):
        MaxPoolHead(4, 2)(torch.zeros(1, 3, 2, 2))
    with pytest.raises(TypeError, match="a Classifier of a Identity and a MaxPoolHead cannot be saved"):
        Classifier(torch.nn.Identity(), MaxPoolHead(4, 2)).config()
