"""Whether data are of the kind that a model was trained on, by the names of their channels and labels."""

from __future__ import annotations

from collections.abc import Iterator

from ncafast.tasks.mednca.dataset_json import Facts
from ncafast.tasks.mednca.layouts import Dataset
from ncafast.tasks.mednca.slices import Recipe


def check_channel_names(recipe: Recipe, facts: Facts, chosen: tuple[int, ...] | None) -> None:
    """Raise ValueError if dataset.json names other channels, or in another order, than the model was trained on.

    Chosen channels are not looked at: then the user says which they are.
    """
    if chosen is not None or not recipe.channel_names or not facts.channels:
        return
    wanted = [name.casefold() for name in recipe.channel_names]
    there = [name.casefold() for name in facts.channels]
    if [there[channel] for channel in recipe.channels if channel < len(there)] == wanted:
        return
    if all(name in there for name in wanted):
        todo = f"give --channels {' '.join(str(there.index(name)) for name in wanted)}"
    else:
        todo = "give --channels, if they are the same under other names"
    raise ValueError(
        f"{facts.path}: names the channels {', '.join(facts.channels)}, but the model was trained on "
        f"{', '.join(recipe.channel_names)}, in this order; {todo}"
    )


def check_dataset(recipe: Recipe, data: Dataset, chosen: tuple[int, ...] | None) -> None:
    """Raise ValueError if a data set has another number of image files per case, or other channels, than the model
    takes."""
    check_channel_names(recipe, data.facts, chosen)
    if chosen is None and data.files != recipe.files:
        raise ValueError(recipe.miscounted(data.pairs[0].images))


def doubts(recipe: Recipe, data: Dataset) -> Iterator[str]:
    """One line for the first label that has another name in the data set than in the model."""
    known = dict(data.labels)
    for value in recipe.values if recipe.label_names else ():
        name = known.get(value, "")
        if name and name.casefold() != recipe.name_of(value).casefold():
            yield f"label {value} is {name} in this data set, and {recipe.name_of(value)} in the model"
            return
