"""Med-NCA's slices: normalising, caching, splitting by volume, order, augmentation and padding."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from nifti import affine_of, blob, write, write_set

from ncafast.nifti import VolumeError
from ncafast.tasks.mednca import TrainConfig
from ncafast.tasks.mednca.batches import TrainingData
from ncafast.tasks.mednca.cache import prepare
from ncafast.tasks.mednca.data import doubts, load_volumes, recipe_for, require_classes, split_volumes
from ncafast.tasks.mednca.inference import groups
from ncafast.tasks.mednca.layouts import Dataset
from ncafast.tasks.mednca.pairs import Pair, find_pairs
from ncafast.tasks.mednca.slices import Recipe, sharpest_axis
from ncafast.tasks.planes import augment, collate
from ncafast.train import Job
from ncafast.utils.option_checks import check_options
from ncafast.utils.seeds import generator, mix

NAMES = [f"case_{number:02}" for number in range(20)]


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    write_set(tmp_path, 3)
    return find_pairs(tmp_path / "imagesTr", tmp_path / "labelsTr")[0]


def test_percentiles_of_nonzero_voxels_become_0_and_1():
    values = np.zeros(300, np.float32)
    values[:101] = np.arange(1000, 1101)  # percentile p of these is 1000 + p
    data = values.reshape(1, 5, 6, 10)
    scaled = Recipe("axial", percentiles=(10.0, 90.0)).image_slices(data)
    assert scaled.shape == (10, 1, 5, 6)
    assert scaled.dtype == np.float16
    expected = np.clip((values - 1010) / 80, 0, 1).reshape(5, 6, 10)
    np.testing.assert_allclose(np.moveaxis(scaled[:, 0], 0, -1), expected, atol=1e-3)


def test_each_channel_is_scaled_alone_and_a_flat_one_becomes_0():
    ramp = np.linspace(1, 2, 60, dtype=np.float32).reshape(3, 4, 5)
    data = np.stack([ramp, ramp * 1e6, np.full_like(ramp, 7), np.zeros_like(ramp)])
    scaled = Recipe("sagittal").image_slices(data)
    np.testing.assert_allclose(scaled[:, 0], scaled[:, 1], atol=1e-3)
    assert scaled[:, 0].min() == 0
    assert scaled[:, 0].max() == 1
    assert not scaled[:, 2:].any()


@pytest.mark.parametrize(("axis", "position"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
def test_slicing_and_back(axis, position):
    _, label = blob((5, 6, 7))
    recipe = Recipe(axis, classes=(2, 1))
    index = recipe.label_slices(label[None].astype(np.int32))
    assert index.shape[0] == (5, 6, 7)[position]
    plane = np.take(label, 3, axis=position)
    np.testing.assert_array_equal(index[3], np.choose(plane, [0, 2, 1]))
    np.testing.assert_array_equal(recipe.to_volume(index), label)
    along, *rest = recipe.slice_spacing((10.0, 11.0, 12.0))
    assert along == (10.0, 11.0, 12.0)[position]
    assert rest == [size for k, size in enumerate((10.0, 11.0, 12.0)) if k != position]


def test_labels_are_merged_or_chosen():
    label = np.array([0, 1, 2, 7, -1], np.int32).reshape(1, 1, 1, 5)
    assert Recipe("sagittal").label_slices(label).ravel().tolist() == [0, 1, 1, 1, 0]
    chosen = Recipe("sagittal", classes=(7, 2))
    assert chosen.label_slices(label).ravel().tolist() == [0, 0, 2, 1, 0]
    assert chosen.to_volume(np.array([[[0, 1, 2]]], np.uint8)).ravel().tolist() == [0, 7, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"axis": "up"},
        {"channels": ()},
        {"channels": (-1,)},
        {"channels": (0.5,)},
        {"channels": (True,)},
        {"classes": (1.5,)},
        {"classes": (0,)},
        {"classes": (1, 1)},
        {"classes": (256,)},
        {"percentiles": (50.0, 50.0)},
        {"percentiles": (0.0, 101.0)},
    ],
)
def test_wrong_recipes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Recipe(**wrong)


def test_recipe_survives_json():
    recipe = Recipe("axial", (1, 0), (3, 4), (1.0, 99.0))
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_automatic_axis_is_across_the_coarsest_direction(tmp_path):
    image, _ = blob()
    thick = write(tmp_path / "thick.nii.gz", image, affine_of("LSA", (0.5, 3.0, 0.5)))
    even = write(tmp_path / "even.nii.gz", image, affine_of("RAS", (1.0, 1.0, 1.2)))
    (tmp_path / "bad.nii.gz").write_bytes(b"x")
    assert sharpest_axis([thick, tmp_path / "bad.nii.gz"]) == "axial"  # stored second, runs upwards
    assert sharpest_axis([even]) == "coronal"
    data = Dataset((Pair("a", thick, thick),), ())
    assert recipe_for(TrainConfig(axis="auto"), data).axis == "axial"
    assert recipe_for(TrainConfig(axis="sagittal"), data).axis == "sagittal"


@pytest.mark.parametrize(
    ("shape", "axes", "axis"),
    [((35, 51, 1), "RAS", "axial"), ((35, 51), "RAS", "axial"), ((35, 51, 1), "PSR", "sagittal"),
     ((1, 35, 51), "RSA", "sagittal"), ((35, 1, 51), "RAS", "coronal")],
)  # fmt: skip
def test_flat_images_are_one_slice(tmp_path, shape, axes, axis):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    affine = affine_of(axes, (4.0, 1.0, 1.0))
    pair = Pair(
        "a",
        write(tmp_path / "a.nii.gz", image, affine),
        write(tmp_path / "l.nii.gz", (image > 0.5).astype("u1"), affine),
    )
    recipe = recipe_for(TrainConfig(), Dataset((pair,), ()))
    assert recipe.axis == axis
    images, labels = prepare(pair, recipe, tmp_path / "cache").read(slice(None))
    assert images.shape[:2] == (1, 1) and sorted(labels.shape[1:]) == [35, 51]


def test_slices_one_pixel_wide_are_refused(tmp_path):
    image = np.ones((35, 51, 1), np.uint8)
    pair = Pair("a", write(tmp_path / "a.nii.gz", image), write(tmp_path / "l.nii.gz", image))
    with pytest.raises(VolumeError) as error:
        load_volumes([pair], Recipe("coronal"), TrainConfig(cache=tmp_path, progress=False))
    assert f"{pair.image}: its coronal slices are 35x1 pixels, and 2 are needed each way" in str(error.value)


def test_cache_returns_what_the_recipe_makes_and_is_used_again(pairs, tmp_path):
    recipe = Recipe("axial", classes=(1, 2))
    volume = prepare(pairs[1], recipe, tmp_path / "cache")
    image, label = blob((11, 13, 9), seed=1)
    expected = recipe.image_slices(image[None])
    assert len(volume) == 9
    images, labels = volume.read(slice(None))
    np.testing.assert_array_equal(images.numpy(), expected.astype(np.float32))
    np.testing.assert_array_equal(labels.numpy(), np.moveaxis(label, 2, 0))
    one, _ = volume.read(4)
    torch.testing.assert_close(one, images[4:5], rtol=0, atol=0)
    assert volume.foreground == tuple(np.count_nonzero(label, axis=(0, 1)))
    assert volume.labels == (1, 2)

    os.utime(volume.path, ns=(1, 1))  # a clock's ticks can be longer than the test
    assert prepare(pairs[1], recipe, tmp_path / "cache") == volume
    assert volume.path.stat().st_mtime_ns == 1
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("damage", ["cut", "flip", "text", "empty"])
def test_damaged_cache_is_made_again(pairs, tmp_path, damage):
    volume = prepare(pairs[0], Recipe(), tmp_path)
    before = volume.path.read_bytes()
    broken = bytearray(before)
    broken[len(before) // 2] ^= 1
    changed = {"cut": before[:-7], "flip": bytes(broken), "text": b"text", "empty": b""}[damage]
    volume.path.write_bytes(changed)
    assert prepare(pairs[0], Recipe(), tmp_path) == volume
    assert volume.path.read_bytes() == before


def test_cache_follows_sources_and_recipe(pairs, tmp_path):
    first = prepare(pairs[0], Recipe(), tmp_path)
    assert prepare(pairs[0], Recipe(percentiles=(1.0, 99.0)), tmp_path).path != first.path
    image, _ = blob((10, 12, 9), seed=99)
    write(pairs[0].image, image)
    os.utime(pairs[0].image, ns=(1, 1))
    again = prepare(pairs[0], Recipe(), tmp_path)
    assert again.path != first.path
    assert again.checksum != first.checksum


def test_unusable_volumes_are_left_out_and_the_others_used(pairs, tmp_path):
    image, _ = blob()
    image[0] = np.nan
    write(pairs[1].image, image)
    volumes, (skipped,) = load_volumes(pairs, Recipe(), TrainConfig(cache=tmp_path, progress=False))
    assert [volume.name for volume in volumes] == [pairs[0].name, pairs[2].name]
    assert skipped.path == pairs[1].image and "NaN" in skipped.reason


def test_classes_that_occur_nowhere_are_refused(pairs, tmp_path):
    volumes, _ = load_volumes(pairs, Recipe(), TrainConfig(cache=tmp_path, progress=False))
    require_classes(volumes, Recipe(classes=(1, 2)))
    with pytest.raises(ValueError, match="no training label holds the value 3; they hold 1, 2"):
        require_classes(volumes, Recipe(classes=(1, 3)))


def test_labels_below_zero_and_blank_images_are_remarked_upon(tmp_path):
    data = write_set(tmp_path / "data", 3)
    image, label = blob()
    write(data / "imagesTr" / "case_1.nii.gz", np.full_like(image, 7), affine_of())
    write(data / "labelsTr" / "case_1.nii.gz", label.astype(np.int16) - 1, affine_of())
    pairs, _ = find_pairs(data / "imagesTr", data / "labelsTr")
    volumes, _ = load_volumes(pairs, Recipe(), TrainConfig(cache=tmp_path / "cache", progress=False))
    assert [volume.blank for volume in volumes] == [False, True, False]
    assert list(doubts(volumes)) == [
        "1 of 3 label maps hold values below 0, case_1 first; these are background",
        "1 of 3 images are the same everywhere, case_1 first; are these files right?",
    ]
    assert not list(doubts([volumes[0], volumes[2]]))


def test_split_is_by_volume_and_depends_on_seed_and_name_alone():
    split = split_volumes(NAMES, 0.25, seed=3)
    assert len(split[1]) == 5
    assert sorted(split[0] + split[1]) == NAMES
    assert split_volumes(NAMES[::-1], 0.25, seed=3) == split
    others = {split_volumes(NAMES, 0.25, seed=s)[1] for s in range(10)}
    assert len(others) == 10
    # A new volume moves at most one old one between the sides.
    grown = split_volumes([*NAMES, "new"], 5 / 21, seed=3)
    assert len(set(grown[1]) & set(split[1])) >= 4


def test_split_edges():
    assert split_volumes(NAMES, 0) == split_volumes(NAMES, 0, seed=5)
    assert split_volumes(NAMES, 0)[1] == ()
    assert len(split_volumes(NAMES[:2], 0.01)[1]) == 1
    assert len(split_volumes(NAMES[:2], 0.99)[0]) == 1
    with pytest.raises(ValueError, match="1 usable volume, which cannot be split"):
        split_volumes(NAMES[:1])
    with pytest.raises(ValueError, match=r"val_fraction=1\.0"):
        check_options(TrainConfig(val_fraction=1.0))


def test_split_from_lists(tmp_path):
    train, held_out = tmp_path / "train.txt", tmp_path / "val.txt"
    train.write_text("# mine\ncase_03\n\n  case_01  \n")
    held_out.write_text("case_07\n")
    both = split_volumes(NAMES, train_list=train, val_list=held_out)
    assert both == (("case_01", "case_03"), ("case_07",))
    assert split_volumes(NAMES, val_list=held_out)[0] == tuple(n for n in NAMES if n != "case_07")
    assert len(split_volumes(NAMES, train_list=train)[1]) == 18

    held_out.write_text("case_07\n", encoding="utf-8-sig")  # as Windows editors write it
    assert split_volumes(NAMES, train_list=train, val_list=held_out) == both

    held_out.write_text("case_01\n")
    with pytest.raises(ValueError, match="case_01 stands in the training list too"):
        split_volumes(NAMES, train_list=train, val_list=held_out)
    train.write_text("case_77\n")
    with pytest.raises(ValueError, match="names case_77, which is not among the usable volumes"):
        split_volumes(NAMES, train_list=train)
    with pytest.raises(ValueError, match="cannot be read"):
        split_volumes(NAMES, train_list=tmp_path / "none.txt")
    held_out.write_text("\n".join(NAMES))
    with pytest.raises(ValueError, match="leaves no volumes to train on"):
        split_volumes(NAMES, val_list=held_out)


def test_seeds_are_stable_and_distinct():
    assert mix("fire", 0, 1) == 1906347836024745768
    parts = [("a", 1), ("a", "1"), (1, "a"), ("a", 1, 1), ("a", 11), ("a/int:1",)]
    assert len({mix(*p) for p in parts}) == len(parts)
    assert all(0 <= mix("x", n) < 2**63 for n in range(100))


def _slices(pairs, folder, **options) -> TrainingData:
    volumes, _ = load_volumes(pairs, Recipe("axial"), TrainConfig(cache=folder, progress=False))
    return TrainingData(volumes, TrainConfig(scale=4, **options), classes=1)


class Order(Job):
    """The loop's order of so many samples."""

    def __init__(self, samples: int) -> None:
        self.samples = samples


