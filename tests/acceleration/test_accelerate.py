"""accelerate() runs the steps of foreign modules to the same results; what it cannot match it refuses."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from foreign_steps import MODULES, Blood, Chosen, Digits, Filters, Growing, Noise, Octree, Registered, Texture
from refused_steps import REFUSED, Base, half_frozen
from torch import nn

import ncafast
from ncafast import acceleration
from ncafast.acceleration import NotAcceleratedWarning, patch
from ncafast.acceleration.entry import Example

CHANNELS_LAST = {
    *("blood cells", "swapped axes", "swapped axes, dense", "turned draws", "volume", "two hidden layers"),
    *("layer norm", "layer norm without parameters", "layer norm without bias"),
}
STEPPED = {
    "chosen": "forward",
    "texture": "forward",
    "noise": "forward",
    "shifted": "step",
    "unfolded": "step",
    "two hidden layers": "one_step",
    "group norm without bias": "step",
}


def built(name: str) -> nn.Module:
    """A module with weights that are not zero anywhere."""
    torch.manual_seed(3)
    model = MODULES[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return model


def state(name: str, rule: ncafast.Rule) -> torch.Tensor:
    sizes = {1: (21,), 2: (14, 17), 3: (8, 7, 9)}[rule.ndim]
    x = torch.randn(3, rule.channels, *sizes)
    return x.movedim(1, -1).contiguous() if name in CHANNELS_LAST else x


def run(name: str, model: nn.Module, x: torch.Tensor, steps: int, seed: int = 5) -> list[torch.Tensor]:
    """The state after some steps, and the gradients of a sum of it: of the state and of all parameters.

    Weights of one sign: a bias's gradient is a sum over all cells, and rounding goes by the size of its terms.
    """
    torch.manual_seed(seed)
    leaf = y = x.clone().requires_grad_()
    if name in STEPPED:
        for _ in range(steps):
            y = getattr(model, STEPPED[name])(y)
    else:
        y = model(y, steps)
    parameters = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad((y * torch.linspace(0.5, 1.5, y.numel()).view(y.shape)).sum(), [leaf, *parameters])
    return [y.detach(), *grads]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_does_what_it_did_with_its_own_draws(name):
    model = built(name)
    keys, before = list(model.state_dict()), copy.deepcopy(model)
    assert ncafast.accelerate(model, masks="torch", quiet=True) is model
    x = state(name, getattr(model, STEPPED.get(name, "forward")).find().rule)
    assert list(model.state_dict()) == keys
    for steps in (1, 3):
        want, got = run(name, before, x, steps), run(name, model, x, steps)
        top = max(float(value.abs().max()) for value in want[2:])
        for a, b in zip(got, want, strict=True):
            largest = float(b.abs().max())
            nothing = largest < 1e-5 * top  # biases below batch statistics have no gradient but rounding
            assert float((a - b).abs().max()) <= 1e-5 * (top if nothing else largest)
    ncafast.restore(model)
    for a, b in zip(run(name, model, x, 2), run(name, before, x, 2), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_that_is_no_rule_is_refused_with_a_reason(name):
    make, words = REFUSED[name]
    torch.manual_seed(0)
    with pytest.raises(ncafast.NotAccelerated, match="not accelerated") as error:
        ncafast.accelerate(make(), quiet=True)
    assert words in str(error.value)


class Headed(Base):
    """Steps in a method; its forward returns no state."""

    def __init__(self, norm=None):
        super().__init__()
        self.norm, self.head = norm or nn.Identity(), nn.Linear(8, 4)

    def hidden(self, y):
        return torch.relu(self.norm(self.one(y)))

    def step(self, x):
        return super().forward(x)

    def forward(self, x, steps=3):
        for _ in range(steps):
            x = self.step(x)
        return self.head(x.mean((2, 3)))


class Pooled(Base):
    """Steps inside its forward, which returns no state."""

    def forward(self, x, steps=3):
        for _ in range(steps):
            x = super().forward(x)
        return x.mean((2, 3))


def test_the_reason_is_that_of_the_method_that_steps_a_state():
    reason = ncafast.explain(Headed(nn.BatchNorm2d(12))).findings[0].reason
    assert reason.startswith("step: a step changes the module's tensor 'norm.num_batches_tracked'")
    assert "after eval()" in reason and "NCA(norm='running') follows them in training" in reason
    reason = ncafast.explain(Pooled()).findings[0].reason  # its `update` gives no next state
    assert reason.startswith("forward: no state was found") and "backend='ncafast'" in reason


def test_masks_of_ours_have_the_same_rate():
    model = Filters(fire_rate=0.3)
    with torch.no_grad():
        model.rule[2].weight.fill_(1.0)
    x = torch.rand(2, 11, 64, 64) + 0.2
    ncafast.accelerate(model, quiet=True)
    changed = (model(x, 1) != x)[:, 5].float().mean()
    assert abs(float(changed) - 0.3) < 0.02


def test_parameters_are_followed_without_a_new_search(monkeypatch):
    torch.manual_seed(0)
    model = ncafast.accelerate(Blood(), masks="torch", quiet=True)
    x = torch.randn(2, 9, 8, 10)
    model(x, 3)
    monkeypatch.setattr(patch, "search", lambda *_: pytest.fail("searched again"))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    model(x, 3).square().mean().backward()
    optimiser.step()
    for change in (lambda: None, lambda: model.load_state_dict(Blood().state_dict())):
        change()
        plain = ncafast.restore(copy.deepcopy(model))
        torch.manual_seed(1)
        want = plain(x, 3)
        torch.manual_seed(1)
        assert torch.allclose(model(x, 3), want, atol=1e-5)


def test_a_changed_attribute_mode_or_buffer_is_noticed():
    model = ncafast.accelerate(Digits(), masks="torch", quiet=True)
    x = torch.rand(2, 10, 9, 8)
    assert model.forward.find().rule.fire_rate == 0.5
    model.eval()
    with torch.inference_mode():
        model(x, 1)
    plain = ncafast.restore(copy.deepcopy(model))
    assert torch.allclose(model(x, 3), plain(x, 3), atol=1e-5) and model.forward.find().rule.fire_rate == 1

    chosen = ncafast.accelerate(Chosen(), quiet=True)
    chosen.options.fire = 0.75
    assert chosen.forward.find().rule.fire_rate == 0.75

    octree = ncafast.accelerate(Octree(), quiet=True)
    octree.fire_rate = 0.25
    assert octree.forward.find().rule.fire_rate == 0.25

    noise = ncafast.accelerate(Noise(), quiet=True)
    with torch.no_grad():
        noise.filters[0, 1, 1] = 0.5
    torch.manual_seed(1)
    x = torch.randn(1, 6, 9, 8)
    assert torch.allclose(
        noise(x, update_prob=1.0), ncafast.restore(copy.deepcopy(noise))(x, update_prob=1.0), atol=1e-5
    )
    called = Example(None, (("dt", 0.1), ("update_prob", 0.7)))
    assert noise.forward.find(called).rule.fire_rate == 0.7


def test_copies_and_pickles_run_on_their_own_parameters():
    torch.manual_seed(0)
    model = ncafast.accelerate(Octree(), masks="torch", quiet=True)
    x = torch.randn(2, 9, 8, 10)
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(saved, weights_only=False)]
    with torch.no_grad():
        model.fc1.weight.zero_()
    for other in copies:
        torch.manual_seed(1)
        got = other(x, 3)
        torch.manual_seed(1)
        assert torch.allclose(got, ncafast.restore(copy.deepcopy(other))(x, 3), atol=1e-5)
        assert not torch.equal(got, x)


def test_a_block_that_raises_is_restored_too():
    model = Octree()
    with pytest.raises(KeyError), ncafast.accelerated(model, quiet=True):
        assert "forward" in vars(model)
        raise KeyError
    assert "forward" not in vars(model)


class Sized(Base):
    """Learns the size of its step."""

    def __init__(self, shape=(), squash=None):
        super().__init__()
        self.size, self.squash = nn.Parameter(torch.rand(shape)), squash or nn.Identity()

    def update(self, x):
        return self.size.exp() * self.squash(super().update(x))


@pytest.mark.parametrize(
    "make", [half_frozen, Sized, lambda: Sized((8, 1, 1))], ids=["norm of weights", "step size", "size per channel"]
)
def test_gradients_of_weights_that_are_computed_reach_their_parameters(make):
    torch.manual_seed(0)
    model = make()
    x = torch.randn(2, 8, 9, 10)
    with ncafast.accelerated(model, masks="torch", quiet=True):
        torch.manual_seed(1)
        model(x).square().sum().backward()
        got = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch.manual_seed(1)
    model(x).square().sum().backward()
    for a, p in zip(got, model.parameters(), strict=True):
        assert torch.allclose(a, p.grad, rtol=1e-4, atol=1e-4)


def test_a_learned_step_size_is_followed_and_kept_by_an_nca():
    torch.manual_seed(0)
    model, x = ncafast.accelerate(Sized((8, 1, 1)), quiet=True, masks="torch"), torch.randn(1, 8, 9, 10)
    for _ in range(2):
        with torch.no_grad():
            model.size.sub_(0.5)
        torch.manual_seed(1)
        want = Sized.forward(model, x)
        torch.manual_seed(1)
        assert torch.allclose(model(x), want, atol=1e-5)
    fires = torch.ones(1, 1, 1, 9, 10, dtype=torch.bool)
    assert torch.allclose(ncafast.to_nca(model)(x, 1, fire_mask=fires), x + model.update(x), atol=1e-5)
    with pytest.raises(ncafast.NotAccelerated, match="a parameter scales the update behind its tanh.* 'size'"):
        ncafast.accelerate(Sized(squash=nn.Tanh()), quiet=True)


class Dependent(Base):
    """Its factor is computed from the call."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x, steps=4):
        for k in range(steps):
            x = x + self.update(x) * self.factor(x, k, steps) * self.mask(x)
        return x


