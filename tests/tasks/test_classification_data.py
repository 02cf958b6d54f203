"""Classification's input: every source gives the same images, and what cannot be used is named."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from cells import CLASSES, cell, pixels, tiny, write_folders, write_npz
from PIL import Image

from ncafast.tasks.classification import augment, sources, train
from ncafast.tasks.classification.classes import describe
from ncafast.tasks.classification.data import load_sides, read_items, split_items
from ncafast.tasks.classification.images import read_image
from ncafast.tasks.classification.recipe import Recipe
from ncafast.tasks.classification.sources import MATEK_CLASSES, open_source
from ncafast.tasks.images import ImageError

DATA = Path(os.environ.get("NCAFAST_DATA", "no data")) / "blood_pbc"


def read(source: sources.Source, size: int = 12) -> dict[str, tuple[str, bytes]]:
    images, skipped = read_items(source.items, source.classes, size)
    assert not skipped
    labels = [source.classes[k] for k in images.labels.tolist()]
    own = zip(images.names, labels, images.pixels.numpy(), strict=True)
    return {name: (label, image.tobytes()) for name, label, image in own}


def test_folders_lists_and_npz_files_hold_the_same(tmp_path):
    folder = write_folders(tmp_path / "folders")
    found = open_source(folder)
    assert found.classes == CLASSES
    expected = {f"{name}/{n}.png": (name, cell(k, n).tobytes()) for k, name in enumerate(CLASSES) for n in range(6)}
    assert read(found) == expected
    lines = [f"{name},{label},x" for name, (label, _) in expected.items()]
    (folder / "list.csv").write_text("\n".join(["Image,Label,other", *lines, lines[0], ""]))
    assert read(open_source(folder / "list.csv")) == expected
    images, labels = pixels(4)
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=labels[:, None], classes=np.array(CLASSES))
    found = open_source(tmp_path / "a.npz")
    assert [item.label for item in found.items] == [CLASSES[k] for k in labels]
    assert [own for _, own in read(found).values()] == [image.tobytes() for image in images]
    np.savez(tmp_path / "grey.npz", train_images=images[..., 0] / 255, train_labels=labels)
    found = open_source(tmp_path / "grey.npz")
    assert found.classes == ("0", "1", "2")
    assert next(iter(read(found).values()))[1] == np.repeat(images[0][..., :1], 3, axis=2).tobytes()


def test_matek_codes_in_file_names(tmp_path):
    codes = {"BAS_0001.png": "basophil", "x_PMB.png": "promyelocyte", "PMO_3.png": "promyelocyte"}
    codes |= {"MOB.png": "monocyte", "NGS_1.png": "neutrophil_segmented", "KSC_9.png": "smudge_cell"}
    for number, name in enumerate((*codes, "unknown.png")):
        path = tmp_path / "deep" / str(number % 2) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(cell(0, number)).save(path)
    found = open_source(tmp_path, "matek19")
    assert found.classes == MATEK_CLASSES and len(MATEK_CLASSES) == 13
    assert {Path(item.name).name: item.label for item in found.items} == codes
    assert len(found.skipped) == 1 and "unknown.png: its name has none of the codes BAS" in found.skipped[0]


def test_numbers_sort_as_numbers_in_a_list(tmp_path):
    (tmp_path / "l.csv").write_text("file,class\n" + "".join(f"{n}.png,grade {n}\n" for n in (10, 9, 2)))
    assert open_source(tmp_path / "l.csv").classes == ("grade 2", "grade 9", "grade 10")


def test_every_kind_of_picture_becomes_rgb(tmp_path):
    own = cell(1, 0)
    Image.fromarray(own).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 12), own)
    grey = np.arange(144, dtype=np.uint16).reshape(12, 12) * 400
    Image.fromarray(grey).save(tmp_path / "deep.tif")
    found = read_image(tmp_path / "deep.tif", 12)
    np.testing.assert_array_equal(found, (grey / 65535 * 255).round().astype(np.uint8)[..., None].repeat(3, 2))
    see_through = np.dstack([own, np.zeros((12, 12), np.uint8)])
    Image.fromarray(see_through).save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "clear.png", 12) == 255).all()
    assert read_image(tmp_path / "a.png", 5).shape == (5, 5, 3)


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "nan"])
def test_a_bad_image_is_named_and_the_others_are_used(tmp_path, capsys, kind):
    folder = write_folders(tmp_path / "d")
    path = folder / "disc" / "0.png"
    if kind == "nan":
        path = path.with_name("x.tif")
        Image.fromarray(np.full((12, 12), np.nan, np.float32)).save(path)
    else:
        path.write_bytes({"empty": b"", "text": b"no image", "truncated": path.read_bytes()[:200]}[kind])
    said = {"empty": "an empty file", "text": "not an image", "truncated": "corrupt or incomplete", "nan": "NaN"}[kind]
    with pytest.raises(ImageError, match=said) as error:
        read_image(path, 12)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    result = train(tiny(folder, tmp_path / "run", epochs=1))
    assert len(result.skipped) == 1 and str(path) in result.skipped[0]
    assert f"skipped: {path}" in capsys.readouterr().out


def _npz(**changes):
    def write(path: Path) -> None:
        images, labels = pixels(4)
        content = {"train_images": images, "train_labels": labels} | changes
        np.savez(path, **{name: value for name, value in content.items() if value is not None})

    return write


BAD_FILES = {
    "junk": (lambda path: path.write_bytes(b"PK junk"), "no readable .npz file"),
    "pickled": (_npz(train_labels=np.array([{}] * 12, object)), "no readable .npz file"),
    "no images": (_npz(train_images=None), "train_images and train_labels are needed"),
    "no labels": (_npz(train_labels=None), "train_images without train_labels"),
    "fewer labels": (_npz(train_labels=np.zeros(5, int)), r"train_labels has shape \[5\] for 12 images"),
    "several labels": (_npz(train_labels=np.zeros((12, 3), int)), "one whole number per image"),
    "half labels": (_npz(train_labels=np.full(12, 0.5)), "train_labels are float64; whole numbers from 0 are needed"),
    "negative": (_npz(train_labels=np.arange(12) - 1), "train_labels holds the label -1; labels count from 0"),
    "nan": (_npz(train_images=np.full((12, 5, 5), np.nan)), "train_images holds NaN"),
    "large": (_npz(train_images=np.full((12, 5, 5), 7.0)), "values outside 0 to 1"),
    "volumes": (_npz(train_images=np.zeros((12, 5, 5, 5, 3), np.uint8)), r"shape \[12, 5, 5, 5, 3\]"),
    "int16": (_npz(train_images=np.zeros((12, 5, 5), np.int16)), "train_images is int16"),
    "far label": (_npz(train_labels=np.arange(12) * 10**6), "holds the label 11000000, but only 12 images"),
    "classes": (_npz(classes=np.array(["a"])), "a label is 2, but classes names only 1"),
    "one class": (_npz(train_labels=np.zeros(12, int)), "all training images are of the class '0'"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_npz_files_are_one_line(tmp_path, kind):
    write, said = BAD_FILES[kind]
    path = tmp_path / "d.npz"
    write(path)
    with pytest.raises(ValueError, match=said) as error:
        train(tiny(path, tmp_path / "run"))
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no column; give its first line a column named file or path or image"),
        ("file,grade\na.png,1\n", "a column named label or class or target"),
        ("file,label\n", "has no column"),
        ("file,label\na.png,1\na.png,2\n", "line 3: a.png is '2' here, '1' above"),
        ("file,label\n,1\n", "names no image"),
    ],
)
def test_bad_lists_are_one_line(tmp_path, text, said):
    path = tmp_path / "l.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        open_source(path)
    assert str(path) in str(error.value)


def test_files_that_a_list_names_but_are_not_there(tmp_path):
    (tmp_path / "l.csv").write_text("file,label\nno.png,1\nnot.png,2\n")
    with pytest.raises(ValueError, match="none of its 2 images can be used"):
        train(tiny(tmp_path / "l.csv", tmp_path / "run", val_fraction=0.0))


def test_folders_that_hold_nothing_are_named(tmp_path):
    (tmp_path / "a").mkdir()
    for data, said in (
        (tmp_path / "none", "does not exist"),
        (tmp_path / "a", "holds no image"),
        (None, "give --data"),
    ):
        with pytest.raises(ValueError, match=said):
            train(tiny(data, tmp_path / "run"))
    Image.fromarray(cell(0, 0)).save(tmp_path / "a" / "lonely.png")
    with pytest.raises(ValueError, match="has no folder with images; make one per class, or give --naming matek19"):
        train(tiny(tmp_path / "a", tmp_path / "run"))
    with pytest.raises(ValueError, match="no file name has a code"):
        train(tiny(tmp_path / "a", tmp_path / "run", naming="matek19"))


def test_every_class_is_held_out_in_the_same_part(tmp_path):
    items = open_source(write_folders(tmp_path, count=10)).items[:25]  # 10, 10 and 5
    train_items, held = split_items(items, 0.2, seed=1)
    assert {name: sum(item.label == name for item in held) for name in CLASSES} == {"bar": 2, "disc": 2, "ring": 1}
    assert sorted(item.name for item in (*train_items, *held)) == sorted(item.name for item in items)
    assert split_items(items[::-1], 0.2, seed=1)[1] == held[::-1]
    assert split_items(items, 0.2, seed=2)[1] != held
    assert split_items(items, 0.0, seed=1)[1] == []


def test_held_out_images_as_the_source_says_or_of_their_own(tmp_path):
    path = write_npz(tmp_path / "d.npz", train=4, val=2, test=1)
    sides = load_sides(tiny(path, tmp_path / "run"))
    assert (len(sides.train), len(sides.held_out)) == (12, 6)
    np.testing.assert_array_equal(sides.held_out.pixels.numpy(), pixels(2, 100)[0])
    other = write_npz(tmp_path / "e.npz", train=1, val=3, test=2)
    sides = load_sides(dataclasses.replace(tiny(path, tmp_path / "run"), val_data=other))
    assert (len(sides.train), len(sides.held_out)) == (12, 15)
    np.savez(tmp_path / "f.npz", test_images=pixels(2)[0], test_labels=np.arange(6))
    with pytest.raises(ValueError, match="has the class '3', which .*d.npz has not"):
        load_sides(dataclasses.replace(tiny(path, tmp_path / "run"), val_data=tmp_path / "f.npz"))


def test_images_of_one_colour_are_remarked_upon(tmp_path, capsys):
    folder = write_folders(tmp_path / "data", count=4)
    Image.new("RGB", (9, 9), "navy").save(folder / "bar" / "a blank one.png")
    load_sides(dataclasses.replace(tiny(folder, tmp_path / "run"), val_fraction=0.0))
    assert "note: 1 of 13 images are of one colour, bar/a blank one.png first; are these" in capsys.readouterr().out


def test_classes_without_training_images_are_named(tmp_path, capsys):
    images, labels = pixels(2)
    np.savez(tmp_path / "d.npz", train_images=images, train_labels=labels + 1, val_images=images, val_labels=labels + 2)
    load_sides(tiny(tmp_path / "d.npz", tmp_path / "run"))
    said = "note: 2 of 5 classes have no training image and cannot be learnt: 0, 4"
    assert said in capsys.readouterr().out


def place(folder: Path, *names: str) -> Path:
    """An image under each of these names; its class is of no matter."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(cell(number % 3, number)).save(path)
    return folder


