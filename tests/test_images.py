"""How images are read, the same in every task: upright, by the format's range, and what cannot be read is one line."""

from __future__ import annotations

import base64
import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from cells import CLASSES, tiny, write_folders
from odd_images import by_mode, chunk, levels, oriented, png, tiff
from PIL import Image, ImageOps

from ncafast import checkpoint
from ncafast.tasks import image_hints
from ncafast.tasks.classification import AnimateConfig, EvaluateConfig, PredictConfig, animate, evaluate, predict, train
from ncafast.tasks.classification.images import list_images
from ncafast.tasks.classification.images import read_image as read_square
from ncafast.tasks.classification.recipe import Recipe
from ncafast.tasks.growing.target import Target, read_target
from ncafast.tasks.image_notes import Notes
from ncafast.tasks.images import ImageError, Reading, read_image
from ncafast.tasks.selfclassify.images import list_images as list_digits
from ncafast.tasks.selfclassify.images import read_digit
from ncafast.tasks.texture.model_file import Recipe as TextureRecipe
from ncafast.tasks.texture.sample import read_sample

IN_FORMAT = {"uint16": 65535, "int16": 32767, "int32": 65535, "uint32": 65535, "float32": 1}


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def whole(path: Path, value_range: str = "format") -> np.ndarray:
    return np.array(read_image(path, Reading(value_range)))


def to_bytes(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def claims(width: int, height: int) -> bytes:
    return png(np.zeros((1, 1, 1)), 8, size=(width, height))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_every_task_sees_images_as_viewers_show_them(tmp_path, ending, turn):
    image = Image.new("RGB", (36, 24), "white")
    image.paste("red", (4, 4, 30, 9))
    image.paste("blue", (4, 9, 10, 20))
    options = {"quality": 95} if ending in ("jpg", "webp") else {}
    path = saved(tmp_path / f"a.{ending}", image, exif=oriented(turn), **options)
    with Image.open(path) as file:
        shown = ImageOps.exif_transpose(file).convert("RGB")
    assert shown.size == ((24, 36) if turn > 4 else (36, 24))
    upright = saved(tmp_path / "upright.png", shown)
    np.testing.assert_array_equal(whole(path), np.array(shown))
    np.testing.assert_array_equal(read_square(path, 16), read_square(upright, 16))
    assert read_sample(path, 20).equal(read_sample(upright, 20))
    assert read_digit(path, tone="dark").equal(read_digit(upright, tone="dark"))
    targets = [read_target(file, size=12, padding=1, background="white").pixels for file in (path, upright)]
    np.testing.assert_array_equal(*targets)


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


def test_notes_name_the_first_image_and_say_each_thing_once(tmp_path, capsys):
    notes, image = Notes(), by_mode()["RGB"]
    for number in range(3):
        path = saved(tmp_path / f"{number}.gif", image, save_all=True, append_images=[image.rotate(90)])
        with Image.open(path) as file:
            np.testing.assert_array_equal(np.array(read_image(path, notes=notes)), np.array(file.convert("RGB")))
    read_image(written(tmp_path / "i.tif", tiff(levels((3, 3, 1)).astype(np.int32))), notes=notes)
    notes.say()
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"note: {tmp_path / '0.gif'} and 2 more: several frames or pages, of which only the first is read"
    assert second.startswith(f"note: {tmp_path / 'i.tif'}: 32-bit integers, read as 0 to 65535")
    read_sample(tmp_path / "0.gif", 16)
    read_target(tmp_path / "1.gif", size=4, padding=0, background="none")
    assert [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()] == [
        str(tmp_path / name) for name in ("0.gif", "1.gif")
    ]


@pytest.mark.parametrize(("width", "height"), [(20000, 20000), (10000, 10000), (2**31 - 1, 2)])
def test_an_image_beyond_the_limit_says_so(tmp_path, width, height):
    path = written(tmp_path / "a.png", claims(width, height))
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert f"{path}: has {width * height:,} pixels, more than the limit of 89,478,485" in str(error.value)
    assert "--max-pixels" in str(error.value)


def test_the_limit_can_be_chosen_and_is_not_left_in_pillow(tmp_path):
    path, before = saved(tmp_path / "a.png", Image.new("L", (40, 30), 7)), Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError, match="1,200 pixels, more than the limit of 1,199"):
        read_image(path, Reading(max_pixels=1199))
    assert before == Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = 500  # as a program may that wants less elsewhere
    try:
        for read in (
            lambda: read_square(path, 8, Reading(max_pixels=1200)).max(),
            lambda: read_target(path, size=4, padding=0, background="none", reading=Reading(max_pixels=1200)).pixels[
                0, 0, 0
            ],
        ):
            assert read() == 7
        assert Image.MAX_IMAGE_PIXELS == 500
    finally:
        Image.MAX_IMAGE_PIXELS = before


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (3, 2000)])
def test_thin_images_are_read(tmp_path, size):
    path = saved(tmp_path / "a.png", Image.new("RGB", size, (1, 2, 3)))
    assert (read_square(path, 12) == (1, 2, 3)).all()
    assert read_target(path, size=7, padding=0, background="none").pixels.max() == 255
    with pytest.raises(ValueError, match="of one colour"):
        read_sample(path, 16)


