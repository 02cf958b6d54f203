"""From cached volumes to training batches: order, augmentation and padding.

Slices of any size share a batch: they are padded with zeros at the bottom and on the right to a common size that the
coarse level divides, and `valid` tells the loss which pixels are real.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ncafast.models import MedNCA
from ncafast.tasks.mednca.cache import CachedVolume, prepare
from ncafast.tasks.mednca.matching import waivers
from ncafast.tasks.mednca.nifti import VolumeError
from ncafast.tasks.mednca.options import TrainConfig
from ncafast.tasks.mednca.pairs import Pair, Skipped
from ncafast.tasks.mednca.slices import Recipe
from ncafast.tasks.mednca.volumes import check_sides
from ncafast.train.split_files import held_out_by_chance, split_by_lists
from ncafast.utils.progress import say
from ncafast.utils.seeds import generator

_SHOWN = 8  # label values in one line


@dataclass(frozen=True, slots=True)
class Batch:
    """Slices padded to one size."""

    image: Tensor  # [B, C, H, W] float32
    target: Tensor  # [B, K, H, W] float32, one plane of 0 and 1 per class
    valid: Tensor  # [B, 1, H, W] float32, 0 where padded

    def logits(self, model: MedNCA, **options: Any) -> Tensor:
        """What the model says of it, [B, K, H, W]."""
        return model(self.image, **options)  # type: ignore[no-any-return]

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(self.image.to(device), self.target.to(device), self.valid.to(device))


def load_volumes(
    pairs: Sequence[Pair], recipe: Recipe, cache: Path, ignore_affine: bool = False, least: int = 1
) -> Iterator[CachedVolume | Skipped]:
    """Prepare pairs one by one; one that cannot be used, or has a side below ``least``, comes back as Skipped."""
    for pair in pairs:
        try:
            volume = prepare(pair, recipe, cache, ignore_affine)
            check_sides(pair.image, volume.shape, least)
            yield volume
        except VolumeError as error:
            yield Skipped(pair.image, str(error))


def load_sides(
    config: TrainConfig, recipe: Recipe, pairs: Sequence[Pair], unpaired: Sequence[Skipped], least: int = 1
) -> tuple[list[CachedVolume], list[CachedVolume], list[Skipped]]:
    """Training volumes, held-out volumes and the files that were left out."""
    skipped = list(unpaired)
    prepared = load_volumes(pairs, recipe, config.cache or config.output / "cache", config.ignore_affine, least)
    volumes = {}
    for item in tqdm(prepared, "preparing slices", len(pairs), unit="volume", disable=not config.progress):
        if isinstance(item, Skipped):
            skipped.append(item)
        else:
            volumes[item.name] = item
    for item in skipped:
        say(f"skipped: {item.reason}")
    if not volumes:
        raise ValueError(f"none of the {len(pairs)} pairs of image and label map can be used; see the lines above")
    names = split_volumes(sorted(volumes), config.val_fraction, config.seed, config.train_list, config.val_list)
    train, held_out = ([volumes[name] for name in side] for side in names)
    require_classes(train, recipe)
    for doubt in doubts(list(volumes.values()), None if config.merge_labels else recipe):
        say(f"note: {doubt}")
    return train, held_out, skipped


def split_volumes(
    names: Sequence[str],
    val_fraction: float = 0.2,
    seed: int = 0,
    train_list: Path | None = None,
    val_list: Path | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the volumes to train on and of those held out, each sorted, at random or as list files say.

    Slices of one volume never end up on both sides. With one list alone, the other side is everything else.

    Raises:
        ValueError: nothing is left to train on, or a list does not fit the names.
    """
    known = sorted(names)
    if train_list is not None or val_list is not None:
        train, held_out = split_by_lists(known, train_list, val_list, "volumes")
        return tuple(sorted(train)), tuple(sorted(held_out))
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction={val_fraction} is not allowed; give a number from 0 to below 1")
    if val_fraction == 0:
        return tuple(known), ()
    if len(known) < 2:
        raise ValueError(
            f"there is {len(known)} usable volume, which cannot be split by volume; "
            "add volumes, or train without measuring by --val-fraction 0"
        )
    held_out = held_out_by_chance(known, val_fraction, seed, least=1)
    return tuple(name for name in known if name not in held_out), tuple(sorted(held_out))


def require_classes(volumes: Sequence[CachedVolume], recipe: Recipe) -> None:
    """Raise ValueError if a class to learn occurs in none of the volumes."""
    found = {value for volume in volumes for value in volume.labels}
    missing = [value for value in recipe.classes if value not in found]
    if missing or not any(value > 0 for value in found):
        have = ", ".join(map(str, sorted(found))) or "only background (0)"
        name = f" ({recipe.name_of(missing[0])})" if missing and recipe.label_names else ""
        wanted = f"the value {missing[0]}{name}" if missing else "a value above 0"
        todo = "choose --classes among these" if found else "give label maps in which something is drawn"
        raise ValueError(f"no training label holds {wanted}; they hold {have}: {todo}")


