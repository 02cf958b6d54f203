"""Values of more than 8 bits: brightness by the range that was asked for, kept with the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cells import tiny, write_folders
from odd_images import chunk, levels, oriented, png, tiff
from PIL import Image

from ncafast import checkpoint
from ncafast.tasks.classification import train
from ncafast.tasks.classification.images import read_image as read_square
from ncafast.tasks.classification.recipe import Recipe
from ncafast.tasks.images import ImageError, Reading, read_image
from ncafast.tasks.texture.recipe import Recipe as TextureRecipe

IN_FORMAT = {"uint16": 65535, "int16": 32767, "int32": 65535, "uint32": 65535, "float32": 1}


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def whole(path: Path, value_range: str = "format") -> np.ndarray:
    return np.array(read_image(path, Reading(value_range)))


def to_bytes(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


# Pillow opens no big-endian 32-bit integers without a sign.
@pytest.mark.parametrize(
    ("kind", "order"), [(kind, order) for kind in IN_FORMAT for order in "<>" if (kind, order) != ("uint32", ">")]
)
def test_greys_of_more_than_8_bits_become_brightness_by_the_range_that_was_asked_for(tmp_path, kind, order):
    values = np.linspace(0.1, 0.6, 99).reshape(9, 11) * IN_FORMAT[kind]
    pixels = values.astype(kind)
    path = written(tmp_path / "a.tif", tiff(pixels[..., None], order=order))
    values = pixels.astype(np.float64)
    np.testing.assert_array_equal(whole(path), to_bytes(values, 0, IN_FORMAT[kind]))
    np.testing.assert_array_equal(whole(path, "image"), to_bytes(values, values.min(), values.max()))
    np.testing.assert_array_equal(whole(path, "percentile"), to_bytes(values, *np.percentile(values, (1, 99))))
    np.testing.assert_array_equal(whole(path, "earlier"), whole(path, "image"))


@pytest.mark.parametrize(
    ("channels", "form"), [*((n, "png") for n in (1, 2, 3, 4)), *((n, order) for n in (1, 3, 4) for order in "<>")]
)
def test_16_bit_colours_are_read_in_full(tmp_path, channels, form):
    pixels = levels((9, 11, channels), channels, 4095)
    extra = {"t338": 2} if channels == 4 else {}
    data = png(pixels) if form == "png" else tiff(pixels.astype(np.uint16), order=form, **extra)
    found = {name: whole(written(tmp_path / "a", data), name) for name in ("format", "image")}
    alphas = 1 if channels in (2, 4) else 0
    colours = pixels[..., : channels - alphas]
    for name, high in (("format", 65535), ("image", colours.max())):
        low = colours.min() if name == "image" else 0
        shown, expected = found[name].reshape(9, 11, -1), to_bytes(colours, low, high)
        np.testing.assert_array_equal(
            shown[..., : shown.shape[-1] - alphas], expected + np.zeros_like(shown[..., alphas:])
        )
        if alphas:
            np.testing.assert_array_equal(shown[..., 3], to_bytes(pixels[..., -1], 0, 65535))


def test_compressed_16_bit_colours_are_read_in_full(tmp_path):
    tall = levels((40, 31, 3), 2, 65535)
    tall[..., 1] = np.arange(40)[:, None] * 1000
    path = written(tmp_path / "a.png", png(tall))
    np.testing.assert_array_equal(whole(path), to_bytes(tall, 0, 65535))
    key = tall[3, 4]
    clear = written(tmp_path / "key.png", png(tall, before=chunk(b"tRNS", key.astype(">u2").tobytes())))
    np.testing.assert_array_equal(whole(clear)[..., 3], np.where((tall == key).all(-1), 0, 255))
    grey = written(tmp_path / "grey.png", png(tall[..., :1], before=chunk(b"tRNS", key[:1].astype(">u2").tobytes())))
    np.testing.assert_array_equal(whole(grey)[..., 3], np.where(tall[..., 0] == key[0], 0, 255))


def test_white_may_be_zero_and_12_bits_are_12_bits(tmp_path):
    values = levels((5, 6, 1), 1, 65535).astype(np.uint16)
    path = written(tmp_path / "a.tif", tiff(values, photometric=0))
    np.testing.assert_array_equal(whole(path), 255 - to_bytes(values[..., 0].astype(float), 0, 65535))
    packed = bytes([0x12, 0x3F, 0xFF] * 3)  # two pixels of 12 bits: 0x123, 0xfff
    data = bytearray(tiff(np.zeros((3, 2, 1), np.uint16)))[:-12] + packed
    at = data.index(b"\x02\x01\x03\0\x01\0\0\0\x10\0")
    data[at + 8] = 12
    np.testing.assert_array_equal(
        whole(written(tmp_path / "b.tif", bytes(data))), [[round(0x123 / 4095 * 255), 255]] * 3
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.full((3, 3, 1), -1, np.int16), "holds values from -1 to -1 where 0 to 32767 is expected"),
        (np.full((3, 3, 1), 70000, np.int32), "holds values from 70000 to 70000 where 0 to 65535 is expected"),
        (np.full((3, 3, 1), 255, np.float32), "holds values from 255 to 255 where 0 to 1 is expected"),
        (np.full((3, 3, 1), -3, np.int8), "holds signed 8-bit integers"),
    ],
)
def test_values_outside_the_range_are_refused_in_words(tmp_path, values, said):
    path = written(tmp_path / "a.tif", tiff(values))
    with pytest.raises(ImageError, match=said):
        read_image(path)
    if values.dtype != np.int8:
        assert "--value-range image" in str(pytest.raises(ImageError, read_image, path).value)
        assert (whole(path, "image") == 0).all()


def dim_and_bright(folder: Path, *, turn: int = 1) -> Path:
    """16-bit images of two classes that differ in brightness alone."""
    for name, level in (("dim", 1000), ("bright", 50000)):
        (folder / name).mkdir(parents=True)
        for number in range(6):
            noise = np.random.default_rng(number).normal(1, 0.1, (12, 12))
            Image.fromarray((level * noise).astype(np.uint16)).save(
                folder / name / f"{number}.png", exif=oriented(turn)
            )
    return folder


def test_the_range_of_training_is_kept_with_the_model(tmp_path):
    folder = dim_and_bright(tmp_path / "d")
    means = {}
    for value_range in ("format", "percentile"):
        done = train(tiny(folder, tmp_path / value_range, epochs=1, value_range=value_range))
        recipe = Recipe.from_json(checkpoint.describe(done.best)["recipe"])
        assert recipe.value_range == value_range
        means[value_range] = recipe.mean[0]
    assert abs(means["format"] - (1000 + 50000) / 2 / 65535) < 0.02
    assert abs(means["percentile"] - 0.5) < 0.1


def test_models_and_runs_of_earlier_versions_read_as_they_did(tmp_path, capsys):
    folder, out = dim_and_bright(tmp_path / "d", turn=6), tmp_path / "run"
    config = tiny(folder, out, epochs=1)
    old = Recipe.from_json(json.dumps({"classes": ["a", "b"], "size": 12, "mean": [0] * 3, "std": [1] * 3, "steps": 2}))
    assert old.value_range == "earlier"
    path = folder / "dim" / "0.png"
    with Image.open(path) as file:
        stored = np.array(file).astype(float)
    np.testing.assert_array_equal(
        read_square(path, 12, Reading("earlier"))[..., 0], to_bytes(stored, stored.min(), stored.max())
    )
    np.testing.assert_array_equal(read_square(path, 12)[..., 0], np.rot90(to_bytes(stored, 0, 65535), -1))
    out.mkdir()  # a run that was begun without the options
    plain = {"augment": "quarter"}
    (out / "config.json").write_text(json.dumps(plain))
    with pytest.raises(ValueError, match="another version"):
        train(config)
    assert "by an earlier version" in capsys.readouterr().out
    assert TextureRecipe.from_json('{"image": "a", "size": 9, "crop": null, "loss": "gram"}').value_range == "format"


def test_a_run_of_an_earlier_version_goes_on(tmp_path):
    folder, out = write_folders(tmp_path / "d"), tmp_path / "run"
    train(tiny(folder, out, epochs=1, schedule="constant"))
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(
        json.dumps({k: v for k, v in config.items() if k not in ("value_range", "max_pixels")})
    )
    assert len(train(tiny(folder, out, epochs=2, schedule="constant")).history) == 2
    assert Recipe.from_json(checkpoint.describe(out / "last.safetensors")["recipe"]).value_range == "earlier"