@pytest.mark.parametrize(
    ("factor", "what"),
    [
        (lambda x, k, steps: 1 / steps, "the number of steps, `steps`"),
        (lambda x, k, steps: torch.tensor(1 / steps), "the number of steps, `steps`"),
        (lambda x, k, steps: 1 - k / steps, "on which of them it is"),
        (lambda x, k, steps: x.shape[-1], "the size of the grid"),
    ],
    ids=["steps", "tensor", "index", "size"],
)
def test_a_factor_that_depends_on_the_call_is_named_with_its_line(factor, what):
    torch.manual_seed(0)
    reason = ncafast.explain(Dependent(factor)).findings[0].reason
    assert what in reason and "`mul` at test_accelerate.py:" in reason


class Unused(Dependent):
    """Its forward does not call its step method."""

    def __init__(self):
        super().__init__(lambda x, k, steps: 1 - k / steps)

    def step(self, x):
        return Base.forward(self, x)


def test_where_a_step_method_is_accelerated_the_report_speaks_of_forward_too():
    torch.manual_seed(0)
    unknown, unused = (str(ncafast.explain(Unused(), *inputs)) for inputs in ((), (torch.rand(2, 8, 9, 10),)))
    assert "step is accelerated" in unknown and "step is accelerated" in unused
    assert "forward gains where it calls step; as a whole it is not accelerated: a factor depends on" in unknown
    assert "nothing called step with these inputs, so they run no faster" in unused and "a factor depends" in unused
    headed = str(ncafast.explain(Headed(), torch.rand(2, 8, 9, 10)))
    assert "forward calls step; as a whole" in headed and headed.endswith(
        "(forward makes [2, 4] of a state [2, 8, 11, 13])"
    )