def doubts(volumes: Sequence[CachedVolume], recipe: Recipe | None = None) -> Iterator[str]:
    """What can be used, but was hardly meant, one line each; with a recipe, also which label values it merges or leaves
    out."""
    below = [volume.name for volume in volumes if min(volume.labels, default=0) < 0]
    if below:
        yield f"{len(below)} of {len(volumes)} label maps hold values below 0, {below[0]} first; these are background"
    yield from waivers({volume.name: volume.waived for volume in volumes})
    values = sorted({value for volume in volumes for value in volume.labels if value > 0})
    if recipe is not None and not recipe.classes and len(values) > 1:
        shown = " ".join(map(str, values[:_SHOWN])) + (" ..." if len(values) > _SHOWN else "")
        yield f"the label maps hold {len(values)} values, {shown}, merged into one class; --classes tells them apart"
    unnamed = [value for value in values if recipe is not None and recipe.classes and value not in recipe.classes]
    if unnamed:
        shown = " ".join(map(str, unnamed[:_SHOWN])) + (" ..." if len(unnamed) > _SHOWN else "")
        yield f"the label maps also hold {shown}, which is not among the classes and counts as background"
    overlaps = [volume for volume in volumes if volume.overlap]
    if overlaps:
        first = f"{overlaps[0].name} first ({overlaps[0].overlap})"
        yield (
            f"masks overlap in {len(overlaps)} of {len(volumes)} cases, {first}; "
            "a voxel of several belongs to the last in the order of the structures"
        )
    blank = [volume.name for volume in volumes if volume.blank]
    if blank:
        yield f"{len(blank)} of {len(volumes)} images are the same everywhere, {blank[0]} first; are these files right?"


def pad_to(image: Tensor, height: int, width: int) -> Tensor:
    """[..., h, w] -> [..., height, width] with zeros at the bottom and on the right."""
    return F.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]))


def padded_size(size: int, multiple: int) -> int:
    """The next multiple."""
    return -(-size // multiple) * multiple


def collate(samples: Sequence[tuple[Tensor, Tensor]], classes: int, multiple: int) -> Batch:
    """Pad images [C, h, w] and class numbers [h, w] of different sizes into one batch."""
    height = padded_size(max(label.shape[0] for _, label in samples), multiple)
    width = padded_size(max(label.shape[1] for _, label in samples), multiple)
    numbers = torch.arange(1, classes + 1, dtype=torch.uint8)[:, None, None]
    images = [image for image, _ in samples]
    planes = [(label == numbers).float() for _, label in samples]
    valid = [torch.ones(1, *label.shape) for _, label in samples]
    return Batch(*(torch.stack([pad_to(item, height, width) for item in items]) for items in (images, planes, valid)))


class TrainingSlices:
    """All training slices, by number; `batch` pads some of them into one batch."""

    def __init__(
        self,
        volumes: Sequence[CachedVolume],
        *,
        classes: int,
        multiple: int,
        seed: int,
        skip_empty: bool = False,
        crop: int | None = None,
        flip: bool = False,
    ) -> None:
        self._places = [
            (volume, index)
            for volume in volumes
            for index, count in enumerate(volume.foreground)
            if count or not skip_empty
        ]
        if not self._places:
            raise ValueError("no training slice holds a label; leave --skip-empty out or check the labels")
        self._classes, self._multiple = classes, multiple
        self._seed, self._crop, self._flip = seed, crop, flip

    def __len__(self) -> int:
        return len(self._places)

    def batch(self, epoch: int, start: int, numbers: Sequence[int]) -> Batch:
        """The slices of these numbers, augmented as their epoch and their positions in it, from ``start`` on, say."""
        samples = [self._sample(epoch, start + k, number) for k, number in enumerate(numbers)]
        return collate(samples, self._classes, self._multiple)

    def _sample(self, epoch: int, position: int, place: int) -> tuple[Tensor, Tensor]:
        volume, index = self._places[place]
        images, labels = volume.read(index)
        dice = generator("augment", self._seed, epoch, position)
        return augment(images[0], labels[0], dice, self._crop, self._flip)


def augment(
    image: Tensor,  # [C, H, W]
    label: Tensor,  # [H, W]
    random: torch.Generator,
    crop: int | None,
    flip: bool,
) -> tuple[Tensor, Tensor]:
    """A random square of ``crop`` pixels (shorter sides stay whole), mirrored at random."""
    if crop is not None:
        for axis in (-2, -1):
            size = min(crop, label.shape[axis])
            start = int(torch.randint(label.shape[axis] - size + 1, (), generator=random))
            image, label = image.narrow(axis, start, size), label.narrow(axis, start, size)
    if flip:
        for axis in (-2, -1):
            if torch.rand((), generator=random) < 0.5:
                image, label = image.flip(axis), label.flip(axis)
    return image, label
