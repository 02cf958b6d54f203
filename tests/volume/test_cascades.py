"""Cascades over tiles against the model on the whole image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.lib.format import open_memmap

from ncafast.models import M3DNCA, MedNCA
from ncafast.volume import cascade_tiled, level_states


def flat(**options):
    """A 2-D cascade with numbers that matter."""
    torch.manual_seed(1)
    options = {"channels": 5, "hidden": 6, "kernel_sizes": (5, 3), "steps": (3, 2), "scale": 3} | options
    return with_updates(MedNCA(**options))


def deep(**options):
    """A 3-D cascade of three levels."""
    torch.manual_seed(1)
    options = {"channel_n": 5, "hidden_size": 6, "steps": (2, 1, 2), "levels": 3, "scale_factor": 2} | options
    return with_updates(M3DNCA(kernel_size=3, **options))


def with_updates(model):
    """The last layers start at 0, with which no state would change."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape))
    return model.double()


def tiled(model, image, **options):
    """Logits over tiles of 4 cells per axis."""
    return cascade_tiled(model, image, **({"tile": 4, "progress": False, "seed": 3} | options))


def whole(model, image, **options):
    """Logits of the model, channels first."""
    with torch.no_grad():
        if isinstance(model, MedNCA):
            return model(image, seed=3, **options)
        return model(image.movedim(1, -1), seed=3, **options).movedim(-1, 1)


def image_of(model, size, batch, dtype=torch.float64):
    channels = model.image_channels if isinstance(model, MedNCA) else model.input_channels
    return torch.rand(batch, channels, *size, dtype=dtype)


@pytest.mark.parametrize("make, size", [(flat, (12, 9)), (flat, (14, 11)), (deep, (12, 8, 8)), (deep, (13, 7, 6))])
@pytest.mark.parametrize("batch", [1, 2])
def test_tiles_equal_the_model_on_the_whole_image(make, size, batch):
    model = make()
    image = image_of(model, size, batch)
    kept = image.clone()
    options = {"first_step": 5, "first_sample": 2}
    torch.testing.assert_close(tiled(model, image, **options), whole(model, image, **options), rtol=1e-9, atol=1e-9)
    assert torch.equal(image, kept)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_several_channels_classes_and_scales(scale):
    model = flat(image_channels=2, classes=2, scale=scale, channels=6)
    image = image_of(model, (13, 10), 1)
    torch.testing.assert_close(tiled(model, image), whole(model, image), rtol=1e-9, atol=1e-9)
    model = deep(input_channels=2, output_channels=2, levels=1, steps=3, scale_factor=scale)
    image = image_of(model, (9, 8, 7), 1)
    torch.testing.assert_close(tiled(model, image), whole(model, image), rtol=1e-9, atol=1e-9)


def test_large_images_are_resized_with_the_rounding_of_torch():
    """In float32 the cells between which a cell lies differ from exact arithmetic far from the origin."""
    model = flat(steps=(1, 1), kernel_sizes=(1, 1), scale=7).float()
    image = image_of(model, (20_011, 8), 1, torch.float32)
    found = tiled(model, image, tile=(7001, 8))
    torch.testing.assert_close(found, whole(model, image), rtol=1e-5, atol=1e-5)


def test_norms_with_statistics_take_several_steps_per_pass_and_are_never_changed():
    model = flat(steps=(3, 4))
    for level in (model.model1, model.model2):
        level.bn = torch.nn.BatchNorm2d(6).double()
    image = image_of(model, (12, 9), 2)
    whole(model, image)  # which collects some
    with pytest.raises(ValueError, match=r"collects running statistics, which tiles do not: call model\.eval\(\)"):
        tiled(model, image)
    model.eval()
    torch.testing.assert_close(tiled(model, image), whole(model, image), rtol=1e-9, atol=1e-9)


def test_seeds_are_drawn_as_the_model_draws_them():
    model, image = flat(), image_of(flat(), (12, 9), 1)
    torch.manual_seed(8)
    found = tiled(model, image, seed=None)
    torch.manual_seed(8)
    torch.testing.assert_close(found, model(image).detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["memory map", "zarr", "numpy"])
def test_states_lie_in_files_beside_out_and_are_gone_afterwards(kind, tmp_path, monkeypatch):
    model = flat(steps=(2, 4)).float()
    image = image_of(model, (14, 11), 1, torch.float32)
    np.save(tmp_path / "image.npy", image.numpy())
    source, options = np.load(tmp_path / "image.npy", mmap_mode="r"), {}
    if kind == "memory map":
        options["out"] = open_memmap(tmp_path / "out.npy", "w+", np.float32, (1, 1, 14, 11))
    elif kind == "zarr":
        zarr = pytest.importorskip("zarr")
        options["out"] = zarr.create_array(
            str(tmp_path / "o.zarr"), shape=(1, 1, 14, 11), dtype="f4", chunks=(1, 1, 5, 5)
        )
    else:
        options["scratch"] = tmp_path
    files, made = sorted(tmp_path.iterdir()), []
    real = level_states.scratch_file
    monkeypatch.setattr(level_states, "scratch_file", lambda *args: made.append(args[1]) or real(*args))
    found = tiled(model, source, **options)
    assert found is options.get("out", found)
    np.testing.assert_allclose(np.asarray(found[...]), whole(model, image).numpy(), rtol=1e-4, atol=1e-5)
    assert sorted(tmp_path.iterdir()) == files
    if (
        kind == "numpy"
    ):  # what the coarse level, which is not cut, leaves; two states for the four passes of the fine one
        assert made == [(1, 4, 4, 3), (1, 5, 14, 11), (1, 5, 14, 11)]


def test_what_cannot_be_segmented_is_said_in_one_line(tmp_path):
    model, image = flat(), image_of(flat(), (12, 9), 1)
    fixed = np.zeros((1, 1, 12, 9))
    fixed.flags.writeable = False
    wrong = (
        (model, image, {"out": fixed}, ValueError, r"^out is read-only"),
        (torch.nn.Conv2d(1, 1, 1), image, {}, TypeError, r"^model must be a MedNCA or an M3DNCA, got Conv2d$"),
        (
            model,
            image[:, :0],
            {},
            ValueError,
            r"^image must be \[B, image_channels=1, H, W\], got shape \[1, 0, 12, 9\]",
        ),
        (model, image[..., :2], {}, ValueError, r"too small: each side must be at least scale=3"),
        (model, image, {"out": image[:, :, 1:]}, ValueError, r"^out is \[1, 1, 11, 9\] of float64, but the logits are"),
        (model, image, {"memory_limit": "1MB", "tile": None}, MemoryError, r"may be used; raise memory_limit"),
        (deep(), torch.rand(1, 2, 8, 8, 8), {}, ValueError, r"^image must be \[B, input_channels=1, X, Y, Z\]"),
        (model, image, {"scratch": tmp_path / "none"}, FileNotFoundError, "none"),
    )
    for model, image, options, kind, text in wrong:
        with pytest.raises(kind, match=text):
            tiled(model, image, **options)
