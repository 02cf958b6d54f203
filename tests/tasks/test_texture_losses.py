"""Texture losses against their definitions, computed in another way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ncafast.tasks.texture import loss as losses
from ncafast.tasks.texture.loss.features import gram, gram_distance
from ncafast.tasks.texture.loss.patches import PatchLoss, pyramid
from ncafast.tasks.texture.loss.vgg import VGGFeatures, find_weights, unavailable

needs_torchvision = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_gram_is_the_mean_of_products():
    features = torch.randn(2, 3, 10)
    for b in range(2):
        for i in range(3):
            for j in range(3):
                expected = sum(float(features[b, i, n] * features[b, j, n]) for n in range(10)) / 10
                assert gram(features)[b, i, j].item() == pytest.approx(expected, abs=1e-5)
    assert gram_distance(features[:1], features[0]).item() == 0
    assert gram_distance(torch.zeros(1, 3, 4), features[0]).item() == pytest.approx(1)  # a share of the target's own
    shuffled = features[:1, :, torch.randperm(10)]
    assert gram_distance(shuffled, features[0]).item() == pytest.approx(0, abs=1e-10)  # places do not count


def textures(side: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two pieces of one pattern, stripes of period 12 in two phases, and stripes across."""
    place = torch.arange(side) * (2 * torch.pi / 12)
    stripes = (0.5 + 0.4 * (place[None] + 0 * place[:, None]).sin()).expand(3, -1, -1)
    return stripes, stripes.roll(4, 2), stripes.transpose(1, 2)


def test_patch_loss_knows_a_texture_from_another_whatever_its_place_and_size():
    sample, moved, across = textures(96)
    loss = PatchLoss(sample, levels=3)
    own = loss(moved[None], generator())
    assert own.shape == (1,)
    assert own < 0.05
    assert loss(across[None], generator()) > 10 * own
    smaller = textures(36)[0]
    assert loss(smaller[None], generator()) < 0.05
    both = loss(torch.stack([moved, across]), generator())
    assert torch.allclose(both[:1], own, rtol=1e-4, atol=1e-6)  # samples of a batch do not see each other
    rolled = loss(across.roll((8, 4), (1, 2))[None], generator())
    assert rolled == pytest.approx(loss(across[None], generator()).item(), rel=0.05)  # the picture is a torus


def test_patch_loss_is_a_function_of_its_generator_and_leads_to_the_sample():
    sample = textures(24)[0]
    loss = PatchLoss(sample, levels=2)
    images = torch.rand(1, 3, 24, 24, generator=generator(3)).requires_grad_()
    assert torch.equal(loss(images, generator(1)), loss(images, generator(1)))
    assert not torch.equal(loss(images, generator(1)), loss(images, generator(2)))
    first, optimiser = loss(images, generator()).item(), torch.optim.Adam([images], 0.05)
    for step in range(60):
        optimiser.zero_grad()
        loss(images, generator(step)).sum().backward()
        optimiser.step()
    assert loss(images, generator()).item() < 0.2 * first


@pytest.mark.parametrize("side", [10, 16, 17, 36, 56, 64, 72])
def test_every_sample_with_room_for_features_can_be_compared(side):
    """Also those whose coarsest scale would have room for a patch and for no neighbourhood of features."""
    sample = torch.rand(3, side, side, generator=generator())
    loss = PatchLoss(sample)
    assert loss(torch.rand(1, 3, 20, 33), generator()).isfinite().all()
    least = loss.least_side
    assert loss(torch.rand(1, 3, least, least), generator()).isfinite().all()
    with pytest.raises(RuntimeError):
        loss(torch.rand(1, 3, least - 1, least), generator())


def test_a_sample_without_room_is_refused():
    with pytest.raises(ValueError, match="too small; give one with sides from 10"):
        PatchLoss(torch.rand(3, 9, 20))


def test_pyramid_stops_where_no_patch_fits():
    sizes = [tuple(image.shape[-2:]) for image in pyramid(torch.rand(1, 3, 33, 60), 9, 7)]
    assert sizes == [(33, 60), (16, 30), (8, 15)]


