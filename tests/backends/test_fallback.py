"""A rollout that falls back to the reference backend says so: once, why, and only where nobody asked for it."""

from __future__ import annotations

import warnings

import pytest
import torch

import ncafast
from ncafast import NCA, FallbackWarning, Rule, backends, native
from ncafast.backends import fallback, registry

pytestmark = pytest.mark.skipif(native.load() is None, reason="needs the C++ extension")


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    monkeypatch.setattr(fallback, "_said", set())
    monkeypatch.delenv("NCAFAST_BACKEND", raising=False)


def warned(*calls):
    """What was said while each call ran."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for call in calls:
            call()
    return found


@pytest.mark.parametrize(
    ("fields", "dtype", "reason"),
    [
        ({"noise": "state", "noise_std": 0.1}, torch.float32, "noise='state' is not fused"),
        ({"norm": "batch", "hidden": (4, 4)}, torch.float32, "norm='batch' with 2 hidden layers is not fused"),
        ({}, torch.float64, "the state is torch.float64"),
    ],
)
def test_the_reason_is_said_once(fields, dtype, reason):
    nca, x = NCA(**{"channels": 4, "hidden": 4} | fields).to(dtype), torch.rand(1, 4, 5, 6, dtype=dtype)
    found = warned(*[lambda: nca(x, steps=1)] * 3)
    assert [w.category for w in found] == [FallbackWarning] and issubclass(FallbackWarning, UserWarning)
    assert reason in str(found[0].message) and "the fused 'cpu' backend" in str(found[0].message)
    assert found[0].filename == __file__  # the caller's line, not ncafast's
    assert reason in backends.explain(nca.rule, x)["cpu"]


def test_another_reason_is_said_too():
    x = torch.rand(1, 4, 5, 6)
    rules = [Rule(4, hidden=4, noise=noise, noise_std=0.1) for noise in ("state", "update", "state")]
    found = warned(*[lambda rule=rule: NCA.from_rule(rule)(x, steps=1) for rule in rules])
    assert len(found) == 2


def test_who_asks_for_the_reference_backend_hears_nothing(monkeypatch):
    nca, x = NCA(4, (4, 4), norm="group"), torch.rand(1, 4, 5, 6)

    def inside():
        with backends.use("reference"):
            nca(x, steps=1)

    def outside():
        monkeypatch.setenv("NCAFAST_BACKEND", "reference")
        nca(x, steps=1)

    assert not warned(lambda: nca(x, steps=1, backend="reference"), inside, outside)


def test_fused_rules_and_compiled_ones_say_nothing():
    x = torch.rand(1, 4, 5, 6)
    traced = torch.compile(NCA(4, (4, 4), norm="group"), fullgraph=True, backend="eager")
    assert not warned(lambda: NCA(4, 4)(x, steps=1))
    assert not [w for w in warned(lambda: traced(x, steps=1)) if w.category is FallbackWarning]


@pytest.mark.parametrize(("trial", "count"), [("1", 1), ("0", 0)])
def test_a_gpu_backend_that_did_not_pass_its_check_is_named_unless_checks_are_off(monkeypatch, trial, count):
    monkeypatch.setenv("NCAFAST_TRIAL", trial)
    reasons = {"cuda": "failed its check on 2026-11-28: a wrong tap", "cpu": "the state is on cuda:0"}
    found = warned(*[lambda: fallback.warn(reasons, registry.loaded, torch.device("cuda", 0))] * 2)
    assert len(found) == count
    assert all("'cuda' backend: failed its check on 2026-11-28: a wrong tap" in str(w.message) for w in found)
    assert all("'cpu'" not in str(w.message) for w in found)


def test_without_the_extension_the_first_rollout_says_what_to_install(monkeypatch):
    monkeypatch.setattr(native, "_module", None)
    record = {"cpu": {"built": False, "reason": "no C++ compiler was found (there is no g++)\nmore"}}
    monkeypatch.setattr(native, "build_info", lambda: record)
    nca, x = ncafast.NCA(4, 4), torch.rand(1, 4, 5, 6)
    (found,) = warned(*[lambda: nca(x, steps=1)] * 2)
    text = str(found.message)
    assert "the reference backend, which is slow" in text and "\n" not in text
    assert "no C++ compiler was found (there is no g++)" in text and "install a C++ compiler" in text