def many(folder: Path, *classes: str, count: int = 2) -> Path:
    return place(folder, *(f"{name}/{number}.png" for name in classes for number in range(count)))


def parts_of(source: sources.Source) -> dict[str, tuple[str, str]]:
    return {item.name: (item.label, item.part) for item in source.items}


@pytest.mark.parametrize("names", ["train val test", "Training Validation Testing", "TRAIN valid TEST"])
def test_folders_named_train_val_and_test_are_parts(tmp_path, capsys, names):
    own = names.split()
    folder = many(tmp_path / "d", *(f"{part}/{name}" for part in own for name in ("cat", "dog")))
    source = open_source(folder)
    assert source.classes == ("cat", "dog")
    wanted = dict(zip(own, ("train", "val", "test"), strict=True))
    expected = {f"{p}/{c}/{n}.png": (c, wanted[p]) for p in own for c in ("cat", "dog") for n in range(2)}
    assert parts_of(source) == expected
    sides = load_sides(tiny(folder, tmp_path / "run"))
    assert set(sides.train.names) == {name for name, (_, part) in expected.items() if part == "train"}
    assert set(sides.held_out.names) == {name for name, (_, part) in expected.items() if part == "val"}
    said = capsys.readouterr().out
    assert f"in {folder} are parts, not classes: train (4 images), val (4 images), test (4 images)" in said
    assert "2 classes, with images of each: cat (4), dog (4)\n" in said


