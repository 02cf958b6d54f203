"""How images are read, the same in every task: upright, by the format's range, and what cannot be read is one line."""

from __future__ import annotations

import base64
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from cells import CLASSES, tiny, write_folders
from odd_images import by_mode, chunk, levels, oriented, png, tiff
from PIL import Image, ImageOps

from ncafast.tasks import image_hints
from ncafast.tasks.classification import AnimateConfig, EvaluateConfig, PredictConfig, animate, evaluate, predict, train
from ncafast.tasks.classification.images import read_image as read_square
from ncafast.tasks.growing.target import Target, read_target
from ncafast.tasks.image_files import check_pictures, list_images, picture_names
from ncafast.tasks.images import ImageError, Reading, read_image
from ncafast.tasks.selfclassify.images import ENDINGS, read_digit
from ncafast.tasks.texture.sample import read_sample


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def whole(path: Path, value_range: str = "format") -> np.ndarray:
    return np.array(read_image(path, Reading(value_range)))


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


def test_notes_name_the_first_image_and_say_each_thing_once(tmp_path, capsys):
    reading, image = Reading(), by_mode()["RGB"]
    for number in range(3):
        path = saved(tmp_path / f"{number}.gif", image, save_all=True, append_images=[image.rotate(90)])
        with Image.open(path) as file:
            np.testing.assert_array_equal(np.array(read_image(path, reading)), np.array(file.convert("RGB")))
    read_image(written(tmp_path / "i.tif", tiff(levels((3, 3, 1)).astype(np.int32))), reading)
    reading.notes.say()
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
    assert len(list_images(folder, ENDINGS)) == 18
    said = capsys.readouterr().out
    assert said.startswith(f"note: {folder}: files left out by their endings: 2 .heic, 1 .nef; convert them to PNG (")
    assert len(list_images(folder / "bar", ENDINGS, deep=False)) == 6 and "2 .heic; convert" in capsys.readouterr().out


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
    reading = Reading()
    np.testing.assert_array_equal(np.array(read_image(path, reading)), np.array(image))
    reading.notes.say()
    said = f"note: {path}: its EXIF data is corrupt, so it is read as it is stored, perhaps not upright\n"
    assert capsys.readouterr().out == said


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


def test_pictures_are_called_like_their_images(tmp_path):
    folder = tmp_path
    files = [folder / name for name in ("a.png", "b.jpg", "b.tif", "c.d.webp", "deep/a.gif", "B.bmp")]
    names = [str(name) for name in picture_names(files, folder).values()]
    assert names == ["a.png", "b.jpg.png", "b.tif.png", "c.d.png", str(Path("deep/a.png")), "B.bmp.png"]
    clash = [folder / name for name in ("a.png", "a.jpg", "a.jpg.gif")]  # the last one's stem is the others' whole name
    assert [str(name) for name in picture_names(clash, folder).values()] == ["a.png.png", "a.jpg.png", "a.jpg.gif.png"]


def test_a_picture_never_takes_the_place_of_its_image(tmp_path):
    image = tmp_path / "a.png"
    image.write_bytes(png(levels((3, 4, 3), 3, 255).astype(np.uint8)))
    (tmp_path / "link").symlink_to(tmp_path)
    for written in (image, tmp_path / "link" / "a.png"):
        with pytest.raises(ValueError, match="would replace the image itself; give another folder"):
            check_pictures([tmp_path / "b.png", written], [image], overwrite=True)
    check_pictures([tmp_path / "b.png"], [image], overwrite=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no such device here")
def test_a_device_is_not_called_a_file_that_is_missing(tmp_path):
    with pytest.raises(ImageError, match="/dev/full: is a device or a pipe, not a regular file; give an image"):
        list_images(Path("/dev/full"), ENDINGS)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ImageError, match="is a link to .*nowhere, which does not exist"):
        list_images(tmp_path / "gone", ENDINGS)