def test_auto_needs_neither_weights_nor_torchvision(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert losses.choose("auto", None) == ("patches", None)
    assert losses.choose("patches", None) == ("patches", None)
    with pytest.raises(ValueError, match="--loss patches takes no weights, got --weights .*unused"):
        losses.choose("patches", tmp_path / "unused")
    with pytest.raises(ValueError, match="--weights .*none.pth: is no file"):
        losses.choose("auto", tmp_path / "none.pth")
    if unavailable() is None:
        with pytest.raises(ValueError, match="needs VGG16 weights.*--loss patches"):
            losses.choose("gram", None)
        cached = tmp_path / "checkpoints" / "vgg16-397923af.pth"
        cached.parent.mkdir()
        cached.touch()
        assert losses.choose("auto", None) == ("sliced", cached)
        assert losses.choose("gram", None) == ("gram", cached)
    else:
        with pytest.raises(ModuleNotFoundError, match="torchvision.*--loss patches"):
            losses.choose("gram", None)


def vgg_file(path: Path, layers: int = 3, dtype: torch.dtype = torch.float16, prefix: str = "features.") -> dict:
    """The first convolutions of a VGG16 with random weights."""
    widths = [(0, 3, 64), (2, 64, 64), (5, 64, 128)][:layers]
    tensors = {}
    for number, before, after in widths:
        tensors[f"{prefix}{number}.weight"] = (torch.randn(after, before, 3, 3) / (before * 9) ** 0.5).to(dtype)
        tensors[f"{prefix}{number}.bias"] = torch.randn(after).to(dtype)
    torch.save(tensors, path)
    return tensors


@needs_torchvision
def test_vgg_features_are_the_convolutions_written_out(tmp_path):
    tensors = {name: t.float() for name, t in vgg_file(tmp_path / "vgg.pth").items()}
    images = torch.rand(2, 3, 12, 14)
    found = VGGFeatures(tmp_path / "vgg.pth")(images)
    x = (images - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

    def convolved(x: torch.Tensor, number: int) -> torch.Tensor:
        return F.conv2d(x, tensors[f"features.{number}.weight"], tensors[f"features.{number}.bias"], padding=1).relu()

    first = convolved(x, 0)
    second = convolved(F.max_pool2d(convolved(first, 2), 2), 5)
    assert list(found) == [1, 6]  # the file goes no further
    torch.testing.assert_close(found[1], first)
    torch.testing.assert_close(found[6], second)


@needs_torchvision
@pytest.mark.parametrize("kind", ["gram", "sliced"])
def test_feature_loss_is_nothing_for_the_sample_and_has_a_gradient(tmp_path, kind):
    vgg_file(tmp_path / "vgg.pth", 1, prefix="")
    sample = torch.rand(3, 16, 16)
    loss = losses.make_loss(sample, kind, tmp_path / "vgg.pth")
    assert loss(sample[None], generator()).item() == pytest.approx(0, abs=1e-9)
    images = torch.rand(2, 3, 10, 12, requires_grad=True)
    value = loss(images, generator())
    assert value.shape == (2,) and (value > 1e-4).all()
    value.sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(p.grad is None for p in loss.parameters())


@needs_torchvision
def test_bad_weights_are_one_line_that_names_the_file(tmp_path):
    path = tmp_path / "vgg.pth"
    for content, said in (
        (b"no weights", "cannot be read"),
        ([1, 2], "holds a list"),
        ({"classifier.0.weight": torch.rand(3)}, "holds no first layer"),
        ({"features.0.weight": torch.rand(3, 3), "features.0.bias": torch.rand(64)}, "VGG16 needs"),
        ({"features.0.weight": torch.full((64, 3, 3, 3), torch.nan), "features.0.bias": torch.rand(64)}, "NaN"),
    ):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        with pytest.raises(ValueError, match=f"vgg.pth: .*{said}") as error:
            VGGFeatures(path)
        assert "\n" not in str(error.value) and "torch.load" not in str(error.value)


def test_find_weights_downloads_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert find_weights(None) is None
    assert list(tmp_path.iterdir()) == []