def test_without_a_part_to_hold_out_some_of_each_class_are(tmp_path):
    folder = many(tmp_path / "d", "train/cat", "train/dog", "test/cat", "test/dog", count=5)
    sides = load_sides(tiny(folder, tmp_path / "run"))
    assert (len(sides.train), len(sides.held_out)) == (8, 2)
    assert all(name.startswith("train/") for name in (*sides.train.names, *sides.held_out.names))


@pytest.mark.parametrize("below", ["", "train/"])
def test_one_folder_around_the_classes_is_looked_through(tmp_path, below):
    folder = many(tmp_path / "d", f"dataset/{below}cat", f"dataset/{below}dog")
    (folder / "__MACOSX" / "dataset" / "cat").mkdir(parents=True)
    Image.fromarray(cell(0, 0)).save(folder / "__MACOSX" / "dataset" / "cat" / "x.png")
    many(folder, ".ipynb_checkpoints/cat")
    source = open_source(folder)
    assert source.classes == ("cat", "dog") and len(source.items) == 4 and not source.skipped
    assert source.notes[0].startswith(f"{folder / 'dataset'} is the only folder in {folder} with images")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("train/cat/1 val/cat/1 extra/1", "holds the parts train, val with class folders, and beside them extra"),
        ("train/cat/1 val/1", "holds the parts train with class folders, and beside them val .*val/1.png"),
        ("train/1 val/1", "its folders train, val are parts, and hold images outside any class folder .*train/1.png"),
        (
            "a/cat/1 b/cat/1",
            "a: holds folders and no image of its own .*a/cat/1.png first.; classes are the folders right",
        ),
        ("x/y/cat/1 x/y/dog/1", "y: holds folders and no image of its own .*x/y/cat/1.png first"),
        ("train/a/cat/1 train/b/cat/1", "a: holds folders and no image of its own"),
        ("cat/1 cat/2 dog/poodle/1", "dog: holds folders and no image of its own .*dog/poodle/1.png first"),
    ],
)
def test_folders_that_may_mean_anything_are_refused_with_an_example(tmp_path, names, said):
    folder = place(tmp_path / "d", *(f"{name}.png" for name in names.split()))
    with pytest.raises(ValueError, match=said) as error:
        open_source(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_a_class_called_train_among_others_is_a_class(tmp_path):
    source = open_source(many(tmp_path / "d", "bus", "car", "train"))
    assert source.classes == ("bus", "car", "train") and not source.notes
    assert {part for _, part in parts_of(source).values()} == {""}


def test_what_lies_elsewhere_is_named(tmp_path):
    folder = many(tmp_path / "d", "train/cat", "train/dog", "val/cat", "val/dog")
    place(folder, "a.png", "train/b.png", "train/cat/more/c.png", "test/1.png", "test/2.png")
    (folder / "train" / "empty").mkdir()
    source = open_source(folder)
    assert f"1 images lie in folders inside class folders; {folder}/train/cat/more/c.png counts as 'cat'" in (
        source.notes
    )
    assert [reason.removeprefix(f"{folder}/").split(":")[0] for reason in source.skipped] == [
        "a.png", "test", "train/b.png", "train/empty"
    ]  # fmt: skip
    assert "its 2 images lie in no class folder" in source.skipped[1]
    assert source.classes == ("cat", "dog") and len(source.items) == 9


def test_classes_of_one_part_alone_are_named(tmp_path, capsys):
    folder = many(
        tmp_path / "d", "train/cat", "train/dog", "train/fox", "val/cat", "val/dog", "val/hen", "test/unknown"
    )
    sides = load_sides(tiny(folder, tmp_path / "run"))
    said = capsys.readouterr().out
    assert sides.classes == ("cat", "dog", "fox", "hen")
    assert "note: 1 of 4 classes have no training image and cannot be learnt: hen" in said
    assert "note: 1 of 4 classes have no held-out image and are not measured: fox" in said
    assert f"note: unknown in {folder} have only test images, so they are no classes to learn" in said


def test_a_link_to_a_folder_is_a_class_like_any_other(tmp_path):
    folder = many(tmp_path / "d", "cat")
    many(tmp_path / "elsewhere", "hounds")
    (folder / "dog").symlink_to(tmp_path / "elsewhere" / "hounds")
    (folder / "cat" / "loop").symlink_to(folder)
    source = open_source(folder)
    assert parts_of(source) == {f"{c}/{n}.png": (c, "") for c in ("cat", "dog") for n in range(2)}


@pytest.mark.parametrize(
    ("classes", "counts", "lines"),
    [
        (("cat", "dog"), (3, 4), ["2 classes, with images of each: cat (3), dog (4)"]),
        (
            tuple(f"c{n:02}" for n in range(10)),
            (9, 9, 9, 9, 9, 9, 9, 9, 2, 7),
            [
                "10 classes, with images of each: "
                + ", ".join(f"c0{n} (9)" for n in range(8))
                + ", and 2 more (2 to 7 each)"
            ],
        ),
        (
            ("images", "Masks"),
            (3, 3),
            ["warning: the classes are called images and Masks, like the folders of a data set"],
        ),
        (("a", "b"), (1, 3), ["warning: 1 class has fewer than two images: a"]),
        (("Cat", "cat", " cat "), (3, 3, 3), ["warning: 'Cat' and 'cat' and ' cat ' differ only in case or spaces"]),
        (("caf\u00e9", "cafe\u0301"), (3, 3), ["warning: 'caf\u00e9' and 'cafe\u0301' differ only in case or spaces"]),
        (("x" * 40, "y"), (3, 3), ["2 classes, with images of each: xxxxxxxxxxxxxxxxxxxxx... (3), y (3)"]),
    ],
)
def test_what_is_said_of_a_list_of_classes(classes, counts, lines):
    found = describe(classes, [name for name, count in zip(classes, counts, strict=True) for _ in range(count)])
    assert found[-1].startswith(lines[0]) and len(found) == 1 + lines[0].startswith("warning")


def test_parts_have_these_names_in_every_form_of_data(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("file,label,split\na.png,1,Training\nb.png,1,validation\nc.png,2, TEST \nd.png,2,\n")
    assert [item.part for item in open_source(path).items] == ["train", "val", "test", ""]
    path.write_text("file,label,split\na.png,1,dev\n")
    with pytest.raises(ValueError, match="l.csv, line 2: its split is 'dev'; give one of train, training, val, valid"):
        open_source(path)
    images, labels = pixels(2)
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=labels, valid_images=images, valid_labels=labels)
    assert [item.part for item in open_source(tmp_path / "a.npz").items] == ["train"] * 6 + ["val"] * 6
    np.savez(tmp_path / "b.npz", val_images=images, val_labels=labels, valid_images=images, valid_labels=labels)
    with pytest.raises(ValueError, match="has val_images and valid_images, which are the same part; keep one"):
        open_source(tmp_path / "b.npz")
    source = open_source(place(tmp_path / "m", "train/BAS_1.png", "Val/x/EBO_1.png", "EOS.png"), "matek19")
    assert sorted(item.part for item in source.items) == ["", "train", "val"]
    assert source.notes == (f"Val, train in {tmp_path / 'm'} are parts, not classes: train (1 images), val (1 images)",)


def test_colours_are_scaled_by_the_training_set():
    images = torch.from_numpy(pixels(6)[0])
    recipe = Recipe.of(CLASSES, images, 4)
    scaled = recipe.scaled(images)
    assert scaled.shape == (18, 3, 12, 12)
    torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)
    assert Recipe.from_json(recipe.to_json()) == recipe
    for changes in ({"mean": [0, 0]}, {"std": [0, 1, 1]}, {"size": "x"}, {"more": 1}, {"classes": [1]}):
        with pytest.raises((ValueError, TypeError)):
            Recipe.from_json(json.dumps(json.loads(recipe.to_json()) | changes))


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_quarter_turns_and_mirror_images_are_the_eight_views():
    image = torch.rand(1, 3, 5, 5)
    eight = {view.numpy().tobytes() for view in augment.views(image, 8)}
    assert len(eight) == 8
    found = {augment.vary(image, "quarter", 0.0, random(seed)).numpy().tobytes() for seed in range(80)}
    assert found == eight
    assert torch.equal(augment.vary(image, "none", 0.0, random(0)), image)


