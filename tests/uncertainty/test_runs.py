"""Variance over runs and under dropout, against runs that are made one at a time."""

from __future__ import annotations

import pytest
import torch

import ncafast
from ncafast.models import M3DNCA, MedNCA
from ncafast.uncertainty import last_steps, mc_dropout, nqm


def random(module):
    torch.manual_seed(3)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


def read(state):
    return state[:, 2:].sigmoid()


def by_definition(outputs):
    """Outputs [n, B, ...] -> deviation, NQM, mean, in float64."""
    outputs = outputs.double()
    mean = outputs.sum(0) / len(outputs)
    deviation = ((outputs - mean).square().sum(0) / len(outputs)).sqrt()
    return deviation, deviation.flatten(1).sum(1) / mean.flatten(1).sum(1), mean


@pytest.mark.parametrize("at_once", [None, 2])
def test_nqm_is_the_papers_formula_over_runs_of_their_own_masks(at_once):
    nca, x = random(ncafast.NCA(4, 8, immutable=1)), torch.randn(2, 4, 5, 6)
    found = nqm(nca, x, 5, steps=4, seed=7, read=read, reduce="nqm", at_once=at_once)
    runs = torch.stack([read(nca(x, 4, seed=7, first_sample=2 * run)) for run in range(5)])
    for ours, theirs in zip(found, by_definition(runs), strict=True):
        assert theirs.max() > 1e-3
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-7)


def test_other_scores_are_of_the_map():
    nca, x = random(ncafast.NCA(4, 8)), torch.randn(2, 4, 5, 6)
    found = nqm(nca, x, 3, steps=4, seed=7)
    deviation = found.map.flatten(1)
    assert torch.allclose(found.score, deviation.mean(1))
    assert torch.equal(nqm(nca, x, 3, steps=4, seed=7, reduce="max").score, deviation.amax(1))
    with pytest.raises(ValueError, match="give read=torch.sigmoid where they are logits"):
        nqm(lambda x: x + torch.rand(len(x), 1, 1, 1), x, reduce="nqm")
    with pytest.raises(ValueError, match="reduce='sum' is not allowed"):
        nqm(nca, x, reduce="sum", steps=1)
    with pytest.raises(ValueError, match="runs=1 is not allowed"):
        nqm(nca, x, 1)


def test_any_module_is_measured_in_evaluation_mode_and_put_back():
    class Noisy(torch.nn.Linear):
        def forward(self, x):
            assert not self.training
            return super().forward(x) + torch.rand(len(x), 1), "more"

    model = torch.nn.Sequential(torch.nn.Linear(3, 3).eval(), Noisy(3, 2)).train()
    model[0].eval()
    found = nqm(model, torch.randn(4, 3), 200)
    assert found.map.shape == (4, 2) and found.score.shape == (4,)
    torch.testing.assert_close(found.score, torch.full((4,), 12**-0.5), rtol=0.15, atol=0)
    assert model.training and model[1].training and not model[0].training


@pytest.mark.parametrize(
    "model", [MedNCA(6, 8, (3, 3), (3, 4), scale=2), M3DNCA(6, 0.5, steps=[2, 3], hidden_size=8, kernel_size=3)]
)
def test_cascades_are_modules_too(model):
    x = torch.rand(2, 1, 8, 8) if isinstance(model, MedNCA) else torch.rand(2, 8, 8, 8, 1)
    found = nqm(random(model), x, 3, read=torch.sigmoid, seed=1)
    assert found.map.shape == found.output.shape == x.shape and (found.score > 0).all()


def test_dropout_is_switched_on_and_norms_are_not():
    nca = random(ncafast.NCA(4, 8, hidden_dropout=0.5, norm="running", fire_rate=1.0)).eval()
    x, before = torch.randn(2, 4, 5, 6), nca.norm.running_mean.clone()
    assert not nqm(nca, x, 3, steps=2, seed=1).score.any()
    assert (mc_dropout(nca, x, 3, steps=2, seed=1).score > 0).all()
    assert torch.equal(nca.norm.running_mean, before) and not nca.training
    plain = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.Dropout(0.5), torch.nn.Linear(64, 1))
    assert (mc_dropout(plain, torch.randn(4, 3)).score > 0).all()
    with pytest.raises(ValueError, match="NCA has no dropout: build it with hidden_dropout="):
        mc_dropout(ncafast.NCA(), x)


class Plain(torch.nn.Module):
    """Somebody's automaton, without the options of ncafast's."""

    def forward(self, x, steps=1):
        for _ in range(steps):
            x = x + (torch.rand_like(x) > 0.5)
        return x


def test_what_a_module_does_not_take_is_said_with_what_to_do():
    model, x = Plain(), torch.zeros(2, 3, 4, 5)
    with pytest.raises(TypeError, match=r"Plain takes no 'seed' \(x, steps are .*\): .* torch.manual_seed"):
        nqm(model, x, runs=3, steps=2, seed=0)
    with pytest.raises(TypeError, match="Plain takes no 'stepz' .* leave it out"):
        nqm(model, x, runs=3, stepz=2)
    with pytest.raises(TypeError, match="<lambda> takes no 'first_sample' .* leave out at_once or seed"):
        nqm(lambda x, seed: x, x, runs=3, seed=0, at_once=2)
    assert nqm(lambda x, seed: x, x, runs=3, seed=0).map.sum() == 0
    assert nqm(lambda x, **options: x + options["seed"], x, runs=3, seed=1, at_once=1).map.sum() == 0
    torch.manual_seed(0)
    first = nqm(model, x, runs=3, steps=2).map
    torch.manual_seed(0)
    assert first.sum() > 0 and torch.equal(first, nqm(model, x, runs=3, steps=2).map)
    with pytest.raises(TypeError, match="Plain takes no 'states' .* give a function that takes states= or last_steps="):
        last_steps(model, x, 2, steps=3)


def test_what_shows_no_signature_is_called_as_it_is():
    x = torch.rand(2, 3, 4, 4)
    assert torch.equal(nqm(torch.relu, x, runs=2).score, torch.zeros(2))
