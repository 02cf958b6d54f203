"""OctreeNCA against its transcription: grids by nearest neighbour, levels from coarse to fine, every gradient."""

from __future__ import annotations

import published_variants as originals
import pytest
import torch
from torch import Tensor

import ncafast
from ncafast import models

FLAT = (((12, 8), 2), ((6, 8), 3), ((3, 2), 4))
VOLUME = (((6, 8, 4), 2), ((3, 4, 4), 3))


def pair(levels, kernels, separate=True) -> tuple[models.OctreeNCA, originals.Pyramid]:
    ours = models.OctreeNCA(levels, 6, 0.5, 10, 2, 1, kernels if separate else kernels[0], separate)
    original = originals.Pyramid(levels, 6, 10, 2, 1, kernels, separate)
    for parameter in original.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape)
    ours.load_state_dict(original.state_dict(), strict=True)
    assert list(ours.state_dict()) == list(original.state_dict())
    return ours.double(), original.double()


def masks_of(levels) -> list[Tensor]:
    return [(torch.rand(steps, 2, 1, *size) < 0.5).double() for size, steps in levels]


@pytest.mark.parametrize(
    ("levels", "kernels", "separate"),
    [(FLAT, [3, 3, 3], True), (FLAT, [5, 3, 1], True), (FLAT, [3], False), (VOLUME, [3, 5], True)],
    ids=["2-D", "2-D kernels", "2-D shared", "3-D"],
)
def test_it_is_the_original(levels, kernels, separate) -> None:
    torch.manual_seed(3)
    ours, original = pair(levels, kernels, separate)
    size, masks = levels[0][0], masks_of(levels)
    x = torch.rand((2, 2, *size) if len(size) == 2 else (2, *size, 2)).double()
    found = []
    for model in (ours, original):
        leaf = x.clone().requires_grad_()
        if model is ours:
            result = ours(leaf, fire_masks=masks)
            logits, hidden = result["logits"], result["hidden_channels"]
        else:
            logits, hidden = original(leaf, masks)
        (logits.square().sum() + hidden.sin().sum()).backward()
        found.append([logits, hidden, leaf.grad, *(p.grad for p in model.parameters())])
    assert found[0][0].shape == (2, *size, 1)
    for have, want in zip(*found, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-9, atol=1e-11)


def test_levels_draw_one_after_the_other() -> None:
    """The masks of a seed, level after level from the coarsest on."""
    torch.manual_seed(4)
    ours, _ = pair(FLAT, [3, 3, 3])
    x, firsts = torch.rand(2, 2, 12, 8).double(), {2: 10, 1: 14, 0: 17}
    masks = [
        torch.stack([ncafast.fire_mask((2, 1, *size), 0.5, seed=9, step=firsts[n] + t) for t in range(steps)])
        for n, (size, steps) in enumerate(FLAT)
    ]
    drawn, forced = ours(x, seed=9, first_step=10, states="all"), ours(x, fire_masks=masks, states="all")
    assert torch.equal(drawn["logits"], forced["logits"])
    assert [tuple(kept.shape) for kept in drawn["states"]] == [(2, 2, 12, 8, 6), (3, 2, 6, 8, 6), (4, 2, 3, 2, 6)]
    assert torch.equal(drawn["states"][0][-1][..., 2:3], drawn["logits"])


def test_other_sizes_are_shrunk_by_the_same_factors() -> None:
    model = models.OctreeNCA(FLAT, 6, hidden_size=8, input_channels=2)
    result = model(torch.rand(1, 2, 17, 13), states="all")
    assert [tuple(kept.shape[2:4]) for kept in result["states"]] == [(17, 13), (9, 13), (5, 4)]
    assert result["logits"].shape == (1, 17, 13, 1)


def test_training_repeats_the_batch_and_returns_the_targets() -> None:
    model = models.OctreeNCA(FLAT, 6, hidden_size=8, input_channels=2)
    x, y = torch.rand(2, 2, 12, 8), torch.rand(2, 3, 12, 8)
    result = model(x, y, 2)
    assert result["logits"].shape == (4, 12, 8, 1)
    assert torch.equal(result["target"], torch.cat([y, y]).movedim(1, -1))
    assert model.eval()(x, y, 2)["logits"].shape == (2, 12, 8, 1)


def test_it_is_built_from_the_originals_configuration_and_saved(tmp_path) -> None:
    config = {
        "model.channel_n": 6,
        "model.fire_rate": 0.4,
        "model.kernel_size": [3, 3, 5],
        "model.hidden_size": 9,
        "model.input_channels": 2,
        "model.output_channels": 3,
        "model.normalization": "group",
        "model.octree.res_and_steps": [[[12, 8], 2], [[6, 8], 3], [[6, 4], 1]],
        "model.octree.separate_models": True,
        "model.vitca": False,
    }
    model = models.OctreeNCA.from_experiment(config)
    assert [rule.norm for rule in model.rules] == ["group"] * 3 and model.fire_rate == 0.4
    assert model.rules[2].kernel_size == (5, 5)
    ncafast.save(tmp_path / "model.safetensors", model)
    x = torch.rand(1, 2, 12, 8)
    again = ncafast.load(tmp_path / "model.safetensors")
    assert torch.equal(again(x, seed=1)["logits"], model.eval()(x, seed=1)["logits"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.OctreeNCA([]), "res_and_steps is empty"),
        (lambda: models.OctreeNCA([((8,), 1)]), "grid of 1 sides"),
        (lambda: models.OctreeNCA([((8, 8), 1), ((5, 4), 1)]), r"from \(8, 8\) to \(5, 4\)"),
        (lambda: models.OctreeNCA(FLAT, kernel_size=[3, 3]), "kernel_size has 2 values, but there are 3"),
        (lambda: models.OctreeNCA(FLAT, input_channels=2)(torch.rand(1, 12, 8, 2)), r"\[B, input_channels=2, H, W\]"),
        (lambda: models.OctreeNCA(VOLUME)(torch.rand(1, 1, 6, 8, 4)), r"\[B, X, Y, Z, input_channels=1\]"),
        (lambda: models.OctreeNCA(FLAT)(torch.rand(1, 1, 12, 8), fire_masks=[]), "fire_masks has 0 masks"),
    ],
)
def test_mistakes_are_named(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
