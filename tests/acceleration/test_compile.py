"""torch.compile(backend="ncafast"): steps that Dynamo unrolls run as a rollout, and results stay what they were."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from foreign_steps import Filters, Growing, Octree
from refused_steps import Base, Decaying, Normed, Residual
from test_accelerate import CHANNELS_LAST, STEPPED, built
from torch import nn

import ncafast
from ncafast.acceleration import NotAcceleratedWarning, dynamo, fuse

EXACT = {"masks": "torch", "rest": "eager", "quiet": True}
CHANNELS = {"blood cells": 10, "swapped axes": 9, "texture": 7, "digits": 10, "noise": 6, "layer norm without bias": 8}


@pytest.fixture(autouse=True)
def lengths(monkeypatch):
    """The number of steps of each rollout that runs; nothing compiled is left from other tests."""
    ran: list[int] = []

    def rollout(x, rule, params, steps, **options):
        ran.append(steps)
        return ncafast.rollout(x, rule, params, steps, **options)

    torch._dynamo.reset()
    monkeypatch.setattr(fuse, "rollout", rollout)
    yield ran
    torch._dynamo.reset()


def compiled(function, **options):
    return torch.compile(function, backend="ncafast", options=EXACT | options)


def results(function, parameters, *inputs) -> list[torch.Tensor]:
    """What a function of the generator's state gives, and the gradients of a sum of it."""
    torch.manual_seed(5)
    leaf = inputs[0].clone().requires_grad_()
    out = function(leaf, *inputs[1:])
    weights = torch.linspace(0.5, 1.5, out.numel()).view(out.shape)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), [leaf, *parameters])]


def assert_close(got: list[torch.Tensor], want: list[torch.Tensor]) -> None:
    """Gradients that are nothing but rounding, as of biases below batch statistics, count by the largest one's size."""
    top = max(float(value.abs().max()) for value in want[2:])
    for a, b in zip(got, want, strict=True):
        largest = float(b.abs().max())
        assert float((a - b).abs().max()) <= 1e-5 * (top if largest < 1e-5 * top else largest)


@pytest.mark.parametrize("name", CHANNELS)
def test_steps_give_what_they_gave_with_their_own_draws_on_a_square_grid(name, lengths):
    model = built(name)

    def steps(x):
        if name not in STEPPED:
            return model(x, 3)
        for _ in range(3):
            x = getattr(model, STEPPED[name])(x)
        return x

    x = torch.randn(2, CHANNELS[name], 12, 12)
    x = x.movedim(1, -1).contiguous() if name in CHANNELS_LAST else x
    parameters = list(model.parameters())
    want, got = results(steps, parameters, x), results(compiled(steps), parameters, x)
    assert lengths == [3]
    assert_close(got, want)


class Segmenter(nn.Module):
    """An embedding before, a head and a loss behind, statistics that are collected, two levels of one automaton."""

    def __init__(self):
        super().__init__()
        self.down, self.norm = nn.Conv2d(3, 9, 3, 2, 1, bias=False), nn.BatchNorm2d(9)
        self.coarse, self.fine, self.head = Octree(), Octree(), nn.ConvTranspose2d(9, 2, 2, 2)

    def forward(self, image, target):
        x = torch.relu(self.norm(self.down(image)))
        y = self.coarse(nn.functional.avg_pool2d(x, 2), 3)
        x = self.fine(torch.cat([x[:, :2], nn.functional.interpolate(y, scale_factor=2.0)[:, 2:]], 1), 4)
        return nn.functional.mse_loss(self.head(x), target, reduction="none")


@pytest.mark.parametrize("rest", ["eager", "inductor"])
def test_what_is_around_the_steps_runs_too(rest, lengths):
    torch.manual_seed(2)
    model = Segmenter()
    plain, inputs = copy.deepcopy(model), (torch.randn(2, 3, 24, 24), torch.randn(2, 2, 24, 24))
    want = results(plain, list(plain.parameters()), *inputs)
    got = results(
        torch.compile(model, backend="ncafast", options=EXACT | {"rest": rest}, fullgraph=True),
        list(model.parameters()),
        *inputs,
    )
    assert lengths == [3, 4]
    assert_close(got, want)
    assert torch.allclose(model.norm.running_var, plain.norm.running_var)


