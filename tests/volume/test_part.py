"""Parts of a grid against a rollout of the whole: states, masks and every gradient, in float64."""

import itertools

import pytest
import torch
from parity import make_extra, make_params, make_state

from ncafast import Alive, Rule, philox, rollout
from ncafast.volume.boxes import Box, grown, read
from ncafast.volume.masks import fire_masks
from ncafast.volume.measured import Measured
from ncafast.volume.part import steps_of_part
from ncafast.volume.reach import needs_whole_grid, reach, refusal

SEED = torch.tensor([-7])
RULES = {
    "zeros": (Rule(channels=4, hidden=(8,)), (11, 14)),
    "reflect 5": (Rule(channels=3, kernel_size=(5,), padding="reflect", hidden=(8,)), (13, 12)),
    "circular": (Rule(channels=3, padding="circular", hidden=(8,)), (9, 12)),
    "replicate extra": (Rule(channels=3, padding="replicate", extra=2, hidden=(6, 5)), (9, 12)),
    "alive": (Rule(channels=5, alive=Alive(threshold=0.3), hidden=(8,), fire_rate=0.7), (12, 13)),
    "alive 5 pre": (Rule(channels=5, alive=Alive(threshold=0.9, pool=5, post=False), hidden=(8,)), (12, 13)),
    "alive update": (Rule(channels=5, alive=Alive(threshold=1.2, post=False, gates="update"), hidden=(8,)), (12, 13)),
    "alive wrap": (Rule(channels=5, padding="circular", alive=Alive(threshold=1.2, wrap=True), hidden=(8,)), (12, 13)),
    "1-D 7": (Rule(channels=2, ndim=1, kernel_size=(7,), padding="reflect", hidden=(8,)), (40,)),
    "3-D": (Rule(channels=3, ndim=3, kernel_size=(3, 1, 5), padding="zeros", hidden=(8,)), (7, 5, 12)),
    "dense": (Rule(channels=3, perception="dense", dense_channels=5, dense_activation="tanh", hidden=(8,)), (9, 12)),
    "batch": (Rule(channels=4, norm="batch", hidden=(8,), padding="reflect"), (11, 10)),
    "batch plain": (Rule(channels=4, norm="batch", norm_affine=False, hidden=(8,), extra=1), (11, 10)),
    "group": (Rule(channels=4, norm="group", norm_groups=2, hidden=(8,)), (11, 10)),
    "instance": (Rule(channels=4, norm="instance", hidden=(8,), padding="circular"), (11, 10)),
    "layer": (Rule(channels=4, norm="layer", hidden=(8,)), (11, 10)),
    "running": (Rule(channels=4, norm="running", hidden=(8,)), (11, 10)),
    "pooled mean": (Rule(channels=4, pooled="mean", hidden=(8,)), (11, 10)),
    "pooled max, batch": (Rule(channels=4, pooled="max", pooled_channels=(1, 3), norm="batch", hidden=(8,)), (11, 10)),
    "clamp": (Rule(channels=4, clamp=(-0.5, 0.8), mutable=(1, 4), restore=(2, 3), hidden=(8,)), (11, 10)),
}  # fmt: skip


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
