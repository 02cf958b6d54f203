"""A backend of another package: found by its entry point, listed, checked, chosen, run; and broken ones."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import textwrap
import warnings

import pytest
import torch
from cases import CASES, make_params, make_state

from ncafast import Rule, backends, cli, rollout
from ncafast.backends import child, registry, trust, verdicts
from ncafast.backends.precision import precision
from ncafast.backends.verdicts import Verdict

CPU = torch.device("cpu")
GELU = Rule(5, hidden=7, activation="gelu", noise="state", noise_std=0.1)  # noise: no built-in fused backend takes it
TOY = """
from ncafast.backends import reference

DEVICE, UNVERIFIED, FIRST = "cpu", "a toy", {first}
outputs, calls = reference.outputs, []


def unavailable():
    return None


def can_run(rule, x, precision):
    return "the toy knows no tanh" if rule.activation == "tanh" else None


def forward(call):
    calls.append("forward")
    return reference.forward(call)


def backward(call, *saved):
    calls.append("backward")
    return reference.backward(call, *saved)
"""


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """An empty cache, and packages in a folder of its own."""
    monkeypatch.setenv("NCAFAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NCAFAST_TRIAL", raising=False)
    monkeypatch.delenv("NCAFAST_BACKEND", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    yield
    for module in [name for name in sys.modules if name.startswith("toy_")]:
        del sys.modules[module]
    registry.forget()
    trust.forget()


@pytest.fixture
def install(tmp_path):
    """Puts a package with one entry point on the path, as pip would."""

    def put(code: str, name: str = "toy", package: str = "toy_chip", value: str = "") -> None:
        site = tmp_path / "site"
        info = site / f"{package}-1.2.dist-info"
        info.mkdir(parents=True)
        (site / f"{package}.py").write_text(textwrap.dedent(code))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[ncafast.backends]\n{name} = {value or package}\n")
        registry.forget()
        trust.forget()

    return put


@pytest.fixture
def passes(monkeypatch):
    """Trials that pass without being run; their requests."""
    requests: list[dict] = []

    def run(request):
        requests.append(request)
        return Verdict("passed")

    monkeypatch.setattr(child, "run", run)
    return requests


def state(rule):
    return torch.zeros(1, rule.channels, 4, 4)


def test_it_is_looked_for_when_a_backend_is_first_asked_for_and_not_at_import(install):
    install("raise SystemExit('imported')")
    code = "import ncafast, sys; assert 'toy_chip' not in sys.modules and not ncafast.backends.registry.loaded"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_by_name_it_runs_forward_and_gives_gradients(install):
    install(TOY.format(first=False))
    rule, size = CASES["2d"]
    params = {key: p.requires_grad_() for key, p in make_params(rule, torch.float32).items()}
    x = make_state(rule, size, torch.float32).requires_grad_()
    found, wanted = (
        torch.autograd.grad(rollout(x, rule, params, 3, seed=1, backend=name).square().sum(), [x, *params.values()])
        for name in ("toy", "reference")
    )
    assert all(map(torch.equal, found, wanted))
    assert sys.modules["toy_chip"].calls == ["forward", "backward"]
    with backends.use("toy"):
        assert backends.choose(rule, x) == "toy"


def test_an_object_of_a_module_serves_as_well_as_a_module(install):
    install(
        """
        from types import SimpleNamespace
        from ncafast.backends import reference as r
        CHIP = SimpleNamespace(DEVICE=None, UNVERIFIED=None, unavailable=r.unavailable, can_run=r.can_run,
                               outputs=r.outputs, forward=r.forward, backward=r.backward)
        """,
        value="toy_chip:CHIP",
    )
    assert backends.choose(GELU, state(GELU), "toy") == "toy"


def test_the_compiler_sees_through_its_choice(install):
    install(TOY.format(first=False))
    rule = Rule(4, hidden=5)
    params = make_params(rule, torch.float32)
    run = torch.compile(lambda x: rollout(x, rule, params, 2, seed=1, backend="toy"), fullgraph=True, backend="eager")
    x = torch.rand(1, 4, 5, 6)
    assert torch.equal(run(x), rollout(x, rule, params, 2, seed=1, backend="reference"))


def test_it_is_chosen_by_default_after_the_built_in_ones(install, passes):
    install(TOY.format(first=False))
    assert backends.names() == ("cuda", "triton", "cpu", "toy", "reference")
    assert backends.choose(GELU, state(GELU)) == "toy"
    assert [(request["backend"], request["rules"]) for request in passes] == [("toy", [GELU.to_json()])]
    assert backends.choose(Rule(), state(Rule())) == backends.available()[0] != "toy"


def test_or_before_them_where_it_asks(install, passes):
    install(TOY.format(first=True))
    assert backends.names()[0] == "toy"
    assert backends.choose(Rule(), state(Rule())) == "toy"


def test_it_is_not_chosen_by_default_before_it_has_passed_a_check(install, monkeypatch):
    install(TOY.format(first=True))
    x = state(Rule())
    assert "not checked on this machine yet" in backends.explain(Rule(), x)["toy"]
    monkeypatch.setattr(child, "run", lambda request: Verdict("failed", "the last state is off by 1"))
    assert backends.choose(Rule(), x) != "toy"
    assert "failed its check" in backends.explain(Rule(), x)["toy"]
    monkeypatch.setenv("NCAFAST_TRIAL", "0")
    assert "NCAFAST_TRIAL=0" in backends.explain(Rule(), x)["toy"]


def test_its_check_finds_it_in_a_process_of_its_own(install, tmp_path, monkeypatch):
    """A right one passes; one that forgets the fire masks' steps does not; the verdict names its version."""
    install(TOY.format(first=True))
    small = {"sizes": [(5, 6)]}
    run = child.run
    monkeypatch.setattr(child, "run", lambda request: run(request | small))
    rule = Rule(4, hidden=5)
    assert trust.check("toy", rule, CPU) == Verdict("passed", date=datetime.date.today().isoformat())
    key = trust.key(trust.Question("toy", rule, CPU, precision()))
    assert verdicts.read(key).state == "passed"
    file = tmp_path / "site" / "toy_chip.py"
    file.write_text(
        file.read_text().replace(
            "return reference.forward(call)", "return reference.forward(call._replace(seed=call.seed + 1))"
        )
    )
    trust.kernel_hash.cache_clear()
    assert trust.key(trust.Question("toy", rule, CPU, precision())) != key
    verdict = trust.check("toy", rule, CPU)
    assert verdict.state == "failed" and "another fire mask than the reference" in verdict.reason