def _batches(slices: TrainingData, epoch: int, size: int = 4, first: int = 0):
    plan = Order(len(slices)).plan(epoch, size, seed=0)
    return [slices.batch(epoch, step * size, plan[step]) for step in range(first, len(plan))]


def test_an_epoch_visits_every_slice_once_in_its_own_order(pairs, tmp_path):
    slices = _slices(pairs, tmp_path)
    assert len(slices) == 27
    assert Order(27).steps_per_epoch(4) == 7
    epochs = [_batches(slices, epoch) for epoch in (0, 0, 1)]
    assert [batch.image.shape[0] for batch in epochs[0]] == [4, 4, 4, 4, 4, 4, 3]

    def prints(batches):
        return [float(image.double().sum()) for batch in batches for image in batch.image]

    first, again, second = map(prints, epochs)
    assert first == again
    assert first != second
    assert sorted(first) == sorted(second)
    assert len(set(first)) == 27
    assert prints(_batches(slices, 0, first=5)) == first[20:]


def test_empty_slices_can_be_left_out(pairs, tmp_path):
    slices = _slices(pairs, tmp_path, skip_empty=True)
    assert 0 < len(slices) < 27
    assert all(batch.target.any() for batch in _batches(slices, 0, size=1))


def test_padding_is_marked_and_sizes_fit_the_coarse_level():
    small = (torch.full((2, 3, 6), 0.5), torch.ones(3, 6, dtype=torch.uint8))
    large = (torch.full((2, 5, 4), 0.5), torch.full((5, 4), 2, dtype=torch.uint8))
    batch = collate([small, large], classes=2, multiple=4)
    assert batch.image.shape == (2, 2, 8, 8)
    assert batch.target.shape == (2, 2, 8, 8)
    expected = torch.zeros(2, 1, 8, 8)
    expected[0, :, :3, :6] = 1
    expected[1, :, :5, :4] = 1
    assert torch.equal(batch.valid, expected)
    assert torch.equal(batch.image, 0.5 * expected.expand(2, 2, 8, 8))
    assert torch.equal(batch.target[0], torch.cat([expected[0], torch.zeros(1, 8, 8)]))
    assert torch.equal(batch.target[1], torch.cat([torch.zeros(1, 8, 8), expected[1]]))


