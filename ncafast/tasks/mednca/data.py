"""What a training takes from a data set: channels and classes, by its dataset.json and the options, and the volumes to
train on and those held out, with doubts about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ncafast.nifti import VolumeError
from ncafast.tasks.mednca.cache import CachedVolume, prepare
from ncafast.tasks.mednca.layouts import Dataset
from ncafast.tasks.mednca.options import TrainConfig
from ncafast.tasks.mednca.pairs import Pair, Skipped
from ncafast.tasks.mednca.reading import waivers
from ncafast.tasks.mednca.slices import Recipe, sharpest_axis
from ncafast.tasks.mednca.volumes import check_sides, read_channels
from ncafast.tasks.skipping import each_usable
from ncafast.train.split_files import split
from ncafast.utils.option_checks import refused
from ncafast.utils.progress import note, say
from ncafast.utils.texts import listed


def recipe_for(config: TrainConfig, data: Dataset) -> Recipe:
    """The recipe of a training; notes say what was decided.

    Raises ValueError for options that do not fit the data set.
    """
    note(*data.decided())
    images = [pair.image for pair in data.pairs]
    channels = config.channels or _channels(data, images)
    classes = _classes(config, data)
    names = data.facts.channels
    known = len(names) > max(channels) and len(names) in (data.files, _count(images))
    recipe = Recipe(
        axis=sharpest_axis(images, config.geometry) if config.axis == "auto" else config.axis,
        channels=channels,
        classes=classes,
        percentiles=config.percentiles,
        several=data.files == 1 and any((read_channels(image) or 1) > 1 for image in images),
        geometry=config.geometry,
        files=data.files,
        numbered=data.numbered,
        channel_names=tuple(names[channel] for channel in channels) if known else (),
        label_names=_label_names(classes, data),
    )
    _check_states(config, recipe)
    return recipe


def _check_states(config: TrainConfig, recipe: Recipe) -> None:
    """Raise ValueError if the cells have too few channels for classes that the data set, not the user, names."""
    needed = len(recipe.channels) + len(recipe.values)
    if not config.classes and recipe.classes and needed > config.state_channels:
        raise refused(
            "state_channels",
            config.state_channels,
            f"{len(recipe.values)} classes and {len(recipe.channels)} image channels need {needed} and some more; "
            "give more, or learn fewer with --classes, --structures or --merge-labels",
        )


def _channels(data: Dataset, images: Sequence[Path]) -> tuple[int, ...]:
    """All files of a case, or all channels of 4-D images of which dataset.json names as many; otherwise the first."""
    if data.files > 1:
        return tuple(range(data.files))
    named = len(data.facts.channels)
    if named < 2:
        return (0,)
    if _count(images) == named:
        return tuple(range(named))
    raise ValueError(
        f"{data.facts.path}: names {named} channels ({', '.join(data.facts.channels)}), but {images[0]} has "
        f"{_count(images)} and nothing that ends in _0001 beside it; add the other files, or choose --channels 0"
    )


def _count(images: Sequence[Path]) -> int:
    """Channels of the images: those of the first that can be read."""
    return next((count for count in map(read_channels, images) if count is not None), 1)


def _classes(config: TrainConfig, data: Dataset) -> tuple[int, ...]:
    """The label values to tell apart; none merges all."""
    facts = data.facts
    if config.classes:
        for name, chosen in (("merge_labels", config.merge_labels), ("structures", bool(config.structures))):
            if chosen:
                raise ValueError(f"--classes and --{name.replace('_', '-')} contradict each other; give one of them")
        if facts.ignore is not None:
            note(f"the ignore label {facts.ignore} of {facts.path} counts as background")
        return config.classes
    if facts.ignore is not None:
        given = " ".join(str(value) for value, _ in facts.labels)
        raise ValueError(
            f"{facts.path}: names an ignore label, {facts.ignore}, whose voxels would have to be left out of the loss, "
            f"which is not supported; give --classes {given} to take them as background"
        )
    if config.merge_labels or len(data.labels) < 2:
        return ()
    values = tuple(value for value, _ in data.labels)
    if max(values) > 255:
        raise ValueError(f"{facts.path}: names the label value {max(values)}; choose --classes up to 255")
    each = listed([f"{value} {name}" for value, name in data.labels])
    origin = "masks" if data.structures else "labels that dataset.json names"
    other = "--structures chooses among them, " if data.structures else ""
    what = f"{len(values)} {origin} are learned as a class each: {each}"
    note(f"{what} ({other}--merge-labels makes them one)")
    if facts.regions:
        regions = f"the regions of dataset.json ({', '.join(facts.regions)})"
        note(f"{regions} are not learned as such, but the label values that they consist of")
    return values


def _label_names(classes: tuple[int, ...], data: Dataset) -> tuple[str, ...]:
    """A name for each class, if the data set names any of them."""
    names = dict(data.labels)
    if not classes:
        return tuple(names.values()) if len(names) == 1 else ()
    return tuple(names.get(value, f"label {value}") for value in classes) if names else ()


def load_sides(
    config: TrainConfig, recipe: Recipe, data: Dataset, least: int = 1
) -> tuple[list[CachedVolume], list[CachedVolume], list[Skipped]]:
    """Training volumes, held-out volumes and the files that were left out."""
    for item in data.skipped:
        say(f"skipped: {item.reason}")
    loaded, unusable = load_volumes(data.pairs, recipe, config, least)
    volumes = {volume.name: volume for volume in loaded}
    names = split_volumes(sorted(volumes), config.val_fraction, config.seed, config.train_list, config.val_list)
    train, held_out = ([volumes[name] for name in side] for side in names)
    require_classes(train, recipe)
    named = [value for value, _ in data.labels]
    note(*doubts(loaded, None if config.merge_labels else recipe), *_unknown_values(loaded, recipe, named))
    return train, held_out, [*data.skipped, *unusable]


def load_volumes(
    pairs: Sequence[Pair], recipe: Recipe, config: TrainConfig, least: int = 1
) -> tuple[list[CachedVolume], list[Skipped]]:
    """Prepare pairs, and leave out those that cannot be used, or have a side below ``least``; see `each_usable`."""

    def load(pair: Pair) -> CachedVolume:
        volume = prepare(pair, recipe, config.cache or config.output / "cache", config.ignore_affine)
        check_sides(pair.image, volume.shape, least)
        return volume

    volumes, skipped = each_usable(pairs, load, VolumeError, "preparing slices", config.progress)
    return volumes, [Skipped(pair.image, reason) for pair, reason in skipped]


def split_volumes(
    names: Sequence[str],
    val_fraction: float = 0.2,
    seed: int = 0,
    train_list: Path | None = None,
    val_list: Path | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the volumes to train on and of those held out; see `ncafast.train.split_files.split`.

    Slices of one volume never end up on both sides.
    """
    return split(names, "volumes", val_fraction, seed, train_list, val_list)


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
    """What can be used, but was hardly meant, one line each; with a recipe, also which label values it merges."""
    below = [volume.name for volume in volumes if min(volume.labels, default=0) < 0]
    if below:
        yield f"{len(below)} of {len(volumes)} label maps hold values below 0, {below[0]} first; these are background"
    yield from waivers({volume.name: volume.waived for volume in volumes})
    values = sorted({value for volume in volumes for value in volume.labels if value > 0})
    if recipe is not None and not recipe.classes and len(values) > 1:
        yield f"the label maps hold the values {listed(values)}, merged into one class; --classes tells them apart"
    overlaps = [volume for volume in volumes if volume.overlap]
    if overlaps:
        yield (
            f"masks overlap in {len(overlaps)} of {len(volumes)} cases, {overlaps[0].name} first "
            f"({overlaps[0].overlap}); a voxel of several belongs to the last in the order of the structures"
        )
    blank = [volume.name for volume in volumes if volume.blank]
    if blank:
        yield f"{len(blank)} of {len(volumes)} images are the same everywhere, {blank[0]} first; are these files right?"


def _unknown_values(volumes: Sequence[CachedVolume], recipe: Recipe, named: Sequence[int]) -> Iterator[str]:
    """One line on label values that are not to be told apart; where all are merged, on those that dataset.json does not
    name."""
    known = recipe.classes or named
    others = {volume.name: {value for value in volume.labels if value > 0} - {*known} for volume in volumes}
    holders = [name for name, values in others.items() if values]
    if known and holders:
        which = "are not among the classes" if recipe.classes else "dataset.json does not name"
        values = listed(sorted(set().union(*others.values())))
        become = "background" if recipe.classes else "foreground, as all labels are merged"
        yield (
            f"{len(holders)} of {len(volumes)} label maps hold values that {which} ({values}), {holders[0]} first; "
            f"these are {become}"
        )