def test_jitter_changes_brightness_and_contrast_of_each_colour():
    images = torch.rand(2000, 3, 2, 2)
    found = augment.vary(images, "none", 0.1, random(0))
    contrast = (found[:, :, 0, 0] - found[:, :, 0, 1]) / (images[:, :, 0, 0] - images[:, :, 0, 1])
    brightness = found[:, :, 0, 0] - contrast * images[:, :, 0, 0]
    torch.testing.assert_close(found[:, :, 1, 1], contrast * images[:, :, 1, 1] + brightness, atol=1e-3, rtol=1e-3)
    assert contrast.mean().item() == pytest.approx(1, abs=0.01) and contrast.std().item() == pytest.approx(
        0.1, abs=0.01
    )
    assert brightness.std().item() == pytest.approx(0.1, abs=0.01)


@pytest.mark.skipif(augment.rotation_reason() is not None, reason=f"torchvision: {augment.rotation_reason()}")
def test_torchvision_turns_by_the_drawn_angle():
    turned = augment.vary(torch.ones(400, 3, 9, 9), "rotate", 0.0, random(0))
    assert turned.shape == (400, 3, 9, 9)
    assert (turned[:, :, 4, 4] - 1).abs().max() < 1e-4  # the middle stays
    share = (turned[:, 0, 0, 0] < 0.5).float().mean()
    assert 0.3 < share < 0.9  # corners come from outside, unless the angle is near a quarter turn
    assert augment.resolve("auto") == "rotate"


def test_without_torchvision_quarter_turns_are_left_and_it_is_said(monkeypatch, capsys):
    def fail():
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(augment, "_torchvision", fail)
    assert augment.resolve("auto") == "quarter"
    assert "torchvision::nms does not exist), so training images are turned by quarter turns" in capsys.readouterr().out
    with pytest.raises(ValueError, match="augment=rotate needs torchvision .*--augment quarter"):
        augment.resolve("rotate")


@pytest.mark.skipif(not DATA.is_dir(), reason="$NCAFAST_DATA/blood_pbc is absent")
def test_the_real_cells_are_read():
    found = open_source(DATA / "jpg")
    assert len(found.classes) == 12 and len(found.items) == 96
    images, skipped = read_items(found.items[::16], found.classes, 32)
    assert not skipped and images.pixels.shape == (6, 32, 32, 3)
    cells = open_source(DATA / "pbc64_dev.npz")
    assert cells.classes[0] == "basophil" and len(cells.classes) == 8
    assert [sum(item.part == part for item in cells.items) for part in ("train", "val")] == [1600, 400]