@pytest.mark.parametrize("make", [Residual, Decaying])
def test_what_is_no_automaton_runs_as_it_is_with_a_reason(make, lengths):
    torch.manual_seed(0)
    model, x = make(), torch.randn(2, 8, 10, 10)

    def twice(x):
        return model(model(x))

    with pytest.warns(NotAcceleratedWarning, match="nothing of a graph runs fused: .*(its step|adds no update)"):
        got = results(compiled(twice, quiet=False), list(model.parameters()), x)
    assert lengths == []
    for a, b in zip(got, results(twice, list(model.parameters()), x), strict=True):
        assert torch.equal(a, b)


@torch._dynamo.config.patch(recompile_limit=4)
def test_random_numbers_of_steps_are_searched_once_and_compiled_a_bounded_number_of_times(monkeypatch, lengths):
    searches, graphs = [], []
    search, first = fuse.search, dynamo.compile_graph
    monkeypatch.setattr(fuse, "_known", {})
    monkeypatch.setattr(fuse, "search", lambda *args: searches.append(1) or search(*args))
    model, x = built("line"), torch.randn(2, 8, 20)
    run = torch.compile(model, backend=lambda *args: graphs.append(1) or first(*args, options=EXACT))
    steps = torch.Generator().manual_seed(1)
    for _ in range(30):
        count = int(torch.randint(2, 13, (), generator=steps))
        got = run(x, count)
        assert torch.allclose(got, model(x, count), atol=1e-5)
    assert len(searches) == 1 and len(lengths) > 4
    assert len(graphs) == 4


def test_other_sizes_are_taken_where_dynamo_keeps_them_open(lengths):
    model, graphs = built("texture"), []

    def steps(x):
        return model(model(x))

    run = torch.compile(steps, backend=lambda *args: graphs.append(1) or dynamo.compile_graph(*args, options=EXACT))
    for sizes in ((2, 12, 12), (3, 13, 13), (4, 14, 16), (5, 18, 11)):
        x = torch.randn(sizes[0], 7, *sizes[1:])
        torch.manual_seed(3)
        got = run(x)
        torch.manual_seed(3)
        assert torch.allclose(got, steps(x), atol=1e-5)
    assert len(lengths) == 4 and len(graphs) < 4


def test_states_and_means_on_the_way_are_kept(lengths):
    model, x = built("octree"), torch.randn(2, 9, 10, 10)

    def every_second(x):
        kept = []
        for k in range(5):
            x = model.update(x)
            kept += [x] if k % 2 else []
        return torch.stack([*kept, x])

    def means(x):
        found = []
        for _ in range(3):
            x = model.update(x)
            found.append(x.mean((2, 3)))
        return torch.stack(found)

    for function, ran in ((every_second, [2, 2, 1]), (means, [1, 1, 1])):
        lengths.clear()
        want = results(function, list(model.parameters()), x)
        assert_close(results(compiled(function), list(model.parameters()), x), want)
        assert lengths == ran


def test_one_step_alone_is_found(lengths):
    model, x = built("octree"), torch.randn(1, 9, 10, 10)
    want = results(model.update, list(model.parameters()), x)
    assert_close(results(compiled(model.update), list(model.parameters()), x), want)
    assert lengths == [1]


class Imposed(Filters):
    """The image and filters are taken once, before the loop; a buffer says which channels move."""

    def __init__(self):
        super().__init__(9, 12, fire_rate=1.0)
        self.register_buffer("moves", torch.tensor([0.0, 0, 1, 1, 1, 1, 1, 1, 1]).view(1, 9, 1, 1))

    def forward(self, x, steps=4):
        image, kernel = x[:, :2], self.filters[0].weight * 0.5
        for _ in range(steps):
            near = nn.functional.conv2d(x, kernel, padding=1, groups=9)
            x = x + self.moves * self.rule(torch.cat([x, near, self.filters[1](x)], 1))
            x = torch.cat([image, x[:, 2:]], 1)
        return x