def test_augmentation_moves_image_and_label_together():
    label = torch.arange(63, dtype=torch.uint8).reshape(7, 9)
    image = torch.stack([label.float(), -label.float()])
    seen = set()
    for number in range(40):
        cut, marks = augment(image, label, generator(number), crop=4, flip=True)
        assert marks.shape == (4, 4)
        assert torch.equal(cut, torch.stack([marks.float(), -marks.float()]))
        rows = torch.diff(marks.int(), dim=0)
        assert rows.abs().eq(9).all()
        seen.add((int(marks[0, 0]), bool(rows[0, 0] > 0), bool(marks[0, 1] > marks[0, 0])))
    assert {(down, right) for _, down, right in seen} == {(a, b) for a in (0, 1) for b in (0, 1)}
    assert len(seen) > 20
    whole, _ = augment(image, label, generator(0), crop=8, flip=False)
    assert whole.shape == (2, 7, 8)
    same, _ = augment(image, label, generator(0), crop=None, flip=False)
    assert torch.equal(same, image)


@pytest.mark.parametrize(("count", "size"), [(1, 16), (16, 16), (17, 16), (50, 16), (7, 1)])
def test_prediction_groups_cover_all_slices_evenly(count, size):
    parts = groups(count, size)
    assert sorted(index for part in parts for index in part) == list(range(count))
    lengths = [len(part) for part in parts]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
