"""SelfClassifyingNCA: dropout in training only, leading axes, 1 and 3 axes, flax's start. Its step: models_parity."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ncafast import models
from ncafast.bench import originals


def lively(model: nn.Module) -> nn.Module:
    """The model with a random last layer."""
    torch.manual_seed(41)
    nn.init.normal_(model.update.layers[-1].weight, std=0.1)
    nn.init.normal_(model.update.layers[-1].bias, std=0.1)
    return model


def drawing(*shape: int) -> Tensor:
    """[*shape, 20], everywhere alive."""
    torch.manual_seed(42)
    return 0.5 + torch.rand(*shape, 20)


def test_evaluation_drops_nothing_and_scales_nothing() -> None:
    ours, original = lively(models.SelfClassifyingNCA()).eval(), originals.SelfClassifyingNCA().eval()
    original.load_state_dict(ours.state_dict())
    x = drawing(2, 8, 9)
    torch.testing.assert_close(ours(x, 5), original(x, 5), rtol=1e-5, atol=1e-5)
    assert torch.equal(ours(x, 5), ours(x, 5))


@pytest.mark.parametrize("rate", [0.5, 0.1])
def test_training_drops_cells_and_scales_the_others(rate: float) -> None:
    """A cell moves by 0 or by 1 / (1 - rate) of its move in evaluation; the rate is set after construction."""
    model = lively(models.SelfClassifyingNCA())
    model.cell_dropout_rate = rate
    x = drawing(4, 64, 64)
    full = (model.eval()(x) - x)[..., :10]
    moved = (model.train()(x) - x)[..., :10]
    kept = (moved != 0).any(-1)
    sigma = math.sqrt(rate * (1 - rate) / kept.numel())
    assert kept.double().mean().item() == pytest.approx(1 - rate, abs=5 * sigma)
    torch.testing.assert_close(moved[kept], full[kept] / (1 - rate), rtol=1e-4, atol=1e-5)


def test_no_dropout_is_evaluation() -> None:
    model, x = lively(models.SelfClassifyingNCA(cell_dropout_rate=0.0)), drawing(2, 5, 6)
    assert torch.equal(model(x, 3), model.eval()(x, 3))


def test_image_is_put_back() -> None:
    model, x = lively(models.SelfClassifyingNCA()), drawing(2, 5, 6)
    after = model(x, 4)
    assert torch.equal(after[..., -1], x[..., -1])
    assert not torch.equal(after[..., :-1], x[..., :-1])


def test_leading_axes_are_batch_axes() -> None:
    model, x = lively(models.SelfClassifyingNCA()), drawing(3, 2, 5, 6)
    last, kept = model(x, 4, seed=1, states=2)
    flat, flat_kept = model(x.flatten(0, 1), 4, seed=1, states=2)
    assert torch.equal(last.flatten(0, 1), flat)
    assert torch.equal(kept.flatten(1, 2), flat_kept)
    assert torch.equal(model(x[0, 0], 4, seed=1), model(x[0, :1], 4, seed=1)[0])


@pytest.mark.parametrize("ndim", [1, 3])
def test_other_ranks_equal_two_axes_on_a_thin_grid(ndim: int) -> None:
    """A 2-D automaton of height 1 is a 1-D one with the middle row of its kernel; likewise 2-D in 3-D."""
    flat = lively(models.SelfClassifyingNCA())
    other = models.SelfClassifyingNCA(ndim=ndim)
    weights = flat.state_dict()
    for name, tensor in other.state_dict().items():
        if weights[name].dim() == 4 and ndim == 1:
            weights[name] = weights[name][:, :, weights[name].shape[2] // 2]
        elif weights[name].dim() == 4:
            thick = torch.randn(tensor.shape)  # what lies outside the grid does not matter
            thick[:, :, tensor.shape[2] // 2] = weights[name]
            weights[name] = thick
    other.load_state_dict(weights)
    x = drawing(2, 1, 9) if ndim == 1 else drawing(2, 7, 9)
    squeezed = x.squeeze(1) if ndim == 1 else x.unsqueeze(1)
    result = other(squeezed, 3, seed=5).reshape(x.shape)
    torch.testing.assert_close(result, flat(x, 3, seed=5), rtol=1e-5, atol=1e-5)


def test_weights_start_as_in_flax() -> None:
    """Truncated normal of variance 1 / fan_in, nothing beyond two deviations; biases and the last kernel 0."""
    torch.manual_seed(43)
    model = models.SelfClassifyingNCA(hidden_layer_sizes=(200, 90))
    *inner, last = [model.perceive.conv, *model.update.layers]
    for layer in inner:
        weight = layer.weight.detach()
        deviation = 1 / math.sqrt(weight[0].numel())
        assert weight.std().item() == pytest.approx(deviation, rel=0.03)
        assert weight.abs().max().item() <= 2 * deviation / 0.8796
        assert not layer.bias.any()
    assert not last.weight.any()
    assert not last.bias.any()


def test_names_mirror_the_flax_paths() -> None:
    names = list(models.SelfClassifyingNCA(hidden_layer_sizes=(80, 40)).state_dict())
    layers = [f"update.layers.{n}.{leaf}" for n in range(3) for leaf in ("weight", "bias")]
    assert names == ["perceive.conv.weight", "perceive.conv.bias", *layers]


def test_wrong_layout_is_named() -> None:
    with pytest.raises(ValueError, match=r"SelfClassifyingNCA takes x as \[B, H, W, 20\]"):
        models.SelfClassifyingNCA()(torch.rand(2, 20, 5, 6))


def test_several_hidden_layers_match_the_original() -> None:
    ours = lively(models.SelfClassifyingNCA(12, 30, (16, 8)))
    original = originals.SelfClassifyingNCA(12, 30, (16, 8))
    original.load_state_dict(ours.state_dict())
    x = drawing(2, 6, 7)[..., :12].contiguous()
    masks = [torch.rand(2, 1, 6, 7) < 0.5 for _ in range(8)]
    given = ours.double()(x.double(), 8, fire_mask=torch.stack(masks))
    torch.testing.assert_close(given, original.double()(x.double(), 8, masks), rtol=1e-11, atol=1e-11)
