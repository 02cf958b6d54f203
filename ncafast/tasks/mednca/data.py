"""The volumes of a training: prepared, split into those to train on and those held out, and doubts about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ncafast.tasks.mednca.cache import CachedVolume, prepare
from ncafast.tasks.mednca.nifti import VolumeError
from ncafast.tasks.mednca.options import TrainConfig
from ncafast.tasks.mednca.pairs import Pair, Skipped
from ncafast.tasks.mednca.reading import waivers
from ncafast.tasks.mednca.slices import Recipe
from ncafast.tasks.mednca.volumes import check_sides
from ncafast.tasks.skipping import each_usable
from ncafast.train.split_files import held_out_by_chance, split_by_lists
from ncafast.utils.progress import note, say
from ncafast.utils.texts import listed


def load_sides(
    config: TrainConfig, recipe: Recipe, pairs: Sequence[Pair], unpaired: Sequence[Skipped], least: int = 1
) -> tuple[list[CachedVolume], list[CachedVolume], list[Skipped]]:
    """Training volumes, held-out volumes and the files that were left out."""
    for item in unpaired:
        say(f"skipped: {item.reason}")
    cache = config.cache or config.output / "cache"
    loaded, unusable = load_volumes(pairs, recipe, cache, config.ignore_affine, least, config.progress)
    volumes = {volume.name: volume for volume in loaded}
    names = split_volumes(sorted(volumes), config.val_fraction, config.seed, config.train_list, config.val_list)
    train, held_out = ([volumes[name] for name in side] for side in names)
    require_classes(train, recipe)
    note(*doubts(loaded, None if config.merge_labels else recipe))
    return train, held_out, [*unpaired, *unusable]


def load_volumes(
    pairs: Sequence[Pair],
    recipe: Recipe,
    cache: Path,
    ignore_affine: bool = False,
    least: int = 1,
    progress: bool = False,
) -> tuple[list[CachedVolume], list[Skipped]]:
    """Prepare pairs, and leave out those that cannot be used, or have a side below ``least``; see `each_usable`."""

    def load(pair: Pair) -> CachedVolume:
        volume = prepare(pair, recipe, cache, ignore_affine)
        check_sides(pair.image, volume.shape, least)
        return volume

    volumes, skipped = each_usable(pairs, load, VolumeError, "preparing slices", progress)
    return volumes, [Skipped(pair.image, reason) for pair, reason in skipped]


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
    held_out: set[str] = set()
    if train_list is not None or val_list is not None:
        train, held_out = split_by_lists(sorted(names), train_list, val_list, "volumes")
        return tuple(sorted(train)), tuple(sorted(held_out))
    if val_fraction > 0:
        if len(names) < 2:
            raise ValueError(
                f"there is {len(names)} usable volume, which cannot be split by volume; "
                "add volumes, or train without measuring by --val-fraction 0"
            )
        held_out = held_out_by_chance(names, val_fraction, seed, least=1)
    return tuple(sorted(set(names) - held_out)), tuple(sorted(held_out))


def require_classes(volumes: Sequence[CachedVolume], recipe: Recipe) -> None:
    """Raise ValueError if a class to learn occurs in none of the volumes."""
    values = sorted({value for volume in volumes for value in volume.labels})
    missing = [value for value in recipe.classes if value not in values]
    if missing or not any(value > 0 for value in values):
        have = ", ".join(map(str, values)) or "only background (0)"
        name = f" ({recipe.name_of(missing[0])})" if missing and recipe.label_names else ""
        wanted = f"the value {missing[0]}{name}" if missing else "a value above 0"
        todo = "choose --classes among these" if values else "give label maps in which something is drawn"
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
        yield f"the label maps hold the values {listed(values)}, merged into one class; --classes tells them apart"
    unnamed = [value for value in values if recipe is not None and recipe.classes and value not in recipe.classes]
    if unnamed:
        yield f"the label maps also hold {listed(unnamed)}, which is not among the classes and counts as background"
    overlaps = [volume for volume in volumes if volume.overlap]
    if overlaps:
        yield (
            f"masks overlap in {len(overlaps)} of {len(volumes)} cases, {overlaps[0].name} first "
            f"({overlaps[0].overlap}); a voxel of several belongs to the last in the order of the structures"
        )
    blank = [volume.name for volume in volumes if volume.blank]
    if blank:
        yield f"{len(blank)} of {len(volumes)} images are the same everywhere, {blank[0]} first; are these files right?"
