"""What tracing does not understand an adapter names; it is verified, and found through an installed package's entry."""

from __future__ import annotations

import copy
import sys
import textwrap

import pytest
import torch
from torch import nn

import ncafast
from ncafast.acceleration import adapters


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(adapters, "_adapters", {})
    monkeypatch.setattr(adapters, "_asked", set())


class Guarded(nn.Module):
    """[B, H, W, C]; a guard looks at the state's values, which cannot be traced."""

    def __init__(self, channels=6, hidden=10, scale=1.0):
        super().__init__()
        self.scale = scale
        self.near = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, padding_mode="circular")
        self.one, self.two = nn.Linear(2 * channels, hidden), nn.Linear(hidden, channels, bias=False)

    def forward(self, x, turns=3):
        for _ in range(turns):
            if bool(torch.isnan(x).any()):
                raise FloatingPointError("the state is not a number")
            seen = torch.cat([x, self.near(x.movedim(-1, 1)).movedim(1, -1)], -1)
            fires = torch.rand(*x.shape[:-1], 1) < 0.5
            x = x + self.scale * self.two(torch.relu(self.one(seen))) * fires
        return x


def guarded(module, **other):
    rule = ncafast.Rule(6, num_filters=1, filter_bias=True, padding="circular", hidden=10, step_size=module.scale)
    options = {
        "parameters": lambda m: {
            "perceive.weight": m.near.weight.transpose(0, 1),
            "perceive.bias": m.near.bias[None],
            "hidden.weight": m.one.weight,
            "hidden.bias": m.one.bias,
            "update.weight": m.two.weight,
        },
        "draw": lambda x: (torch.rand(len(x), *x.shape[2:], 1) < 0.5).movedim(-1, 1),
        "channels_last": True,
        "steps": "turns",
    }
    return ncafast.Adapted(rule, **{**options, **other})


def run(model, x, turns):
    torch.manual_seed(5)
    model.zero_grad()
    out = model(x, turns=turns)
    out.square().sum().backward()
    return [out.detach(), *(p.grad.clone() for p in model.parameters())]


def assert_same(model, plain):
    x = torch.randn(2, 9, 8, 6)
    for a, b in zip(run(model, x, 4), run(plain, x, 4), strict=True):
        assert float((a - b).abs().max()) <= 1e-5 * float(b.abs().max())


def test_a_module_that_cannot_be_traced_runs_what_its_adapter_says(capsys):
    torch.manual_seed(0)
    model = Guarded()
    plain = copy.deepcopy(model)
    with pytest.raises(ncafast.NotAccelerated, match="branches on values"):
        ncafast.accelerate(model)
    assert ncafast.adapter(Guarded)(guarded) is guarded
    ncafast.accelerate(model, masks="torch")
    assert "model (Guarded): forward is accelerated. C6 H10" in capsys.readouterr().err
    assert_same(model, plain)
    with torch.no_grad():
        for module in (model, plain):
            module.two.weight *= 0.5
            module.scale = 2.0  # a changed attribute asks the adapter again
    assert_same(model, plain)
    assert_same(ncafast.restore(model), plain)


class Heir(Guarded):
    """Found by the class that it inherits from."""


def test_an_adapter_takes_classes_that_inherit_and_may_leave_one_out():
    ncafast.adapter(Guarded)(lambda module: guarded(module) if module.scale == 1 else None)
    assert ncafast.explain(Heir()).findings[0].rule is not None
    assert "branches on values" in str(ncafast.explain(Heir(scale=2.0)))


WRONG = {
    "another rule": ({"rule": ncafast.Rule(6, num_filters=1, filter_bias=True, hidden=10)}, "is not the module's"),
    "no draw": ({"draw": None}, "not how the module draws"),
    "other draws": ({"draw": lambda x: torch.rand(len(x), 1, *x.shape[2:]) < 0.4}, "is not the module's"),
    "another name": ({"parameters": lambda m: {"weights": m.one.weight}}, "its adapter gives weights; the rule has"),
    "no such method": ({"method": "evolve"}, "`evolve` is no method"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_an_adapter_says_wrongly_is_not_used(name):
    other, said = WRONG[name]
    rule = other.get("rule")
    wrong = {key: value for key, value in other.items() if key != "rule"}

    def adapt(module):
        found = guarded(module, **wrong)
        return found if rule is None else ncafast.Adapted(**{**vars(found), "rule": rule})

    ncafast.adapter(Guarded)(adapt)
    with pytest.raises(ncafast.NotAccelerated) as error:
        ncafast.accelerate(Guarded())
    assert said in str(error.value)


def test_an_adapter_that_fails_or_returns_something_else_is_named():
    ncafast.adapter(Guarded)(lambda module: module.no_such_name)
    assert "its adapter fails: AttributeError" in str(ncafast.explain(Guarded()))
    ncafast.adapter(Guarded)(lambda module: ncafast.Rule())
    assert "its adapter returns a Rule" in str(ncafast.explain(Guarded()))
    with pytest.raises(TypeError, match=r"takes a subclass of torch.nn.Module, got 5"):
        ncafast.adapter(5)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a package of adapters on the path, as pip would."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(code: str) -> None:
        info = tmp_path / "toy_adapters-1.2.dist-info"
        info.mkdir()
        (tmp_path / "toy_adapters.py").write_text(textwrap.dedent(code))
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-adapters\nVersion: 1.2\n")
        package = Guarded.__module__.partition(".")[0]
        (info / "entry_points.txt").write_text(f"[ncafast.adapters]\n{package} = toy_adapters\n")

    yield put
    sys.modules.pop("toy_adapters", None)


def test_an_installed_package_brings_adapters(install):
    install(f"""
        import ncafast
        from {Guarded.__module__} import Guarded, guarded

        ncafast.adapter(Guarded)(guarded)
        """)
    assert "toy_adapters" not in sys.modules
    assert ncafast.explain(Guarded()).findings[0].rule is not None


def test_a_package_of_adapters_that_fails_is_named_and_left_out(install):
    install("1 / 0")
    with pytest.warns(UserWarning, match="toy_adapters of toy-adapters cannot be loaded: ZeroDivisionError"):
        assert "branches on values" in str(ncafast.explain(Guarded()))