FOREIGN = {
    "photo.jpg": (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC .*heif-convert"),
    "photo.heic": (b"what", "HEIC .*heif-convert"),
    "drawing.png": (b"<?xml version='1.0'?>\n<svg width='3'/>", "SVG.*rsvg-convert"),
    "raw.nef": (tiff(levels((4, 4, 3)).astype(np.uint8)), "raw file; develop"),
    "page.jpg": (b"\n<!DOCTYPE html><p>404", "a web page"),
    "pointer.png": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "scan.dcm": (bytes(128) + b"DICM" + bytes(40), "DICOM"),
    "scan.nii.gz": (b"\x1f\x8b" + bytes(30), "NIfTI"),
    "array.npy": (b"\x93NUMPY" + bytes(30), "NumPy"),
    "double.tif": (tiff(np.zeros((3, 3, 1))), "TIFF of a kind"),
    "text.png": (b"words", "not an image"),
    "empty.png": (b"", "empty file"),
    "bomb.png": (png(np.zeros((2, 2, 3)), 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27)))), "too large"),
    "profile.png": (png(np.zeros((2, 2, 3)), 8, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**27)))), "too large"),
    "nothing.ppm": (b"P6 0 0 255\n", "nothing"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_image_gets_a_hint(tmp_path, name):
    data, said = FOREIGN[name]
    path = written(tmp_path / name, data)
    with pytest.raises(ImageError, match=said) as error:
        read_image(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_files_that_may_be_images_but_are_not_looked_for_are_named(tmp_path, capsys):
    folder = write_folders(tmp_path / "d")
    for name in ("bar/a.HEIC", "bar/b.heic", "disc/c.nef", "ring/notes.txt"):
        (folder / name).touch()
    assert len(list_images(folder)) == 18
    said = capsys.readouterr().out
    assert said.startswith(f"note: {folder}: files left out by their endings: 2 .heic, 1 .nef; convert them to PNG (")
    assert len(list_digits(folder / "bar")) == 6 and "2 .heic; convert" in capsys.readouterr().out


def test_names_that_cannot_be_files_are_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("pipe", "not a regular file"), ("x" * 300, "too long"), ("a\0b", "NUL"), (".", "is a folder")):
        with pytest.raises(ImageError, match=said):
            read_image(tmp_path / name)


def test_every_hint_ends_in_what_to_do():
    assert all(";" in text for name, text in vars(image_hints).items() if isinstance(text, str) and name.isupper())


def test_corrupt_exif_data_does_not_make_an_image_unreadable(tmp_path, capsys):
    image = by_mode()["RGB"]
    path = saved(tmp_path / "a.png", image, exif=b"Exif\0\0nothing of the kind")
    notes = Notes()
    np.testing.assert_array_equal(np.array(read_image(path, notes=notes)), np.array(image))
    assert notes.lines() == [
        f"note: {path}: its EXIF data is corrupt, so it is read as it is stored, perhaps not upright"
    ]


def test_a_corrupt_target_in_a_checkpoint_is_one_line():
    target = Target(np.full((3, 3, 4), 255, np.uint8), 1)
    assert np.array_equal(Target.from_text(target.to_text(), 1).pixels, target.pixels)
    for data in (claims(30000, 30000), claims(600, 2), png(levels((3, 3, 3)), 8), png(levels((3, 3, 4)), 8)[:60]):
        with pytest.raises(ValueError, match="its target") as error:
            Target.from_text(base64.b64encode(data).decode(), 1)
        assert "\n" not in str(error.value)


def test_one_bad_image_ends_neither_training_nor_evaluation_nor_prediction(tmp_path, capsys):
    folder = write_folders(tmp_path / "d")
    bad = [
        written(folder / CLASSES[0] / "slide.png", claims(20000, 20000)),
        written(folder / CLASSES[1] / "cut.png", png(levels((9, 9, 3)), 8)[:-30]),
        written(folder / CLASSES[2] / "float.tif", tiff(np.full((3, 3, 1), 300, np.float32))),
    ]
    done = train(tiny(folder, tmp_path / "run", epochs=1))
    assert sorted(line.split(": ")[0] for line in done.skipped) == sorted(map(str, bad))
    options = {"views": 1, "device": "cpu", "progress": False}
    scores = evaluate(EvaluateConfig(done.best, folder, output=tmp_path / "e", subset="all", **options))
    assert scores.count == 18 and len(scores.skipped) == 3
    found = predict(PredictConfig(done.best, folder, output=tmp_path / "p", pictures=0, **options))
    assert len(found.found) == 18 and len(found.skipped) == 3
    for path in bad:
        with pytest.raises(ImageError, match=path.name):
            animate(AnimateConfig(done.best, path, output=tmp_path / "f.gif", progress=False))


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