class Late(Base):
    """A loop whose seventh step is another one."""

    def forward(self, x, steps=4):
        for t in range(steps):
            x = super().forward(x) if t != 6 else x * 0.5
        return x


class TwoNets(nn.Module):
    """A loop whose later steps have a last layer of their own."""

    def __init__(self):
        super().__init__()
        self.see, self.hidden = nn.Conv2d(8, 16, 3, padding=1, groups=8), nn.Conv2d(24, 12, 1)
        self.last = nn.ModuleList(nn.Conv2d(12, 8, 1) for _ in range(2))

    def forward(self, x, steps=4):
        for t in range(steps):
            x = x + self.last[t >= 5](torch.relu(self.hidden(torch.cat([x, self.see(x)], 1))))
        return x


class Large(Base):
    """On large grids something else."""

    def forward(self, x):
        return super().forward(x) if x.shape[-1] < 100 else super().forward(x).clamp(-1, 1)


@pytest.mark.parametrize(("kind", "usual"), [(Late, 6), (TwoNets, 5)], ids=["operations", "weights"])
def test_steps_that_differ_later_run_the_users_code(kind, usual):
    torch.manual_seed(0)
    model, x = ncafast.accelerate(kind(), masks="torch", quiet=True), torch.randn(1, 8, 9, 10)
    plain = ncafast.restore(copy.deepcopy(model))
    model(x, usual)  # without a warning
    torch.manual_seed(1)
    with pytest.warns(NotAcceleratedWarning, match="a loop of 8 steps"):
        got = model(x, 8)
    torch.manual_seed(1)
    assert torch.equal(got, plain(x, 8))


