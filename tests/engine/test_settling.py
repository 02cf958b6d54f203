"""settle() against one step after another."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import ncafast
from ncafast import convergence, models


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


def changes_of(x: Tensor, rule: ncafast.Rule, params: dict, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """All states [T, B, ...], and the change of each sample in each step [T, B]."""
    _, states = ncafast.rollout(x, rule, params, steps, seed=seed, states="all")
    return states, torch.cat((x[None], states)).diff(dim=0).abs().flatten(2).double().mean(2)


@pytest.mark.parametrize("chunk", [3, 8])
@pytest.mark.parametrize(("score", "plateau", "least"), [("mean", 5, 10), ("largest", 3, 0), ("mean", 1, 40)])
def test_a_plateau_is_steps_in_a_row(chunk: int, score: str, plateau: int, least: int) -> None:
    x, rule, params = calming(fire_rate=0.3)
    states, changes = changes_of(x, rule, params, 80, seed=5)
    scores = changes.mean(1) if score == "mean" else changes.amax(1)
    below = [bool(value < 0.05) and step >= least for step, value in enumerate(scores, start=1)]
    end = next(step for step in range(1, 81) if step >= plateau and all(below[step - plateau : step]))
    options = {"score": score, "plateau": plateau, "min_steps": least, "tolerance": 0.05, "chunk": chunk, "seed": 5}
    found = ncafast.settle(x, rule, params, **options)
    assert found.steps == end >= least and found.converged
    assert torch.equal(found.state, states[end - 1]) and found.change == pytest.approx(scores[end - 1].item())


@pytest.mark.parametrize("chunk", [1, 4, 16])
def test_samples_stop_one_by_one_as_they_would_alone(chunk: int) -> None:
    _, rule, params = calming()
    x = torch.rand(5, 3, 6, 7) * torch.tensor([1.0, 30, 0.2, 1e9, 5]).view(5, 1, 1, 1)
    options = {"tolerance": 0.05, "plateau": 2, "max_steps": 40, "seed": 5, "chunk": chunk}
    found = ncafast.settle(x, rule, params, per_sample=True, **options)
    assert found.converged.tolist() == [True, True, True, False, True] and len(set(found.steps.tolist())) == 5
    for sample in range(5):
        alone = ncafast.settle(x[sample : sample + 1], rule, params, first_sample=sample, **options)
        assert torch.equal(found.state[sample], alone.state[0]) and found.steps[sample] == alone.steps
        assert found.change[sample] == pytest.approx(alone.change) and found.converged[sample] == alone.converged


def test_a_sample_that_has_converged_costs_nothing(monkeypatch) -> None:
    x, rule, params = calming()
    sizes = []
    trace = convergence.trace

    def counted(state, rule, params, steps, options):
        sizes.append((len(state), options.first_sample))
        return trace(state, rule, params, steps, options)

    monkeypatch.setattr(convergence, "trace", counted)
    ncafast.settle(x, rule, params, tolerance=0.05, per_sample=True, seed=5, chunk=1)
    assert sizes[0] == (2, 0) and sizes[-1] == (1, 1) and sizes.count((1, 1)) > 5


def test_extra_channels_may_follow_the_step_and_belong_to_samples() -> None:
    nca = ncafast.NCA(4, 8, extra=1, time_code="linear", max_steps=50, zero_init=False)
    time, own = ncafast.time_code.TimeCode("linear", 50), torch.rand(3, 1, 5, 6)
    x = torch.rand(3, 4, 5, 6)

    def extra(first: int, count: int) -> Tensor:
        return time.after(own, x, first, count)

    options = {"tolerance": 0.0, "max_steps": 7, "chunk": 3, "seed": 5, "first_step": 2}
    expected = nca(x, 7, extra=own, first_step=2, seed=5)
    for each in (False, True):
        found = ncafast.settle(x, nca.rule, nca.params(), extra=extra, per_sample=each, **options)
        torch.testing.assert_close(found.state, expected)
    with pytest.raises(ValueError, match="extra= changes per step here; give a function"):
        ncafast.settle(x, nca.rule, nca.params(), extra=extra(0, 3), **options)


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
    [
        ({"tolerance": -1.0}, "tolerance=-1"),
        ({"chunk": 0}, "chunk=0"),
        ({"max_steps": -1}, "max_steps=-1"),
        ({"plateau": 0}, "plateau=0"),
        ({"score": "sum"}, "score='sum' is not allowed"),
    ],
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


def test_samples_that_depend_on_each_other_stop_together():
    nca = ncafast.NCA(4, 8, norm="batch")
    with pytest.raises(ValueError, match="does not go with norm='batch'"):
        ncafast.settle(torch.rand(2, 4, 5, 6), nca.rule, nca.params(), per_sample=True)
