"""What is learned from a data set: which channels, and which label values as classes, by its dataset.json and the
options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ncafast.tasks.mednca.layouts import Dataset
from ncafast.tasks.mednca.options import TrainConfig
from ncafast.tasks.mednca.slices import Recipe, sharpest_axis
from ncafast.tasks.mednca.volumes import read_channels
from ncafast.utils.option_checks import refused
from ncafast.utils.progress import note
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
        given = " ".join(map(str, facts.values))
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