def test_a_size_that_differs_runs_the_users_code():
    torch.manual_seed(0)
    sized, x = ncafast.accelerate(Large(), quiet=True), torch.randn(1, 8, 9, 120) * 3
    with pytest.warns(NotAcceleratedWarning, match="other operations"):
        assert float(sized(x).detach().abs().max()) <= 1


class Scaled(Base):
    """Another factor where `when` says so."""

    def __init__(self, when):
        super().__init__()
        self.when = when

    def forward(self, x):
        return x + (super().forward(x) - x) * self.factor(self.when(x))

    def factor(self, other):
        return 0.5 if other else 1.0


class ScaledByTensor(Scaled):
    def factor(self, other):
        return torch.tensor(0.5 if other else 1.0)


@pytest.mark.parametrize("kind", [Scaled, ScaledByTensor])
@pytest.mark.parametrize(
    ("when", "shape", "gradients"),
    [
        (lambda x: x.shape[-1] > 99, (2, 8, 9, 100), True),
        (lambda x: x.shape[0] > 4, (5, 8, 9, 10), True),
        (lambda x: not torch.is_grad_enabled(), (1, 8, 9, 10), False),
    ],
    ids=["grid", "batch", "gradients"],
)
def test_a_factor_that_depends_on_grid_batch_or_gradients_runs_the_users_code(kind, when, shape, gradients):
    torch.manual_seed(0)
    model = ncafast.accelerate(kind(when), quiet=True, masks="torch")
    plain, usual, other = ncafast.restore(copy.deepcopy(model)), torch.randn(1, 8, 9, 10), torch.randn(shape)
    model(usual)  # without a warning
    with torch.set_grad_enabled(gradients):
        torch.manual_seed(1)
        with pytest.warns(NotAcceleratedWarning, match=r"runs other operations .* (mul|lift_fresh) 0.5 instead of"):
            got = model(other)
        torch.manual_seed(1)
        assert torch.equal(got, plain(other))


class Factor(Base):
    """Its factor is an attribute of the class, its filters are a buffer."""

    factor = 0.5

    def __init__(self):
        super().__init__()
        self.register_buffer("taps", torch.randn(8, 1, 3, 3))
        self.register_buffer("unused", torch.tensor(float("nan")))

    def forward(self, x):
        seen = torch.conv2d(x, self.taps, padding=1, groups=8)
        return x + self.factor * self.two(self.hidden(torch.cat([x, seen, x], 1)))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.taps.data.mul_(2),
        lambda model: model.taps.numpy().__imul__(2),
        lambda model: setattr(type(model), "factor", 0.25),
    ],
    ids=["data", "numpy", "class"],
)
def test_what_is_changed_behind_torchs_back_is_noticed(change, monkeypatch):
    monkeypatch.setattr(Factor, "factor", 0.5)
    torch.manual_seed(0)
    model, x = ncafast.accelerate(Factor(), quiet=True), torch.randn(1, 8, 9, 10)
    before = model(x)
    change(model)
    assert torch.allclose(model(x), Factor.forward(model, x), atol=1e-5)
    assert not torch.allclose(model(x), before, atol=1e-3)


