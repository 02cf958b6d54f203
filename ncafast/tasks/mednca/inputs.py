"""The cases among a model's input, a file or a folder, and the names of their results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ncafast.tasks.mednca import structures
from ncafast.tasks.mednca.agreement import check_channel_names
from ncafast.tasks.mednca.dataset_json import NAME, read_facts
from ncafast.tasks.mednca.modalities import Case, cases_of, ending, numbered, siblings
from ncafast.tasks.mednca.options import Suffix
from ncafast.tasks.mednca.pairs import holds_nifti, list_nifti
from ncafast.tasks.mednca.slices import Recipe
from ncafast.utils.progress import say


@dataclass(frozen=True, slots=True)
class Input:
    """One case to segment."""

    paths: tuple[Path, ...]
    target: str
    """File name of the label map."""
    problem: str = ""
    """Why it cannot be used, in one line; empty if nothing is wrong so far."""


def find_inputs(
    path: Path, recipe: Recipe, chosen: tuple[int, ...] | None = None, suffix: Suffix = "auto"
) -> list[Input]:
    """The cases of a folder, or the one that a file belongs to; prints a note on a decision that could be another one.

    Args:
        path: an image, or a folder of images or of TotalSegmentator's folders.
        recipe: of the model.
        chosen: channels to take in place of those that training took.
        suffix: what an ending such as _0001 means.

    Raises:
        ValueError: the folder holds no image, or a dataset.json beside it names other channels than the model's.
    """
    folder = path if path.is_dir() else path.parent
    for place in (folder, folder.resolve().parent):
        if recipe.channel_names and (place / NAME).is_file():
            check_channel_names(recipe, read_facts(place), chosen)
            break
    if not path.is_dir():
        return [_single(path, recipe, chosen, suffix)]
    if not holds_nifti(path) and (cases := structures.cases_in(path)):
        return [Input(case.paths, f"{case.name}{_type(case.paths[0])}") for case in cases]
    cases = cases_of(
        list_nifti(path), wanted=recipe.files, trained_on_numbers=recipe.numbered, suffix=suffix, note=_note
    )
    return [_input(case, recipe) for case in cases]


def _note(line: str) -> None:
    say(f"note: {line}")


def _single(path: Path, recipe: Recipe, chosen: tuple[int, ...] | None, suffix: Suffix) -> Input:
    """A file, with the other modalities of its case where the model takes several."""
    alone = Input((path,), path.name)
    case = siblings(path, list_nifti(path.parent)) if path.is_file() and suffix != "name" else None
    if case is None or (recipe.files == 1 and (chosen is not None or len(case.paths) == 1)):
        return alone
    if recipe.files > 1 or suffix == "modality":
        return _input(case, recipe)
    one = cases_of(case.paths, wanted=1, trained_on_numbers=recipe.numbered, suffix=suffix, note=lambda _: None)
    if len(one) > 1:  # they are a case each
        return alone
    if case.paths[0] == path:
        others = ", ".join(other.name for other in case.paths[1:])
        _note(f"{others} beside {path.name} is not used, since the model takes one image per case")
        return alone
    return _input(case, recipe)


def _input(case: Case, recipe: Recipe) -> Input:
    if len(case.paths) == 1 and (recipe.files == 1 or numbered(case.paths[0]) is None):
        return Input(case.paths, case.paths[0].name)
    problem = ""
    if case.missing:
        problem = f"{case.paths[0]}: its case has no {case.name}{ending(case.missing[0])}.nii.gz; add it"
    return Input(case.paths, f"{case.name}{_type(case.paths[0])}", problem)


def _type(path: Path) -> str:
    return ".nii" if path.name.lower().endswith(".nii") else ".nii.gz"
