"""settle() against one step after another."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import ncafast
from ncafast import models


def calming(fire_rate: float = 0.5, seed: int = 0) -> tuple[Tensor, ncafast.Rule, dict[str, Tensor]]:
    """Two samples, a small state and a large one, of an automaton that draws every state to 0."""
    rule = ncafast.Rule(channels=3, num_filters=1, hidden=(8,), activation="identity", fire_rate=fire_rate)
    torch.manual_seed(seed)
    params = {name: torch.zeros(shape) for name, shape in rule.param_shapes().items()}
    params["hidden.weight"][:3, :3] = torch.eye(3)
    params["update.weight"][:, :3] = -0.3 * torch.eye(3)
    x = torch.rand(2, 3, 6, 7)
    x[1] *= 20
    return x, rule, params


def by_steps(x: Tensor, rule: ncafast.Rule, params: dict, tolerance: float, most: int, channels: slice, **options):
    """The definition: look after every step."""
    for step in range(most):
        after = ncafast.rollout(
            x, rule, params, 1, first_step=options.get("first_step", 0) + step, seed=options["seed"]
        )
        change = max(float((after[b, channels] - x[b, channels]).abs().double().mean()) for b in range(len(x)))
        x = after
        if change < tolerance:
            return x, step + 1, change, True
    return x, most, change, False


@pytest.mark.parametrize("chunk", [1, 3, 8, 100])
@pytest.mark.parametrize("channels", [slice(None), slice(1, 2)])
def test_it_stops_where_one_step_after_another_does(chunk: int, channels: slice) -> None:
    x, rule, params = calming()
    expected = by_steps(x, rule, params, 0.05, 100, channels, seed=5, first_step=2)
    found = ncafast.settle(
        x, rule, params, tolerance=0.05, max_steps=100, chunk=chunk, channels=channels, seed=5, first_step=2
    )
    assert 10 < found.steps == expected[1] < 60
    assert torch.equal(found.state, expected[0])
    assert found.change == pytest.approx(expected[2], rel=1e-6)
    assert found.converged


@pytest.mark.parametrize("most", [0, 1, 7, 8, 9])
def test_it_gives_up_at_the_most_steps(most: int) -> None:
    x, rule, params = calming()
    found = ncafast.settle(x, rule, params, tolerance=1e-9, max_steps=most, chunk=4, seed=5)
    assert (found.steps, found.converged) == (most, False)
    assert torch.equal(found.state, ncafast.rollout(x, rule, params, most, seed=5))


def test_no_change_is_rest_at_any_tolerance_and_nan_is_none() -> None:
    nca = ncafast.NCA(channels=4, hidden=8)  # its last layer starts at 0
    x = torch.rand(1, 4, 5, 6)
    assert ncafast.settle(x, nca.rule, nca.params(), tolerance=0.0)[1:] == (1, 0.0, True)
    x[0, 0, 0, 0] = torch.nan
    found = ncafast.settle(x, nca.rule, nca.params())
    assert (found.steps, found.converged) == (1, False)


def test_one_draw_of_the_seed_for_the_whole_run() -> None:
    x, rule, params = calming()
    torch.manual_seed(3)
    found = ncafast.settle(x, rule, params, tolerance=0.05, chunk=2)
    torch.manual_seed(3)
    again = ncafast.settle(x, rule, params, tolerance=0.05, chunk=5)
    assert torch.equal(found.state, again.state) and found.steps == again.steps
    assert not found.state.requires_grad


def test_modules_and_published_models_settle() -> None:
    nca = ncafast.NCA(channels=4, hidden=8)  # its last layer starts at 0: it has converged at once
    assert ncafast.settle(torch.rand(1, 4, 5, 6), nca.rule, nca.params()).steps == 1
    level = models.BasicNCA3D(4, 0.5, hidden_size=8, kernel_size=3)
    found = ncafast.settle(torch.rand(1, 4, 5, 6, 7), level.rule, level.params(), channels=slice(1, None))
    assert (found.steps, found.change, found.converged) == (1, 0.0, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"tolerance": -1.0}, "tolerance=-1"), ({"chunk": 0}, "chunk=0"), ({"max_steps": -1}, "max_steps=-1")],
)
def test_wrong_options_are_named(options: dict, message: str) -> None:
    x, rule, params = calming()
    with pytest.raises(ValueError, match=message):
        ncafast.settle(x, rule, params, **options)


def test_nothing_to_look_at_is_named() -> None:
    x, rule, params = calming()
    with pytest.raises(ValueError, match="has no sample whose change could be measured"):
        ncafast.settle(x[:0], rule, params)
    with pytest.raises(ValueError, match=r"has no channel at channels=slice\(99, None, None\)"):
        ncafast.settle(x, rule, params, channels=slice(99, None))


def test_it_is_printed_in_one_line():
    nca = ncafast.NCA(4, 8)  # which stands still
    found = repr(ncafast.settle(torch.rand(2, 4, 5, 6), nca.rule, nca.params()))
    assert found == "Settled(converged after 1 steps, change 0, state [2, 4, 5, 6])"