def test_the_users_random_numbers_are_left_alone():
    models = Filters(), Growing()
    torch.manual_seed(4)
    want = torch.rand(3)
    torch.manual_seed(4)
    ncafast.explain(models[0])
    ncafast.accelerate(models[1], quiet=True)
    assert torch.equal(torch.rand(3), want)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.nca, self.other, self.head = Octree(), Base(), nn.Linear(9, 2)

    def forward(self, x):
        return self.head(self.nca(x, 4).mean((2, 3)))


def test_inside_a_model_the_parts_that_step_are_replaced_and_the_report_names_all(capsys):
    model = Classifier()
    model.other = REFUSED["clamp of the update"][0]()
    ncafast.accelerate(model)
    report = capsys.readouterr().err
    assert "nca (Octree): forward is accelerated" in report
    assert "model (Classifier): not accelerated" in report and "other (ClampedUpdate): not accelerated" in report
    assert "forward" in vars(model.nca) and "forward" not in vars(model.other) and "forward" not in vars(model)
    model(torch.randn(2, 9, 8, 10)).sum().backward()
    assert float(model.nca.fc0.weight.grad.abs().sum()) > 0
    ncafast.restore(model)
    assert "forward" not in vars(model.nca)


def test_functional_call_hooks_of_the_module_and_no_grad_work():
    torch.manual_seed(0)
    model, x = ncafast.accelerate(Registered().eval(), masks="torch", quiet=True), torch.randn(1, 4, 5, 6, 7)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    other = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    assert torch.equal(torch.func.functional_call(model, other, (x, 2)), x) and calls == [1]
    with torch.no_grad():
        assert not model(x, 2).requires_grad


def test_functional_call_with_parameters_that_are_computed_runs_fused():
    torch.manual_seed(0)
    model, x = ncafast.accelerate(Registered().eval(), quiet=True, masks="torch"), torch.randn(1, 4, 5, 6, 7)
    plain = ncafast.restore(copy.deepcopy(model))
    scale, grads = torch.tensor(0.9, requires_grad=True), []
    for one in (model, plain):
        computed = {name: p * scale for name, p in one.named_parameters()}
        torch.manual_seed(1)
        out = torch.func.functional_call(one, computed, (x, 2))
        grads.append(torch.autograd.grad(out.square().sum(), [scale, *one.parameters()]))
    for a, b in zip(*grads, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


class Keeping(Base):
    """Keeps what it made last."""

    def forward(self, x):
        self.last = super().forward(x)
        return self.last


def test_a_tensor_that_was_computed_may_be_an_attribute_unless_a_step_writes_it():
    torch.manual_seed(0)
    model, x = Base(), torch.randn(1, 8, 9, 10)
    model.last = model(x)
    assert ncafast.explain(model, x).findings[0].rule is not None
    keeping = Keeping()
    keeping(x)
    assert "a step changes the module's `last`" in ncafast.explain(keeping, x).findings[0].reason


def test_a_module_can_be_compiled_after_it_was_accelerated():
    torch.manual_seed(0)
    model, x = ncafast.accelerate(Octree(), masks="torch", quiet=True), torch.randn(1, 9, 8, 10)
    torch.manual_seed(1)
    want = model(x, 3)
    torch.manual_seed(1)
    assert torch.allclose(torch.compile(model, backend="eager")(x, 3), want, atol=1e-5)


def test_export_says_what_to_do():
    model, inputs = ncafast.accelerate(Octree(), quiet=True), (torch.randn(1, 9, 8, 10),)
    with pytest.raises(AttributeError, match=r"call ncafast.restore\(model\) first, or export ncafast.to_nca"):
        torch.export.export(model, inputs)
    with pytest.warns(NotAcceleratedWarning, match=r"call ncafast.restore\(model\) first"):
        torch.export.export(nn.Sequential(model), inputs)


class Odd(nn.Module):
    """An entry point of unusual names."""

    def __init__(self):
        super().__init__()
        self.inner = Texture()

    def evolve(self, grid, for_how_long):
        for _ in range(for_how_long):
            grid = self.inner(grid)
        return grid


def test_an_entry_point_can_be_named():
    model, x = Odd(), torch.randn(1, 7, 9, 8)
    ncafast.accelerate(model, method="evolve", steps="for_how_long", masks="torch", quiet=True)
    assert "evolve" in vars(model)
    torch.manual_seed(1)
    got = model.evolve(x, for_how_long=3)
    torch.manual_seed(1)
    assert torch.allclose(got, ncafast.restore(model).evolve(x, 3), atol=1e-5)


class Seldom(nn.Module):
    """A line whose ends hardly ever update."""

    def __init__(self, padding):
        super().__init__()
        self.near = nn.Conv1d(6, 12, 3, padding=1, padding_mode=padding, groups=6)
        self.one, self.two = nn.Conv1d(12, 8, 1), nn.Conv1d(8, 6, 1)

    def forward(self, x):
        y = x + self.two(torch.relu(self.one(self.near(x)))) * (torch.rand(len(x), 1, x.shape[2]) > 0.999)
        return y * (F.max_pool1d(y[:, :1], 3, 1, 1) > 4)


@pytest.mark.parametrize("padding", ["zeros", "reflect", "replicate", "circular"])
def test_padding_is_found_where_ends_hardly_ever_update(padding):
    assert ncafast.explain(Seldom(padding)).findings[0].rule.padding == padding


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, ["fire masks come from Philox"]),
        ({"masks": "torch"}, []),
        ({"verify": False}, ["Philox", "verify="]),
    ],
)
def test_what_makes_results_differ_is_said(capsys, options, said):
    ncafast.accelerate(built("chosen"), **options)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note:")]
    assert len(notes) == len(said) and all(word in line for word, line in zip(said, notes, strict=True))


