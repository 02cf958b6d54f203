"""The last steps of a run, against states that are looked at one after another."""

from __future__ import annotations

import pytest
import torch

import ncafast
from ncafast.models import CascadeNCA, GrowingNCA, MedNCA
from ncafast.uncertainty import flicker, last_steps, stop_time


def blinking(x, states):
    """Six steps; the cells of a row of 4 change never, in step 2, in steps 2 and 5, and in every step."""
    rows = torch.tensor(
        [[1, -1, -1, 1], [1, 1, 1, -1], [1, 1, 1, 1], [1, 1, 1, -1], [1, 1, -1, 1], [1, 1, -1, -1]]
    ).float()
    course = rows[:, None, None].expand(6, len(x), 1, 4)
    return course[-1], course


def test_last_steps_are_their_definition():
    torch.manual_seed(1)
    nca, x = ncafast.NCA(4, 8, zero_init=False), torch.randn(2, 4, 5, 6)
    _, states = nca(x, 9, seed=3, states="all")
    outputs = states[-4:, :, 1:2].sigmoid().double()
    found = last_steps(nca, x, 4, steps=9, seed=3, read=lambda state: state[:, 1:2].sigmoid())
    torch.testing.assert_close(found.map.double(), outputs.std(0, correction=0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.output.double(), outputs.mean(0))
    with pytest.raises(ValueError, match="n=10 is not allowed: the model takes 9 steps"):
        last_steps(nca, x, 10, steps=9)


def test_a_cascade_shows_its_finest_level():
    torch.manual_seed(1)
    model, image = MedNCA(6, 8, (3, 3), (3, 5), scale=2, classes=2), torch.rand(2, 1, 8, 8)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    _, seen = model(image, seed=3, last_steps=5)
    found = last_steps(model, image, 3, seed=3, read=torch.sigmoid)
    torch.testing.assert_close(found.map, seen[-3:].sigmoid().std(0, correction=0), rtol=1e-4, atol=1e-6)
    decisions = seen.argmax(2)
    assert torch.equal(flicker(model, image, 5, seed=3).map, (decisions[1:] != decisions[:-1]).float().mean(0))
    stopped = stop_time(model, image, seed=3)
    assert torch.equal(stopped.output, decisions[-1]) and 0 < stopped.score.max() <= 5


def test_of_a_list_of_levels_the_finest_counts():
    torch.manual_seed(1)
    nca, image = ncafast.NCA(4, 8, immutable=1, zero_init=False), torch.rand(2, 1, 8, 8)
    model = CascadeNCA(nca, scales=[2, 1], steps=[3, 5])
    _, (_, states) = model(image, seed=3, states="all")
    found = last_steps(model, image, 4, seed=3, read=torch.sigmoid)
    torch.testing.assert_close(found.map, states[-4:].sigmoid().std(0, correction=0), rtol=1e-4, atol=1e-6)


def test_flicker_is_the_share_of_steps_that_change_a_decision():
    found = flicker(blinking, torch.zeros(2, 1, 4), 6)
    assert found.map.tolist() == [pytest.approx([0, 0.2, 0.4, 1.0])] * 2
    assert found.score.tolist() == pytest.approx([0.4] * 2)
    assert flicker(blinking, torch.zeros(1, 1, 4), 2).map.tolist() == [[0, 0, 0, 1]]


def test_stop_time_is_the_last_change():
    found = stop_time(blinking, torch.zeros(2, 1, 4))
    assert found.map.tolist() == [[0, 2, 5, 6]] * 2
    assert found.output.tolist() == [[True, True, False, False]] * 2


def test_decisions_of_states_whose_channels_are_last():
    torch.manual_seed(0)
    model, x = GrowingNCA(5, hidden_size=6, device="cpu"), torch.rand(2, 7, 6, 5)
    with torch.no_grad():
        model.fc1.weight.normal_(std=0.5)
    _, states = model(x, steps=4, states="all", seed=3)
    decided = states[-3:].argmax(-1)  # [3, B, H, W]
    assert torch.equal(flicker(model, x, 3, steps=4, seed=3).map, (decided[1:] != decided[:-1]).float().mean(0))
    assert stop_time(model, x, 3, steps=4, seed=3).map.shape == (2, 7, 6)


def test_a_module_without_states_is_named():
    with pytest.raises(TypeError, match="does not return .*, states. when it is called with states='all'"):
        flicker(lambda x, states: x, torch.zeros(1, 1, 4))
