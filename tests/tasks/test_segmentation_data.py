"""Pairs of images and masks: layouts, what a pixel of a mask means in every mode, and files that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from blobs import blob, tiny, write_folders
from odd_images import by_mode, corrupt, files
from PIL import Image

from ncafast.tasks.image_labels import read_label_map
from ncafast.tasks.images import ImageError, Reading
from ncafast.tasks.segmentation.data import Sample, load
from ncafast.tasks.segmentation.pairs import find_pairs
from ncafast.tasks.segmentation.recipe import Recipe, parse_classes


def load_sides(config) -> tuple[list[Sample], list[Sample], list[str]]:
    """Training and held-out samples, and what was left out."""
    (train, held_out, skipped), _ = load(config)
    return list(train), list(held_out), list(skipped)


MASK = np.array([[0, 1, 1], [0, 2, 0]], np.uint8)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(config) -> list[tuple[str, str, str]]:
    return [(pair.name, pair.image.name, pair.target.name) for pair in find_pairs(config).pairs]


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (("images/a.jpg", "masks/a.png"), [("a", "a.jpg", "a.png")]),
        (("images/x/a.jpg", "images/y/a.jpg", "labels/x/a.png", "labels/y/a_mask.png"), [("x/a",), ("y/a",)]),
        (("a_image.tif", "a_mask.png", "b.bmp", "b-seg.png"), [("a",), ("b", "b.bmp", "b-seg.png")]),
        (("imagesTr/1.png", "labelsTr/1.png"), [("1",)]),
    ],
)
def test_layouts(tmp_path, there, found):
    read = names(tiny(touch(tmp_path, *there), tmp_path))
    assert [one[: len(want)] for one, want in zip(read, found, strict=True)] == found


def test_files_without_a_partner_are_named(tmp_path):
    touch(tmp_path, "images/a.png", "images/b.png", "images/c.jpg", "images/c.png", "masks/a.png", "masks/c.png")
    touch(tmp_path, "masks/d.png")
    found = find_pairs(tiny(tmp_path, tmp_path))
    assert [pair.name for pair in found.pairs] == ["a"]
    assert [line.removeprefix(f"{tmp_path}/") for line in found.skipped] == [
        "images/b.png: has no mask of the same name; add it or take this away",
        "images/c.jpg: several files share one name (c.jpg, c.png, c.png); keep two",
        "masks/d.png: is a mask without an image of the same name; add it or take this away",
    ]
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="masks: holds no image"):
        find_pairs(tiny(tmp_path, tmp_path))
    touch(tmp_path, "masks/z.png")
    with pytest.raises(ValueError, match="no mask has the name of an image"):
        find_pairs(tiny(tmp_path, tmp_path))


def test_a_csv_list_says_what_is_held_out(tmp_path):
    write_folders(tmp_path, 6)
    rows = [f"images/{n}.png,masks/{n}.png,{part}" for n, part in enumerate(["", "val", "test", "train", "Valid", ""])]
    (tmp_path / "list.csv").write_text("\n".join(["Image,Mask,split", *rows, "images/9.png,,"]))
    train, held_out, skipped = load_sides(tiny(tmp_path / "list.csv", tmp_path / "run"))
    assert [sample.name for sample in held_out] == ["images/1.png", "images/4.png"]
    assert [sample.name for sample in train] == ["images/0.png", "images/3.png", "images/5.png"]
    assert skipped == [f"{tmp_path / 'list.csv'}, line 8: has no Mask; fill it in"]
    (tmp_path / "own.txt").write_text("images/0.png\n")
    train, held_out, _ = load_sides(tiny(tmp_path / "list.csv", tmp_path / "run", val_list=tmp_path / "own.txt"))
    assert len(held_out) == 1 and len(train) == 4
    for text, said in (("a,b\n1,2", "has a, b; give its first line"), ("image,mask,split\na,b,x", "its split is 'x'")):
        (tmp_path / "list.csv").write_text(text)
        with pytest.raises(ValueError, match=said):
            load_sides(tiny(tmp_path / "list.csv", tmp_path / "run"))


def palette(values: np.ndarray) -> Image.Image:
    image = Image.fromarray(values, "P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    return image


def on_nothing(values: np.ndarray) -> Image.Image:
    """White where there is a label, and white but transparent elsewhere."""
    return Image.fromarray(np.stack([np.full_like(values, 255)] * 3 + [255 * (values > 0).astype(np.uint8)], -1))


RGB = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)
FORMS = {
    "grey": (lambda: Image.fromarray(MASK), "numbers"),
    "palette": (lambda: palette(MASK), "numbers"),
    "palette's colours": (lambda: palette(MASK), "colours"),
    "16 bits": (lambda: Image.fromarray(300 * MASK.astype(np.uint16)), "16"),
    "32 bits": (lambda: Image.fromarray(300 * MASK.astype(np.int32)), "16"),
    "float": (lambda: Image.fromarray(MASK.astype(np.float32)), "numbers"),
    "grey as RGB": (lambda: Image.fromarray(MASK).convert("RGB"), "numbers"),
    "grey with alpha": (lambda: Image.fromarray(MASK).convert("LA"), "numbers"),
    "colours": (lambda: Image.fromarray(RGB[MASK]), "colours"),
    "colours with alpha": (lambda: Image.fromarray(RGB[MASK]).convert("RGBA"), "colours"),
}
CLASSES = {"numbers": ("a=1", "b=2"), "16": ("a=300", "b=600"), "colours": ("a=#ff0000", "b=#00FF00")}


@pytest.mark.parametrize("form", FORMS)
def test_masks_in_every_form(tmp_path, form):
    make, kind = FORMS[form]
    path = tmp_path / ("a.tif" if form in ("float", "32 bits") else "a.png")
    make().save(path)
    found, others = Recipe.of(CLASSES[kind], None).read_mask(path, Reading())
    assert found.tolist() == MASK.tolist() and not others
    only, others = Recipe.of(CLASSES[kind][:1], None).read_mask(path, Reading())
    assert only.tolist() == (MASK == 1).tolist() and others == [parse_classes(CLASSES[kind][1:])[1][0]]
    binary, _ = Recipe.of((), None).read_mask(path, Reading())
    assert binary.tolist() == (MASK > 0).tolist()


def test_masks_of_one_class(tmp_path, capsys):
    reading, recipe = Reading(), Recipe.of((), None)
    forms = {"bits.png": Image.fromarray(MASK > 0), "on_nothing.png": on_nothing(MASK)}
    forms |= {"black.png": Image.fromarray(255 * (MASK > 0).astype(np.uint8))}
    for name, image in forms.items():
        image.save(tmp_path / name)
        assert recipe.read_mask(tmp_path / name, reading)[0].tolist() == (MASK > 0).tolist(), name
    reading.notes.say()
    assert capsys.readouterr().out == ""
    Image.fromarray(MASK).save(tmp_path / "two.png")
    large = np.kron(255 * (MASK > 0), np.ones((16, 16))).astype(np.uint8)
    Image.fromarray(large).save(tmp_path / "blurred.jpg", quality=60)
    assert recipe.read_mask(tmp_path / "two.png", reading)[0].tolist() == (MASK > 0).tolist()
    assert (recipe.read_mask(tmp_path / "blurred.jpg", reading)[0] == (large > 0)).all()
    reading.notes.say()
    said = capsys.readouterr().out
    assert "two.png: several labels, merged into one class (--classes tells them apart)" in said
    assert "blurred.jpg: a JPEG label map, of which what is brighter than 127 is labelled" in said


def test_predicted_masks_are_read_as_the_same_classes(tmp_path):
    for words in ((), *CLASSES.values()):
        recipe = Recipe.of(words, None)
        numbers = MASK if words else (MASK > 0).astype(np.uint8)
        Image.fromarray(recipe.mask(numbers)).save(tmp_path / "a.png")
        assert recipe.read_mask(tmp_path / "a.png", Reading())[0].tolist() == numbers.tolist()
        assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("image", "words", "said"),
    [
        (lambda: Image.fromarray(RGB[MASK]), CLASSES["numbers"], "holds colours, and numbers are expected"),
        (lambda: Image.fromarray(300 * MASK.astype(np.uint16)), CLASSES["colours"], "more than 8 bits, and colours"),
        (lambda: Image.fromarray(MASK.astype(np.float32) / 2), CLASSES["numbers"], "numbers that are not whole"),
        (lambda: Image.fromarray(RGB[MASK]).convert("CMYK"), CLASSES["numbers"], "is of mode CMYK"),
    ],
)
def test_masks_of_another_kind_are_named(tmp_path, image, words, said):
    image().save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=f"a.tif: .*{said}"):
        Recipe.of(words, None).read_mask(tmp_path / "a.tif", Reading())


def test_bad_files_of_a_set_are_skipped_with_a_line_each(tmp_path, capsys):
    write_folders(tmp_path, 6)
    Image.fromarray(blob(0)[1][:5]).save(tmp_path / "masks" / "0.png")
    (tmp_path / "masks" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "images" / "2.png").write_bytes(b"")
    train, held_out, skipped = load_sides(tiny(tmp_path, tmp_path / "run"))
    assert len(skipped) == 3 and len(train) + len(held_out) == 3
    said = capsys.readouterr().out
    sizes = "masks/0.png: has 22 x 5 pixels, and its image 22 x 18; give a mask of the image's size"
    for line in (sizes, "masks/1.png: is ", "images/2.png: is an empty file"):
        assert f"skipped: {tmp_path}/{line}" in said


def test_an_image_turned_by_exif_keeps_its_mask(tmp_path):
    image, labels = blob(1)
    for folder, array in (("images", image), ("masks", 100 * labels)):
        (tmp_path / folder).mkdir()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(array).save(tmp_path / folder / "a.png", exif=exif)
    config = tiny(tmp_path, tmp_path / "run", val_fraction=0.0)
    (sample,), _, _ = load_sides(config)
    assert np.array_equal(sample.labels, np.rot90(labels, -1)) and sample.pixels.shape[:2] == labels.shape[::-1]


def test_every_mode_and_corrupt_masks_are_read_or_one_line(tmp_path):
    random, good = np.random.default_rng(3), list(files())
    for mode, image in by_mode().items():
        path = tmp_path / "a.tif"
        if mode in ("HSV", "F"):  # no TIFF has the one, the other's numbers are not whole
            continue
        image.save(path)
        assert read_label_map(path, "binary", Reading()).shape == (7, 9), mode
    read = refused = 0
    for number in range(240):
        name, data = good[(7 * number) % len(good)]
        path = tmp_path / f"{number}.{name}"
        path.write_bytes(corrupt(data, random))
        try:
            found = read_label_map(path, ("binary", "numbers", "colours")[number % 3], Reading(max_pixels=400_000))
        except ImageError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        else:
            read += 1
            assert found.ndim == (3 if number % 3 == 2 else 2)
    assert min(read, refused) > 30