def test_the_report_tells_rules_apart():
    class Other(Sized):
        def hidden(self, y):
            return nn.functional.leaky_relu(self.one(y), 0.3)

        def update(self, x):
            return 0.25 * Base.update(self, x)

    assert ", activation leaky_relu 0.3, step size 0.25" in str(ncafast.explain(Other()))
    plain = str(ncafast.explain(Base()))
    assert "activation" not in plain and "step size" not in plain


@pytest.mark.parametrize("model", [ncafast.NCA(8, 12), nn.Sequential(ncafast.NCA(8, 12))])
def test_an_nca_is_said_to_be_fused(model):
    with pytest.raises(ncafast.NotAccelerated, match="own modules run fused already"):
        ncafast.accelerate(model, quiet=True)


@pytest.mark.parametrize("steps", [torch.tensor(3), torch.tensor([3], dtype=torch.int32), np.int64(3)])
def test_steps_may_be_one_whole_number_of_any_kind(steps):
    model, x = ncafast.accelerate(built("octree"), quiet=True, masks="torch"), torch.randn(1, 9, 8, 10)
    results = []
    for number in (3, steps):
        torch.manual_seed(1)
        results.append(model(x, number))
    assert torch.equal(*results)
    with pytest.warns(NotAcceleratedWarning, match="another kind"), pytest.raises(TypeError):
        model(x, torch.tensor(3.0))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="masks='own'"):
        ncafast.accelerate(Base(), masks="own")
    with pytest.raises(ValueError, match="needs verify=True"):
        ncafast.accelerate(Base(), masks="torch", verify=False)
    with pytest.raises(TypeError, match="backends.explain"):
        ncafast.explain(ncafast.Rule())
    for call in (ncafast.accelerate, ncafast.restore, ncafast.explain):
        with pytest.raises(TypeError, match="model must be a torch.nn.Module, got int"):
            call(5)
    with pytest.raises(ncafast.NotAccelerated, match="`evolve` is no method"):
        ncafast.accelerate(Base(), method="evolve", quiet=True)


def test_importing_ncafast_does_not_load_it():
    code = "import ncafast, sys; assert 'ncafast.acceleration' not in sys.modules; ncafast.explain; ncafast.accelerate"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=1800)
    assert set(ncafast.__all__) >= {"accelerate", "accelerated", "explain", "restore"}
    assert acceleration.accelerate is ncafast.accelerate
