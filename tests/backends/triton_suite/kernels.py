"""What is the Triton kernels' own, besides gpu_suite.py: run in the same ways, and by test_triton.py."""

from __future__ import annotations

import pytest
import torch
from cases import CASES, make_params, make_state
from parity import run
from recorder import record

from ncafast import Rule, philox, rollout
from ncafast.backends import graphs
from ncafast.backends.plan import Call, Plan
from ncafast.backends.precision import use_precision
from ncafast.backends.triton_kernels import listing
from ncafast.backends.triton_kernels.bundles import Reach
from ncafast.backends.triton_kernels.rollout import Rollout

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    import interpreter

    interpreter.quicken()


@pytest.mark.parametrize(
    ("seed", "first_step", "first_sample"), [(0, 0, 0), (-(2**63), 7, 3), (2**63 - 1, 2**32 - 2, 2**32 - 2)]
)
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 1 - 2**-33])
def test_lists_hold_the_cells_of_the_mask(seed, first_step, first_sample, rate):
    rule, size = Rule(channels=1, hidden=1, fire_rate=rate), (37, 59)  # more than one block of cells
    x = torch.zeros(2, 1, *size, device=DEVICE)
    params = [torch.zeros(shape, device=DEVICE) for shape in rule.param_shapes().values()]
    plan = Plan(2, first_step, first_sample, 0, 0, "ieee")
    own = Rollout(Call(rule, x, params, None, None, torch.tensor([seed], device=DEVICE), plan))
    for t in range(2):
        cells, count = own.lists.at(t)
        step = first_step + t
        drawn = philox.fire_mask(2, size, rate, torch.tensor([seed]), step=step, first_sample=first_sample).flatten()
        fired = drawn.nonzero().flatten().int()
        assert count.item() == len(fired)
        assert torch.equal(cells[: len(fired)].cpu(), fired)
        assert torch.equal(cells.cpu().sort().values, torch.arange(cells.numel(), dtype=torch.int32))


def test_lists_of_many_blocks_are_those_of_few(monkeypatch):
    """Counts are waited for in several parts; a cell beside a wanted one is wanted in its window."""
    rule, size = Rule(channels=1, hidden=1, fire_rate=0.5), (17, 31)
    x, seed = torch.zeros(2, 1, *size, device=DEVICE), torch.tensor([3], device=DEVICE)
    params = [torch.zeros(shape, device=DEVICE) for shape in rule.param_shapes().values()]
    wanted = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0)) < 0.02
    near = torch.nn.functional.max_pool2d(wanted.float(), 3, 1, 1).flatten() > 0
    drawn = philox.fire_mask(2, size, 0.5, seed.cpu(), step=0).flatten()
    monkeypatch.setattr(listing, "_LIST", 8)
    monkeypatch.setattr(listing, "_COUNTED", 1)  # every list gets its counts anew
    own = Rollout(Call(rule, x, params, None, None, seed, Plan(1, 0, 0, 0, 0, "ieee")))
    flat, window = wanted.to(DEVICE, torch.uint8).flatten(), Reach(1, 3, 3, "zeros")
    for given, active in (((), drawn), ((flat,), drawn & wanted.flatten()), ((flat, window), drawn & near)):
        cells, fired = own.lists.at(0, *given)
        assert torch.equal(cells[: fired.item()].cpu(), active.nonzero().flatten().int())
        assert torch.equal(cells.cpu().sort().values, torch.arange(cells.numel(), dtype=torch.int32))


@pytest.mark.parametrize("name", ["batch norm", "alive", "extra", "group norm"])
def test_recorded_rollouts_give_the_same_bits(name, monkeypatch):
    monkeypatch.setattr(graphs, "shared", graphs.Graphs(record if DEVICE == "cpu" else None))  # none recorded so far
    if DEVICE == "cpu":
        monkeypatch.setattr(graphs, "worth", lambda x, kept: True)
    rule, size = CASES[name]
    weight = torch.randn(3, 2, rule.channels, *size)
    found = {}
    for number in range(4):  # the last two from a graph
        x, params = make_state(rule, size, torch.float32) + number % 2, make_params(rule, torch.float32)
        extra = torch.randn(2, rule.extra, *size, generator=torch.Generator().manual_seed(0)) if rule.extra else None
        inputs = rule, x, params, None, extra, weight
        found[number] = run("triton", *inputs, device=DEVICE, seed=number % 2)
    assert len(graphs.shared._recorded) == 2
    for number in (0, 1):
        assert all(torch.equal(a, b) for a, b in zip(found[number], found[number + 2], strict=True))


def test_backward_has_the_precision_of_forward(monkeypatch):
    seen = []
    before = Rollout.__init__
    monkeypatch.setattr(Rollout, "__init__", lambda self, call: seen.append(call.plan.precision) or before(self, call))
    rule, size = CASES["batch norm"]
    params = {key: p.to(DEVICE).requires_grad_() for key, p in make_params(rule, torch.float32).items()}
    with use_precision("tf32x3"):
        out = rollout(make_state(rule, size, torch.float32).to(DEVICE), rule, params, 2, backend="triton")
    out.sum().backward()
    assert seen == ["tf32x3", "tf32x3"]
