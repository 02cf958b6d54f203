"""Parts of a grid against a rollout of the whole: states, masks and every gradient, in float64."""

import itertools

import pytest
import torch
from parity import make_extra, make_params, make_state
from volume_rules import RULES

from ncafast import Rule, philox, rollout
from ncafast.volume.boxes import Box, grown, read
from ncafast.volume.masks import fire_masks
from ncafast.volume.measured import Measured
from ncafast.volume.part import steps_of_part
from ncafast.volume.reach import needs_whole_grid, reach, refusal

SEED = torch.tensor([-7])


def cut(whole, pieces):
    """Boxes that cover a grid: `pieces` uneven ones along each axis."""
    edges = [[0, *(size * (i + 1) // count for i in range(count))] for size, count in zip(whole, pieces, strict=True)]
    for corner in itertools.product(*(itertools.pairwise(axis) for axis in edges)):
        yield Box(tuple(lo for lo, _ in corner), tuple(hi for _, hi in corner))


def in_parts(x, rule, params, steps, extra, pieces, per_pass):
    """The rollout, part by part."""
    whole, batch = tuple(x.shape[2:]), x.shape[0]
    cores = list(cut(whole, pieces))
    measured = Measured(rule, params, batch, whole)
    for start in range(0, steps, per_pass):
        count = min(per_pass, steps - start)

        def parts(halo, x=x):
            for core in cores:
                box = grown(core, whole, halo, rule.padding == "circular")
                yield read(x, box), box, core

        plain = measured.step(parts, extra)
        halo = tuple(count * cells for cells in reach(rule))
        new = torch.empty_like(x)
        for core in cores:
            box = grown(core, whole, halo, rule.padding == "circular")
            part = steps_of_part(
                read(x, box), box, core, whole, plain.rule, plain.params, count, SEED,
                first_step=start, first_sample=3, extra=plain.extra,
            )  # fmt: skip
            new = new.clone()
            new[core.place] = part
        x = new
    return x


@pytest.mark.parametrize("name", RULES)
def test_parts_equal_the_whole(name):
    rule, size = RULES[name]
    assert refusal(rule) is None
    x = make_state(rule, size, torch.float64, 2, seed=1).requires_grad_()
    params = {name: p.requires_grad_() for name, p in make_params(rule, torch.float64, seed=2).items()}
    extra = make_extra(rule, size, torch.float64, seed=3)
    whole = rollout(x, rule, params, 4, seed=SEED, first_sample=3, extra=extra, backend="reference")
    weight = torch.randn(whole.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    leaves = [x, *(p for name, p in params.items() if "running" not in name)]
    want = torch.autograd.grad((whole * weight).sum(), leaves)
    for per_pass in (1,) if needs_whole_grid(rule) else (1, 3):
        parts = in_parts(x, rule, params, 4, extra, (2, 3, 2)[: rule.ndim], per_pass)
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-11)
        found = torch.autograd.grad((parts * weight).sum(), leaves)
        for a, b in zip(found, want, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10 * max(1.0, b.abs().max().item()))


@pytest.mark.parametrize("device", ["cpu", "meta-free torch"])
def test_masks_are_those_of_the_whole_bit_for_bit(device, monkeypatch):
    if device != "cpu":
        monkeypatch.setattr("ncafast.native.load", lambda: None)
    rule, whole = Rule(ndim=3, fire_rate=0.4), (5, 6, 11)
    want = torch.stack([philox.fire_mask(2, whole, 0.4, SEED, step=9 + t, first_sample=4) for t in range(3)])
    for box in (Box((0, 0, 0), whole), Box((1, 2, 3), (4, 3, 10)), Box((-2, -1, -14), (6, 9, 13))):
        found = fire_masks(rule, box, whole, 2, 3, SEED, first_step=9, first_sample=4)
        assert torch.equal(found, read(want, box))
    assert fire_masks(rule.replace(fire_rate=1.0), box, whole, 2, 3, SEED) is None