def test_info_and_errors_name_it(install, capsys):
    install(TOY.format(first=False))
    assert cli.main(["info"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[lines.index("toy yes, from toy_chip 1.2 (a toy)") + 1].startswith("not checked on this machine yet")
    tanh = Rule(activation="tanh")
    assert backends.explain(tanh, state(tanh))["toy"] == "the toy knows no tanh"
    with pytest.raises(RuntimeError, match="backend 'toy' cannot run this: the toy knows no tanh"):
        backends.choose(tanh, state(tanh), "toy")
    with pytest.raises(ValueError, match="backend='tyo' is not known: choose from cuda, triton, cpu, toy, reference"):
        backends.get("tyo")


PART = """
DEVICE = UNVERIFIED = None
def unavailable(): pass
def can_run(*words): pass
outputs = 3
"""
ERROR = "raise RuntimeError('no driver\\nfor it')"
BROKEN = {  # the package's code, the entry point's value, the reason
    "error": (ERROR, "", "toy_chip cannot be loaded: RuntimeError: no driver for it"),
    "no such module": ("", "nowhere", "nowhere cannot be loaded: ModuleNotFoundError: No module named 'nowhere'"),
    "no such object": ("", "toy_chip:CHIP", "AttributeError: module 'toy_chip' has no attribute 'CHIP'"),
    "functions missing": (PART, "", "toy_chip lacks outputs, forward, backward, see ncafast.backends.Backend"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_one_is_a_line_and_nothing_more(install, name, capsys):
    code, value, reason = BROKEN[name]
    install(code, value=value)
    with pytest.warns(UserWarning) as caught:
        assert backends.choose(GELU, state(GELU)) == "reference"
    (line,) = {str(warning.message) for warning in caught if warning.category is UserWarning}
    assert line.startswith("backend 'toy' of toy_chip 1.2 cannot be used: ") and reason in line and "\n" not in line
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert reason in backends.explain(GELU, state(GELU))["toy"]
        with pytest.raises(RuntimeError, match="backend 'toy' cannot run this"):
            backends.choose(GELU, state(GELU), "toy")
        assert cli.main(["info"]) == 0
    assert reason in capsys.readouterr().out


@pytest.mark.parametrize(("name", "owner"), [("cpu", "ncafast"), ("toy", "toy_chip 1.2")])
def test_a_name_that_is_taken_is_ignored_with_a_line(install, name, owner):
    install(TOY.format(first=False))
    install("raise SystemExit", name=name, package="toy_other")
    with pytest.warns(UserWarning, match=f"backend '{name}' of toy_other 1.2 is ignored: {owner} has one of that name"):
        assert backends.names() == ("cuda", "triton", "cpu", "toy", "reference")
