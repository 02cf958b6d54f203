"""MedNCA: the cascade's sizes, streams of randomness, channels and errors. Its numbers: test_models_parity."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import ncafast
from ncafast import models


def small(**arguments) -> models.MedNCA:
    """A cascade of few steps with random weights."""
    torch.manual_seed(31)
    model = models.MedNCA(**{"channels": 6, "hidden": 8, "steps": (3, 2), **arguments})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape))
    return model


def masks(size: tuple[int, int], steps: range, seed: int, batch: int = 2) -> Tensor:
    shape = (batch, 1, *size)
    return torch.stack([ncafast.fire_mask(shape, 0.5, seed, step=step) for step in steps])


def test_keys_are_the_two_models() -> None:
    keys = {name.split(".", 1)[0] for name in models.MedNCA().state_dict()}
    assert keys == {"model1", "model2"}
    assert models.MedNCA().model1.state_dict().keys() == models.NCA2D().state_dict().keys()


def test_defaults_are_the_notebook() -> None:
    coarse, fine = models.MedNCA().rules
    assert (coarse.kernel_size, fine.kernel_size) == ((7, 7), (3, 3))
    assert coarse.channels == fine.channels == 16
    assert coarse.hidden == fine.hidden == (64,)
    assert models.MedNCA().steps == (40, 20)
    assert coarse.mutable == fine.mutable == (1, 16)


def test_levels_draw_from_one_seed_at_different_steps() -> None:
    model, image = small(), torch.rand(2, 1, 12, 16)
    given = masks((3, 4), range(3), 9), masks((12, 16), range(3, 5), 9)
    assert torch.equal(model(image, seed=9), model(image, fire_masks=given))


def test_a_later_first_step_moves_both_levels() -> None:
    """The two never share a step, and so never a fire mask."""
    model, image = small(), torch.rand(2, 1, 12, 16)
    given = masks((3, 4), range(4, 7), 9), masks((12, 16), range(7, 9), 9)
    assert torch.equal(model(image, seed=9, first_step=4), model(image, fire_masks=given))
    assert not torch.equal(model(image, seed=9, first_step=4), model(image, seed=9))


@pytest.mark.parametrize("size", [(13, 19), (4, 5), (7, 8), (16, 12)])
def test_any_size_runs_as_the_two_models_by_hand(size: tuple[int, int]) -> None:
    """Two image channels, two classes, sizes that 4 does not divide."""
    model = small(image_channels=2, classes=2).double()
    image = torch.rand(2, 2, *size).double()
    coarse_size = (size[0] // 4, size[1] // 4)
    coarse = torch.zeros(2, 6, *coarse_size).double()
    coarse[:, :2] = F.interpolate(image, size=coarse_size, mode="bilinear")
    coarse = model.model1(coarse, 3, fire_mask=masks(coarse_size, range(3), 4))
    fine = torch.zeros(2, 6, *size).double()
    fine[:, :2] = image
    fine[:, 2:] = F.interpolate(coarse[:, 2:], size=size, mode="bilinear")
    fine = model.model2(fine, 2, fire_mask=masks(size, range(3, 5), 4))
    torch.testing.assert_close(model(image, seed=4), fine[:, 2:4], rtol=1e-12, atol=1e-12)


def test_states_of_both_levels() -> None:
    model, image = small(), torch.rand(2, 1, 12, 16)
    logits, (coarse, fine) = model(image, seed=2, states="all")
    assert coarse.shape == (3, 2, 6, 3, 4)
    assert fine.shape == (2, 2, 6, 12, 16)
    assert torch.equal(fine[-1][:, 1:2], logits)
    assert torch.equal(logits, model(image, seed=2))
    assert torch.equal(fine[-1][:, :1], image)


def test_fire_rate_may_change_for_both_or_one() -> None:
    model, image = small(), torch.rand(2, 1, 12, 16)
    model.fire_rate = 1.0
    assert model.model1.fire_rate == model.model2.fire_rate == model.fire_rate == 1.0
    everywhere = torch.ones(3, 1, 1, 3, 4), torch.ones(2, 1, 1, 12, 16)
    assert torch.equal(model(image), model(image, fire_masks=everywhere))
    model.model2.fire_rate = 0.0
    *_, (_, fine) = model(image, states="all")
    assert torch.equal(fine[0], fine[1])


def test_memory_and_mode_change_no_gradient() -> None:
    model, image = small().double(), torch.rand(2, 1, 12, 16).double()
    found = []
    for memory, training in (("states", True), ("sqrt", True), ("states", False)):
        model.train(training).zero_grad()
        model(image, seed=6, memory=memory).square().sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, "classes=0 is not allowed: 1 to 5 fit"),
        ({"classes": 6}, "classes=6 is not allowed: 1 to 5 fit"),
        ({"scale": 0}, "scale=0"),
        ({"kernel_sizes": (6, 3)}, "kernel_sizes=6 is even"),
        ({"fire_rate": 1.2}, "fire_rate=1.2"),
        ({"kernel_sizes": (3,)}, r"kernel_sizes must be a pair \(coarse, fine\), got 1 values: \(3,\)"),
        ({"steps": (1,)}, r"steps must be a pair \(coarse, fine\), got 1 values: \(1,\)"),
        ({"steps": (1, -2)}, "steps=-2 is not allowed"),
        ({"image_channels": 6}, "image_channels=6 is not allowed: it must be 1 to 5"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**arguments)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3, 12, 16), r"image must be \[B, image_channels=1, H, W\]"),
        ((1, 12, 16), r"image must be"),
        ((2, 1, 3, 16), "image of 3 x 16 cells is too small"),
    ],
)
def test_wrong_images_are_named(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small()(torch.rand(shape))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small(steps=5), r"steps must be a pair \(coarse, fine\), got int"),
        (lambda: small(scale=2.5), "scale must be an int, got float 2.5"),
        (lambda: small()(torch.ones(1, 1, 12, 16, dtype=torch.int64)), "image must be floating point, got torch.int64"),
        (lambda: small()([[0.0]]), "image must be a torch.Tensor, got list"),
        (lambda: small()(torch.rand(1, 1, 8, 8), fire_masks=torch.ones(2, 1)), "fire_masks must be a pair"),
        (lambda: small()(torch.rand(1, 1, 8, 8), fire_mask=torch.ones(2, 1)), "takes fire_masks=.coarse, fine"),
        (lambda: small()(torch.rand(1, 1, 8, 8), first_step="a"), "first_step must be an int, got str 'a'"),
    ],
)
def test_wrong_kinds_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()