def test_what_is_computed_before_the_loop_and_buffers_that_change_are_followed(lengths):
    torch.manual_seed(1)
    model, x = Imposed(), torch.randn(2, 9, 10, 10)
    run = compiled(model)
    for moves in (1.0, 0.5, 0.0, 1.0):
        with torch.no_grad():
            model.moves[:, 4] = moves
            model.rule[0].weight += 0.01
        assert_close(results(run, list(model.parameters()), x), results(model, list(model.parameters()), x))
    assert lengths == [4] * 4


def test_an_image_that_every_step_is_given_is_part_of_the_state(lengths):
    torch.manual_seed(1)
    cells, image = Filters(9, 12, fire_rate=1.0), torch.randn(2, 3, 11, 11)

    def grow(image):
        image = image - image.mean()
        x = torch.cat([image, torch.zeros(2, 6, 11, 11)], 1)
        for _ in range(3):
            near = [conv(x) for conv in cells.filters]
            x = torch.cat([image, (x + cells.rule(torch.cat([x, *near], 1)))[:, 3:]], 1)
        return x

    want = results(grow, list(cells.parameters()), image)
    assert_close(results(compiled(grow), list(cells.parameters()), image), want)
    assert lengths == [3]


def test_evaluation_inference_and_masks_of_ours(lengths):
    torch.manual_seed(0)
    model, x = Growing(), torch.rand(2, 12, 32, 32) + 0.2
    with torch.no_grad():
        model.dmodel[2].bias.fill_(1.0)
    run = compiled(model, masks="ncafast")
    with torch.inference_mode():
        changed = (run.eval()(x, 2) != x)[:, 5].float().mean()
    assert abs(float(changed) - 0.75) < 0.05
    run.train()(x, 2).sum().backward()
    assert float(model.dmodel[2].weight.grad.abs().sum()) > 0 and lengths == [2, 2]


def test_what_was_found_is_printed_once(capsys, monkeypatch):
    monkeypatch.setattr(dynamo, "_said", set())
    model, x = built("octree"), torch.randn(1, 9, 8, 8)
    run = torch.compile(model, backend="ncafast", options={"rest": "eager"})
    for steps in (2, 3):
        run(x, steps)
    lines = capsys.readouterr().err.splitlines()
    assert [line[:30] for line in lines] == ["torch.compile: steps run as a ", "note: fire masks come from Phi"]


class Dropping(Filters):
    """Drops hidden units in training."""

    def __init__(self):
        super().__init__(9, 12, fire_rate=1.0)
        self.rule.insert(2, nn.Dropout(0.3))


def test_hidden_units_are_dropped_by_our_draws_or_by_the_modules_own_code(lengths, capsys):
    torch.manual_seed(1)
    model, x = Dropping(), torch.randn(1, 9, 10, 10)
    with pytest.warns(NotAcceleratedWarning, match="drops hidden units"):
        compiled(model, quiet=False)(x, 2)
    assert lengths == []
    torch._dynamo.reset()
    compiled(model, masks="ncafast", quiet=False)(x, 2)
    assert lengths == [2] and "other units" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("norm", "name"),
    [(nn.BatchNorm2d(12), "num_batches_tracked"), (nn.InstanceNorm2d(12, track_running_stats=True), "running_mean")],
    ids=["batch", "instance"],
)
def test_a_tensor_that_a_step_changes_has_the_name_of_the_users_module(norm, name):
    with pytest.warns(NotAcceleratedWarning, match=f"tensor 'norm.{name}'.* after eval"):
        compiled(Normed(norm), quiet=False)(torch.randn(2, 8, 9, 10))


def test_wrong_options_are_named():
    for options in ({"masks": "own"}, {"speed": 2}):
        with pytest.raises(Exception, match="masks='ncafast' or 'torch'"):
            torch.compile(Base(), backend="ncafast", options=options)(torch.randn(1, 8, 8, 8))


def test_the_backend_is_registered_and_declared():
    if sys.version_info >= (3, 11):
        from pathlib import Path

        import tomllib

        declared = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8"))
        group = declared["project"]["entry-points"]["torch_dynamo_backends"]
        assert group == {"ncafast": f"{dynamo.__name__}:{dynamo.compile_graph.__name__}"}
    assert "ncafast" in torch._dynamo.list_backends()
